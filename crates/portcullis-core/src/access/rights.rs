//! What somebody has at one place: what is granted there, less what is denied. A difference of
//! pattern sets is no pattern set, so both are kept; nothing here knows about places.

use super::Permission;
use super::pattern::{Pattern, allows, narrowed};

/// Grants and denials that meet at one place. Denials win (service-accounts.md 8.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// What is granted, wherever it comes from.
    pub granted: Vec<Pattern>,
    /// What is taken away last.
    pub denied: Vec<Pattern>,
}

impl Rights {
    /// Whether the permission is granted and not denied.
    pub fn allow(&self, needed: &Permission) -> bool {
        allows(&self.granted, needed) && !allows(&self.denied, needed)
    }

    /// The grants of which anything is left, sorted; [`Rights::cuts`] says what else is missing.
    pub fn left(&self) -> Vec<Pattern> {
        let mut left: Vec<Pattern> = self
            .granted
            .iter()
            .filter(|pattern| !self.denied.iter().any(|denied| denied.covers_pattern(pattern)))
            .cloned()
            .collect();
        left.sort();
        left.dedup();
        left
    }

    /// What is denied of the grants that are left, sorted.
    pub fn cuts(&self) -> Vec<Pattern> {
        narrowed(&self.left(), &self.denied)
    }

    /// The grants and denials together with those of another source.
    pub fn add(&mut self, other: Rights) {
        self.granted.extend(other.granted);
        self.denied.extend(other.denied);
    }

    /// Whether somebody with these rights may let others come from `before` to `after`: they hold
    /// everything that is gained. Nobody grants more than they have (I-19).
    ///
    /// Gained is what was not granted before, and what is denied no longer: whoever lifts a denial
    /// must hold all that it denied, for it may have been granted from elsewhere.
    pub fn cover_gain(&self, before: &Rights, after: &Rights) -> bool {
        let is_in = |patterns: &[Pattern], one: &Pattern| {
            patterns.iter().any(|pattern| pattern.covers_pattern(one))
        };
        let granted = after.granted.iter().filter(|one| !is_in(&before.granted, one));
        let lifted = before.denied.iter().filter(|one| !is_in(&after.denied, one));
        granted.chain(lifted).filter(|gained| !is_in(&after.denied, gained)).all(|gained| {
            let missing = narrowed(std::slice::from_ref(gained), &self.denied);
            is_in(&self.granted, gained) && missing.iter().all(|one| is_in(&after.denied, one))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::Rights;
    use crate::access::{Pattern, Permission, allows};

    const TYPES: [&str; 3] = ["cluster", "project", "role"];
    const VERBS: [&str; 2] = ["read", "write"];

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn rights(granted: &[&str], denied: &[&str]) -> Rights {
        Rights { granted: patterns(granted), denied: patterns(denied) }
    }

    #[test]
    fn a_denial_wins_and_what_it_leaves_is_shown() {
        let both = rights(&["*:*", "role:read", "*:read"], &["cluster:*", "role:*"]);
        let may = |text: &str| both.allow(&text.parse().expect("a permission"));
        assert!(may("project:write") && !may("cluster:read") && !may("role:read"));
        assert_eq!(both.left(), patterns(&["*:*", "*:read"]));
        assert_eq!(both.cuts(), patterns(&["cluster:*", "cluster:read"]));
    }

    #[test]
    fn nobody_lifts_a_denial_of_what_they_do_not_have() {
        let before = rights(&["*:*"], &["cluster:write"]);
        let after = rights(&["*:*"], &[]);
        assert!(rights(&["*:*"], &[]).cover_gain(&before, &after));
        assert!(!rights(&["*:*"], &["cluster:*"]).cover_gain(&before, &after));
        assert!(!rights(&["*:read"], &[]).cover_gain(&before, &after));
        assert!(rights(&[], &[]).cover_gain(&after, &before));
        // What stays denied need not be held.
        let limited = rights(&["*:*"], &["cluster:write"]);
        assert!(limited.cover_gain(&rights(&[], &[]), &before));
        assert!(!limited.cover_gain(&rights(&[], &[]), &after));
    }

    fn some_patterns() -> impl Strategy<Value = Vec<Pattern>> {
        let one = (any::<u8>(), select(&TYPES[..]), select(&VERBS[..])).prop_map(|it| {
            let (shape, of_type, verb) = it;
            let text = match shape % 9 {
                0 => "**".to_owned(),
                1 => "*:*".to_owned(),
                2 | 3 => format!("*:{verb}"),
                4 | 5 => format!("{of_type}:*"),
                _ => format!("{of_type}:{verb}"),
            };
            text.parse().expect("a pattern")
        });
        proptest::collection::vec(one, 0..4)
    }

    fn any_rights() -> impl Strategy<Value = Rights> {
        (some_patterns(), some_patterns()).prop_map(|(granted, denied)| Rights { granted, denied })
    }

    fn universe() -> Vec<Permission> {
        let types = TYPES.into_iter().chain(["unnamed", "usage"]);
        types
            .flat_map(|of_type| {
                ["read", "write", "unnamed"].map(|verb| format!("{of_type}:{verb}"))
            })
            .map(|text| text.parse().expect("a permission"))
            .collect()
    }

    proptest! {
        #[test]
        fn a_covered_gain_gives_nobody_what_the_giver_lacks(
            giver in any_rights(), before in any_rights(), after in any_rights(),
            elsewhere in some_patterns(),
        ) {
            if giver.cover_gain(&before, &after) {
                for one in universe() {
                    // Even of somebody who is granted more by another source.
                    let had = (allows(&before.granted, &one) || allows(&elsewhere, &one))
                        && !allows(&before.denied, &one);
                    let has = (allows(&after.granted, &one) || allows(&elsewhere, &one))
                        && !allows(&after.denied, &one);
                    prop_assert!(had || !has || giver.allow(&one), "{}", one);
                }
            }
        }

        #[test]
        fn what_is_left_less_what_is_cut_is_what_is_allowed(rights in any_rights()) {
            let shown = Rights { granted: rights.left(), denied: rights.cuts() };
            for one in universe() {
                prop_assert_eq!(shown.allow(&one), rights.allow(&one), "{}", one);
            }
        }
    }
}
