//! The control plane driven from outside: its public face, a real listener on port 0, a real
//! database file, and a clock that only moves when a test says so.

#![expect(clippy::panic, clippy::unwrap_used, reason = "in a test both are how it fails")]
#![expect(clippy::needless_pass_by_value, reason = "json!() is written where it is sent")]

mod access;
mod accounts;
mod agreement;
mod audit;
mod batch;
mod concurrency;
mod conventions;
mod document;
mod feed;
mod finality;
mod foreign;
mod groups;
mod harness;
mod idempotency;
mod keys;
mod large;
mod legacy;
mod lists;
mod model;
mod names;
mod operations;
mod organizations;
mod pair;
mod player;
mod policy;
mod races;
mod references;
mod resources;
mod roles;
mod security_policies;
mod sessions;
mod states;
mod storage;
mod transfer;
mod usage;
mod users;
mod withdrawal;
