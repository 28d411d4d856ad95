//! From a dispatch issue to one pull request.

mod crashes;
mod delegating;
mod failing;
mod grammar;
mod outcome;
mod place;
mod publishing;
mod storage;
mod trust;
mod workers;
