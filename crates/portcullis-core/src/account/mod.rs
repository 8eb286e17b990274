//! Accounts and their keys over time: states, expiry, rotation, and the rules for their names.
//!
//! Everything here is arithmetic on stored instants and small enums. This module never sees a
//! secret's value, never compares digests, and never decides what an account may do.

mod name;
mod secrets;
mod state;

pub use name::{DisplayName, KeyName, NAME_CHARACTERS, NameFault, Username};
pub use secrets::{
    Accepted, Expiry, ExpiryChange, ExpiryPast, KeySecrets, Previous, Retention, RetentionTooLong,
    RotateRefused, Rotation, age_days,
};
pub use state::{
    AccountState, KeyState, OrgState, Transition, TransitionRefused, UnknownState, usable,
};
