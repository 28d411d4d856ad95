//! Issues that ask for work, in a dispatch repository.

pub mod grammar;
