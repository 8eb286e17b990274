//! `O/audit-events`: what was done, by whom, in a chain that shows any tampering.

pub(super) mod list;
pub(super) mod read;
pub(super) mod verify;
