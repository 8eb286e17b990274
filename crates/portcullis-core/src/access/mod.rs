//! Who may do what where: permissions, roles, and how bindings on the resource tree resolve.
//!
//! Two readings of the same bindings live here and must agree: [`effective`] is the definition of
//! service-accounts.md 8.1 written down word by word, [`points`] is what the feed carries to the
//! gateways, resolved ahead of time so that a request only walks from a resource to its root. This
//! module never decides whether a key is valid, and never knows about organizations or HTTP.

mod pattern;
mod permission;
mod resolve;
mod rights;
mod role;
#[cfg(test)]
mod vectors;

pub use pattern::{Pattern, PatternError, allows, covers_all, narrowed};
pub(crate) use permission::is_word;
pub use permission::{MANAGEMENT_TYPES, ManagementType, Permission, PermissionError, Word};
pub use resolve::{
    BoundRole, Inheritance, MAX_DEPTH, PointOf, Tree, UnknownInheritance, contributing, denials,
    effective, evaluate_points, points,
};
pub use rights::Rights;
pub use role::{BUILTIN_ROLES, BuiltinRole};
