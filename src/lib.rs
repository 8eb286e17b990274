//! Portcullis, the whole product: both planes put together, the configuration, the command line.
//! This is the only crate that knows both planes, argv and the environment; it decides nothing
//! about requests or keys.

pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod files;
pub mod system;
pub mod telemetry;
