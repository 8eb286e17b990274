//! The states of organizations, accounts and keys, and which operation leads where.
//!
//! | from | activate | deactivate | revoke | delete |
//! |---|---|---|---|---|
//! | active | unchanged | inactive | revoked | deleted |
//! | inactive | active | unchanged | revoked | deleted |
//! | revoked | refused: terminal | refused: terminal | unchanged | deleted |
//! | deleted | refused: deleted | refused: deleted | refused: deleted | refused: deleted |
//!
//! `Unchanged` means that the state asked for already holds: a success without a new version and
//! without a change in the feed. Whether a key has *expired* is orthogonal and never stored.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::Expiry;
use crate::time::WallMs;

/// What an operation did to a state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transition<S> {
    /// The state is now this one.
    Changed(S),
    /// The state asked for already held.
    Unchanged,
}

/// Why an operation is not possible in a state.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum TransitionRefused {
    /// The object is deleted: to callers it does not exist.
    #[error("it is deleted")]
    Deleted,
    /// The object is revoked, which is final; only deletion is left.
    #[error("it is revoked, which is final: all that can still be done is to delete it")]
    Terminal,
}

/// A stored or received text that names no state.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("a state is one of: {allowed}")]
pub struct UnknownState {
    allowed: &'static str,
}

/// Accounts and keys have the same states but are not to be mixed up, so each is a type of its own.
macro_rules! lifecycle {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            /// In use.
            Active,
            /// Gone; a tombstone remains so that the id is never used again.
            Deleted,
            /// Switched off, and can be switched on again.
            Inactive,
            /// Switched off for good, but still listed.
            Revoked,
        }

        impl $name {
            /// All states.
            pub const ALL: [$name; 4] =
                [$name::Active, $name::Deleted, $name::Inactive, $name::Revoked];

            /// The name in the API, the feed and the store.
            pub fn as_str(self) -> &'static str {
                match self {
                    $name::Active => "active",
                    $name::Deleted => "deleted",
                    $name::Inactive => "inactive",
                    $name::Revoked => "revoked",
                }
            }

            /// Switches it on.
            pub fn activate(self) -> Result<Transition<$name>, TransitionRefused> {
                self.switch($name::Active)
            }

            /// Switches it off until it is activated.
            pub fn deactivate(self) -> Result<Transition<$name>, TransitionRefused> {
                self.switch($name::Inactive)
            }

            /// Switches it off for good.
            pub fn revoke(self) -> Result<Transition<$name>, TransitionRefused> {
                match self {
                    $name::Active | $name::Inactive => Ok(Transition::Changed($name::Revoked)),
                    $name::Deleted => Err(TransitionRefused::Deleted),
                    $name::Revoked => Ok(Transition::Unchanged),
                }
            }

            /// Removes it. Deleting twice is refused: the second caller finds nothing.
            pub fn delete(self) -> Result<$name, TransitionRefused> {
                match self {
                    $name::Active | $name::Inactive | $name::Revoked => Ok($name::Deleted),
                    $name::Deleted => Err(TransitionRefused::Deleted),
                }
            }

            /// Whether other members (names, expiry, bindings) may still be changed.
            pub fn editable(self) -> Result<(), TransitionRefused> {
                match self {
                    $name::Active | $name::Inactive => Ok(()),
                    $name::Deleted => Err(TransitionRefused::Deleted),
                    $name::Revoked => Err(TransitionRefused::Terminal),
                }
            }

            fn switch(self, to: $name) -> Result<Transition<$name>, TransitionRefused> {
                self.editable()?;
                Ok(if self == to {
                    Transition::Unchanged
                } else {
                    Transition::Changed(to)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownState;

            fn from_str(text: &str) -> Result<$name, UnknownState> {
                $name::ALL
                    .into_iter()
                    .find(|state| state.as_str() == text)
                    .ok_or(UnknownState {
                        allowed: "active, deleted, inactive, revoked",
                    })
            }
        }
    };
}

lifecycle! {
    /// The state of a service account.
    AccountState
}

lifecycle! {
    /// The state of a key.
    KeyState
}

/// The state of an organization.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrgState {
    /// In use.
    Active,
    /// All its credentials are refused until it is resumed.
    Suspended,
}

impl OrgState {
    /// All states.
    pub const ALL: [OrgState; 2] = [OrgState::Active, OrgState::Suspended];

    /// The name in the API, the feed and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            OrgState::Active => "active",
            OrgState::Suspended => "suspended",
        }
    }
}

impl fmt::Display for OrgState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrgState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<OrgState, UnknownState> {
        OrgState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownState { allowed: "active, suspended" })
    }
}

/// Whether a key would be accepted at `now`, given a right secret: itself active and not expired,
/// its owner and organization active (invariant I-5).
pub fn usable(
    key: KeyState,
    expiry: Expiry,
    owner: AccountState,
    org: OrgState,
    now: WallMs,
) -> bool {
    key == KeyState::Active
        && !expiry.is_past(now)
        && owner == AccountState::Active
        && org == OrgState::Active
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::{AccountState, Expiry, KeyState, OrgState, Transition, TransitionRefused, usable};
    use crate::time::WallMs;

    type Step = Result<Transition<KeyState>, TransitionRefused>;

    #[test]
    fn every_operation_in_every_state_follows_the_table() {
        use KeyState::{Active, Deleted, Inactive, Revoked};
        use Transition::{Changed, Unchanged};
        let gone = || Err(TransitionRefused::Deleted);
        let terminal = || Err(TransitionRefused::Terminal);
        let table: [(KeyState, [Step; 4]); 4] = [
            (
                Active,
                [Ok(Unchanged), Ok(Changed(Inactive)), Ok(Changed(Revoked)), Ok(Changed(Deleted))],
            ),
            (
                Inactive,
                [Ok(Changed(Active)), Ok(Unchanged), Ok(Changed(Revoked)), Ok(Changed(Deleted))],
            ),
            (Revoked, [terminal(), terminal(), Ok(Unchanged), Ok(Changed(Deleted))]),
            (Deleted, [gone(), gone(), gone(), gone()]),
        ];
        for (from, expected) in table {
            let found =
                [from.activate(), from.deactivate(), from.revoke(), from.delete().map(Changed)];
            assert_eq!(found, expected, "from {from}");
        }
    }

    #[test]
    fn only_what_is_neither_revoked_nor_deleted_can_be_edited() {
        let found = AccountState::ALL.map(AccountState::editable);
        let expected =
            [Ok(()), Err(TransitionRefused::Deleted), Ok(()), Err(TransitionRefused::Terminal)];
        assert_eq!(found, expected);
    }

    #[test]
    fn names_of_states_are_read_back() {
        for state in AccountState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for state in KeyState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for state in OrgState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        let unknown = "disabled".parse::<KeyState>();
        assert_eq!(
            unknown.map_err(|fault| fault.to_string()),
            Err("a state is one of: active, deleted, inactive, revoked".to_owned())
        );
    }

    #[test]
    fn a_key_is_usable_in_exactly_one_combination_of_states() {
        let mut usable_ones = 0;
        for key in KeyState::ALL {
            for owner in AccountState::ALL {
                for org in OrgState::ALL {
                    if usable(key, Expiry::Never, owner, org, WallMs(1)) {
                        usable_ones += 1;
                    }
                }
            }
        }
        assert_eq!(usable_ones, 1);
        let at = |now| {
            let expiry = Expiry::At(WallMs(10));
            usable(KeyState::Active, expiry, AccountState::Active, OrgState::Active, WallMs(now))
        };
        assert_eq!([at(9), at(10), at(11)], [true, false, false]);
    }

    proptest! {
        /// I-7: whatever is tried, a revoked key stays revoked or is deleted, and a deleted one
        /// stays deleted.
        #[test]
        fn terminal_states_are_final(
            operations in proptest::collection::vec(select(&[0_u8, 1, 2, 3][..]), 0..30)
        ) {
            let mut state = KeyState::Active;
            for operation in operations {
                let before = state;
                let step = match operation {
                    0 => state.activate(),
                    1 => state.deactivate(),
                    2 => state.revoke(),
                    _ => state.delete().map(Transition::Changed),
                };
                if let Ok(Transition::Changed(next)) = step {
                    prop_assert!(next != before, "a change changes something");
                    state = next;
                }
                match before {
                    KeyState::Active | KeyState::Inactive => {}
                    KeyState::Deleted => prop_assert_eq!(state, KeyState::Deleted),
                    KeyState::Revoked => {
                        prop_assert!(matches!(state, KeyState::Revoked | KeyState::Deleted));
                    }
                }
            }
        }
    }
}
