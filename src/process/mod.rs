//! Processes: the only room that spawns. It knows no agent, task or repository.
//!
//! [`supervise`] holds one process tree under limits: a pure [`watchdog`] decides, one loop acts, a
//! `guard` watches the loop. [`containment`] holds the tree together and ends what is left of it,
//! [`trial`] tries whether that works here. [`command`] runs short helpers such as git, a [`budget`]
//! bounds several of them together. [`child`] starts a program beside this one, [`holder`] asks
//! whoever holds a lock to end. [`identity`] tells which process is meant, [`program`] finds a
//! program file, [`shutdown`] turns signals into values, [`limits`] tells what the system allows.

pub mod budget;
pub mod child;
pub mod command;
pub mod containment;
mod guard;
pub mod holder;
pub mod identity;
pub mod limits;
pub mod program;
mod ps;
pub mod shutdown;
pub mod supervise;
mod system;
pub mod trial;
pub mod watchdog;
