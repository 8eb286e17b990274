//! `O/roles`: the built-in roles.

pub(super) mod list;
pub(super) mod read;
