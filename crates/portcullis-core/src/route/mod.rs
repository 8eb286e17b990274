//! From a request's head to a route: the canonical target, the table that is searched with it, and
//! the resource it speaks of.
//!
//! The bytes that are matched here are the bytes that are forwarded; nothing decodes them again. A
//! target that can be read in two ways is refused, redirected or rewritten *before* anything looks
//! at it. This module never sees a credential and never decides who may pass.

mod host;
mod pattern;
mod resource;
mod scan;
mod table;
#[cfg(test)]
mod table_tests;
mod target;

pub use host::{Host, HostPattern};
pub use pattern::MAX_CAPTURES;
pub use resource::{RESOURCE_BYTES, ResourceText};
pub use scan::Flaw;
pub use table::{
    DEFAULT_METHODS, EncodedSlash, Found, Lookup, RouteError, RouteFault, RouteSpec, RouteTable,
};
pub use target::{
    Ambiguous, Incoming, OddSegments, PathPolicy, RawTarget, Scheme, Target, TargetFault,
};
