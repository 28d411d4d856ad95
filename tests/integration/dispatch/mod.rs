//! From a dispatch issue to one pull request.

mod crashes;
mod outcome;
mod place;
mod publishing;
mod storage;
mod workers;
