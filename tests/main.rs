//! The one integration binary: drives the true `portcullis` program through its public faces (argv, files, sockets)
//! in front of upstreams nobody here wrote.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

mod supply_chain;
mod support;
