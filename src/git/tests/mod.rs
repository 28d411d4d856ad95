//! Each behaviour of this room against the real git, in repositories of its own.

mod attribution;
mod patches;
mod places;
mod refs;
mod standing;
mod support;
mod uncommitted;
mod work_tree;
