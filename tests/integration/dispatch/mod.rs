//! From a dispatch issue to one pull request.

mod asking;
mod canary;
mod crashes;
mod delegating;
mod deleted;
mod failing;
mod grammar;
mod network;
mod outcome;
pub mod place;
mod policy;
mod publishing;
mod resting;
mod smoke;
mod storage;
mod trust;
mod weather;
mod workers;
