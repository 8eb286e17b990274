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
mod spec;
mod table;
#[cfg(test)]
mod table_properties;
#[cfg(test)]
mod table_tests;
mod target;

pub use host::{Host, HostPattern};
pub use pattern::MAX_CAPTURES;
pub use resource::{RESOURCE_BYTES, ResourceText};
pub use scan::Flaw;
pub use spec::{DEFAULT_METHODS, EncodedSlash, RouteError, RouteFault, RouteSpec};
pub use table::{Found, Lookup, RouteTable};
pub use target::{Ambiguous, Incoming, Odd, PathPolicy, RawTarget, Scheme, Target, TargetFault};
