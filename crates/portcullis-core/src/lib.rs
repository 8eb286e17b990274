//! Pure decisions: keys, accounts, access, routes, the directory, verdicts and feed records.
//!
//! Nothing in this crate reads a clock, a random generator, a file or the environment, logs, sleeps
//! or spawns: time and chance are arguments, results are values. Both planes build on it.

pub mod access;
pub mod account;
pub mod directory;
pub mod entropy;
pub mod feed;
pub mod key;
pub mod route;
pub mod session;
pub mod time;
pub mod verdict;
