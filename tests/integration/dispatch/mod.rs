//! From a dispatch issue to one pull request.

mod asking;
mod canary;
mod delegating;
mod failing;
mod grammar;
mod place;
mod policy;
mod publishing;
mod trust;
mod weather;
