//! The data plane: verifies keys, forwards requests, follows the feed. It never opens a database,
//! never writes to a control plane and never asks anybody while it decides a request.
//!
//! [`bind`] checks [`Settings`] as a whole and opens every socket and nothing else; [`Bound::run`]
//! starts one thread per worker and the steward; [`GatewayHandle`] is what the rest of the process
//! may do with a running gateway.

mod gateway;
mod settings;
mod status;

pub use gateway::{BindError, Bound, GatewayHandle, Running, bind};
pub use settings::{
    Access, CredentialSource, CredentialSourceError, Fault, Feed, FeedToken, Headers, Identity,
    Keys, Limits, Listener, Log, OnStale, Records, Route, Settings, Timeouts, Underscore,
    UnknownResource, Upstream, UpstreamAddress,
};
pub use status::{
    Check, Explanation, FeedStatus, HeldRecord, KindCount, Question, RefusedRecord, Status,
};
