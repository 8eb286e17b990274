//! The one integration binary: drives the true `portcullis` program through its public faces (argv,
//! files, sockets) in front of upstreams nobody here wrote.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]
#![expect(clippy::print_stderr, reason = "a failing test shows the end of the program's log")]

mod admin_api;
mod admin_listener;
mod audit;
mod bad_input;
mod balancing;
mod claims;
mod cli;
mod cli_bulk;
mod client;
mod denials;
mod feed;
mod file_mode;
mod foreign;
mod forms;
mod fuzz;
mod headers;
mod lifecycle;
mod observability;
mod outage;
mod paths;
mod positions;
mod reload;
mod streams;
mod supply_chain;
mod support;
mod tour;
mod traces;
mod up;
mod usage;
mod walkthroughs;
