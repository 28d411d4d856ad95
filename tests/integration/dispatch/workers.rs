//! Many workers.
