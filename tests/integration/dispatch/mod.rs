//! From a dispatch issue to one pull request.

mod place;
mod publishing;
