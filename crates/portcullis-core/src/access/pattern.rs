//! What a role or a restriction lists: a permission, or a wildcard over many.
//!
//! `*` as a type stands for all *data* types and never reaches the types that administer
//! Portcullis; only `**`, or naming the type, does. So `*:*` cannot grow into the right to mint
//! keys.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Permission, PermissionError, Word};

/// A set of permissions, as it is written in a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// `*:*`: every verb over every data type.
    AllData,
    /// `**`: every permission there is, management included.
    Everything,
    /// `cluster:*`: every verb over one type, be it data or management.
    OfType(Word),
    /// `cluster:read`: this permission alone.
    One(Permission),
    /// `*:read`: one verb over every data type.
    WithVerb(Word),
}

impl Pattern {
    /// Whether `needed` is in this set.
    ///
    /// | pattern | data type | management type |
    /// |---|---|---|
    /// | `**` | yes | yes |
    /// | `*:*` | yes | no |
    /// | `*:verb` | same verb | no |
    /// | `type:*` | same type | same type |
    /// | `type:verb` | both equal | both equal |
    pub fn covers(&self, needed: &Permission) -> bool {
        match self {
            Pattern::AllData => !needed.of_type().is_management_type(),
            Pattern::Everything => true,
            Pattern::OfType(of_type) => of_type == needed.of_type(),
            Pattern::One(permission) => permission == needed,
            Pattern::WithVerb(verb) => {
                verb == needed.verb() && !needed.of_type().is_management_type()
            }
        }
    }

    /// Whether every permission of `other`, now or in a later release, is in this set.
    ///
    /// `**` is covered by `**` alone and not by a sum of narrower patterns: the list of management
    /// types grows with releases, and a grant must not grow beyond its granter.
    pub fn covers_pattern(&self, other: &Pattern) -> bool {
        match other {
            Pattern::Everything => *self == Pattern::Everything,
            Pattern::AllData => matches!(self, Pattern::AllData | Pattern::Everything),
            Pattern::One(permission) => self.covers(permission),
            Pattern::OfType(of_type) => match self {
                Pattern::Everything => true,
                Pattern::AllData => !of_type.is_management_type(),
                Pattern::OfType(held) => held == of_type,
                Pattern::One(_) | Pattern::WithVerb(_) => false,
            },
            Pattern::WithVerb(verb) => match self {
                Pattern::AllData | Pattern::Everything => true,
                Pattern::WithVerb(held) => held == verb,
                Pattern::OfType(_) | Pattern::One(_) => false,
            },
        }
    }

    /// The permissions in both sets; `None` if there are none.
    fn intersection(&self, other: &Pattern) -> Option<Pattern> {
        if self.covers_pattern(other) {
            return Some(other.clone());
        }
        if other.covers_pattern(self) {
            return Some(self.clone());
        }
        // Neither contains the other: only a row and a column of the data types still cross.
        match (self, other) {
            (Pattern::OfType(of_type), Pattern::WithVerb(verb))
            | (Pattern::WithVerb(verb), Pattern::OfType(of_type))
                if !of_type.is_management_type() =>
            {
                Some(Pattern::One(Permission::new(of_type.clone(), verb.clone())))
            }
            _ => None,
        }
    }
}

/// Whether any of `patterns` covers `needed`.
pub fn allows(patterns: &[Pattern], needed: &Permission) -> bool {
    patterns.iter().any(|pattern| pattern.covers(needed))
}

/// Whether somebody who holds `held` may hand out `granted`: nobody grants more than they have
/// (invariant I-19).
pub fn covers_all(held: &[Pattern], granted: &[Pattern]) -> bool {
    granted.iter().all(|wanted| held.iter().any(|pattern| pattern.covers_pattern(wanted)))
}

/// The permissions in both `held` and `limit`: what is left of an access under a restriction.
///
/// The result is sorted, without duplicates, and covers a permission exactly if both inputs do.
pub fn narrowed(held: &[Pattern], limit: &[Pattern]) -> Vec<Pattern> {
    let mut left: Vec<Pattern> = held
        .iter()
        .flat_map(|one| limit.iter().filter_map(|other| one.intersection(other)))
        .collect();
    left.sort();
    left.dedup();
    left
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text == "**" {
            return Ok(Pattern::Everything);
        }
        let (of_type, verb) = text.split_once(':').ok_or(PermissionError::Shape)?;
        Ok(match (of_type, verb) {
            ("*", "*") => Pattern::AllData,
            ("*", verb) => Pattern::WithVerb(verb.parse()?),
            (of_type, "*") => Pattern::OfType(of_type.parse()?),
            (of_type, verb) => Pattern::One(Permission::new(of_type.parse()?, verb.parse()?)),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::AllData => f.write_str("*:*"),
            Pattern::Everything => f.write_str("**"),
            Pattern::OfType(of_type) => write!(f, "{of_type}:*"),
            Pattern::One(permission) => permission.fmt(f),
            Pattern::WithVerb(verb) => write!(f, "*:{verb}"),
        }
    }
}

/// Why a text is no pattern.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}; wildcards are `type:*`, `*:verb`, `*:*` and `**`")]
pub struct PatternError(#[from] PermissionError);

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::{Pattern, allows, covers_all, narrowed};
    use crate::access::{MANAGEMENT_TYPES, Permission};

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a pattern")
    }

    fn permission(text: &str) -> Permission {
        text.parse().expect("a permission")
    }

    #[test]
    fn wildcard_types_stop_at_management_types() {
        let cases = [
            // pattern, cluster:read, cluster:write, role:read, role:write
            ("**", [true, true, true, true]),
            ("*:*", [true, true, false, false]),
            ("*:read", [true, false, false, false]),
            ("cluster:*", [true, true, false, false]),
            ("cluster:read", [true, false, false, false]),
            ("role:*", [false, false, true, true]),
            ("role:read", [false, false, true, false]),
        ];
        for (text, expected) in cases {
            let found = ["cluster:read", "cluster:write", "role:read", "role:write"]
                .map(|needed| pattern(text).covers(&permission(needed)));
            assert_eq!(found, expected, "{text}");
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn texts_that_are_no_pattern_are_refused() {
        for text in
            ["", "*", "***", "*:**", "**:*", ":*", "*:", "a:b*", "a*:b", "* :*", "A:*", "*:*:*"]
        {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_admin_cannot_hand_out_everything() {
        let mut admin = vec![pattern("*:*")];
        for management in &MANAGEMENT_TYPES {
            admin.push(pattern(&format!("{}:*", management.name)));
        }
        assert!(!covers_all(&admin, &[pattern("**")]));
        assert!(covers_all(&admin, &[pattern("role:*"), pattern("*:x")]));
        assert!(covers_all(&admin, &[]));
    }

    const TYPES: [&str; 4] = ["cluster", "project", "role", "usage"];
    const VERBS: [&str; 3] = ["read", "write", "delete"];

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        (any::<u8>(), select(&TYPES[..]), select(&VERBS[..])).prop_map(|(shape, of_type, verb)| {
            pattern(&match shape % 9 {
                0 => "**".to_owned(),
                1 => "*:*".to_owned(),
                2 | 3 => format!("*:{verb}"),
                4 | 5 => format!("{of_type}:*"),
                _ => format!("{of_type}:{verb}"),
            })
        })
    }

    /// All permissions over the types and verbs above, one type and one verb that no pattern of
    /// [`any_pattern`] names, and all management types: enough to tell any two such sets apart.
    fn universe() -> Vec<Permission> {
        let types =
            TYPES.into_iter().chain(["unnamed"]).chain(MANAGEMENT_TYPES.iter().map(|t| t.name));
        types
            .flat_map(|of_type| {
                VERBS
                    .into_iter()
                    .chain(["unnamed"])
                    .map(move |verb| permission(&format!("{of_type}:{verb}")))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn covers_all_is_the_subset_relation(
            held in proptest::collection::vec(any_pattern(), 0..5),
            granted in proptest::collection::vec(any_pattern(), 0..4),
        ) {
            let subset = universe()
                .iter()
                .all(|one| !allows(&granted, one) || allows(&held, one));
            prop_assert_eq!(covers_all(&held, &granted), subset);
        }

        #[test]
        fn narrowed_is_the_intersection(
            held in proptest::collection::vec(any_pattern(), 0..5),
            limit in proptest::collection::vec(any_pattern(), 0..5),
        ) {
            let left = narrowed(&held, &limit);
            for one in universe() {
                prop_assert_eq!(
                    allows(&left, &one),
                    allows(&held, &one) && allows(&limit, &one),
                    "{}", one
                );
            }
            prop_assert!(covers_all(&held, &left) && covers_all(&limit, &left));
        }

        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in "[a-z*:_.]{0,8}") {
            if let Ok(parsed) = text.parse::<Pattern>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
