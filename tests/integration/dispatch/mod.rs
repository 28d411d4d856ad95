//! From a dispatch issue to one pull request.

mod delegating;
mod failing;
mod grammar;
pub mod place;
mod publishing;
mod trust;
