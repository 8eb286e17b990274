//! The data plane: verifies keys, forwards requests, follows the feed. It never opens a database,
//! never writes to a control plane and never asks anybody while it decides a request.
//!
//! [`bind`] checks [`Settings`] as a whole and opens every socket and nothing else; [`Bound::run`]
//! starts one thread per worker and the steward; [`GatewayHandle`] is what the rest of the process
//! may do with a running gateway.
//!
//! A request's way, in the order of the modules it passes: `listener`, `connection`, `stream`,
//! `request` (the story), `credential`, `forward`, `head`, `upstream`, `pool`, `upstream_stream`,
//! `body`, `record`. `respond` has every answer of our own. `subscriber` keeps the directory up to
//! date.

mod body;
mod connection;
mod credential;
mod explain;
mod failures;
mod feed_client;
mod forward;
mod gateway;
mod head;
mod listener;
mod memory;
mod metrics;
mod outcome;
mod phase;
mod plan;
mod pool;
mod record;
mod reload;
mod request;
mod request_id;
mod respond;
mod settings;
mod setup;
mod shared;
mod sink;
mod slow;
mod snapshot;
mod status;
mod steward;
mod stream;
mod subscriber;
mod template;
mod trace;
mod upstream;
mod upstream_stream;
mod usage;
mod usage_report;
mod way;
mod worker;

pub use gateway::{BindError, Bound, GatewayHandle, Running, bind, check};
pub use reload::ReloadError;
pub use settings::{
    Access, CredentialSource, CredentialSourceError, ErrorBody, ErrorTemplate, Failures, Fault,
    Feed, FeedToken, Headers, Identity, Keys, Limits, Listener, Log, OnStale, Records, Route,
    Settings, Spellings, Timeouts, Underscore, UnknownResource, Upstream, UpstreamAddress,
};
pub use status::{
    Check, Explanation, FeedStatus, HeldRecord, KindCount, Question, RefusedRecord, Status,
    UpstreamAddressStatus, UpstreamStatus,
};

/// The body of the fuzz target `credential`; only in builds for fuzzing.
#[cfg(fuzzing)]
pub fn fuzz_credential(data: &[u8]) {
    credential::fuzz::body(data);
}

#[cfg(test)]
mod tests;
