//! The stage on which the integration tests play: the true binary on port 0, real upstreams, an
//! HTTP client that can also send what no client should, and waiting for states. Nothing here
//! sleeps except [`wait`], and nothing here knows more about Portcullis than its public faces:
//! argv, files, sockets.

pub(crate) mod admin;
pub(crate) mod http;
pub(crate) mod operator;
pub(crate) mod portcullis;
pub(crate) mod snapshot;
pub(crate) mod stage;
pub(crate) mod upstream;
pub(crate) mod wait;
