//! From bindings on the resource tree to roles on one resource (service-accounts.md 8.1).
//!
//! All functions look at *one subject*: a service account, a user, or one group. What a subject's
//! groups add is a union that the caller takes, so that a direct binding can never reduce what a
//! group gives. Disabled bindings and roles that the subject may not have are left out beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The deepest resource: steps from it to the root. A longer chain, such as a cycle in a broken
/// store, is cut off here; what lies beyond grants nothing.
pub const MAX_DEPTH: usize = 16;

/// How bindings at several levels of the tree combine.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inheritance {
    /// The nearest level that has a binding decides alone; sticky roles come through.
    Override,
    /// All levels add up.
    Union,
}

impl Inheritance {
    /// The name in an organization's policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Inheritance::Override => "override",
            Inheritance::Union => "union",
        }
    }
}

impl fmt::Display for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Inheritance {
    type Err = UnknownInheritance;

    fn from_str(text: &str) -> Result<Inheritance, UnknownInheritance> {
        match text {
            "override" => Ok(Inheritance::Override),
            "union" => Ok(Inheritance::Union),
            _ => Err(UnknownInheritance),
        }
    }
}

/// A text that names no way of inheriting.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("inheritance is `override` or `union`")]
pub struct UnknownInheritance;

/// One enabled binding of the subject: this role at this resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundRole<'a> {
    /// Where it is bound.
    pub resource_id: &'a str,
    /// What is bound.
    pub role_id: &'a str,
    /// Whether the role survives nearer bindings under `override`.
    pub sticky: bool,
    /// Whether it reaches the resources below.
    pub propagate: bool,
}

/// The resource tree of one organization.
pub trait Tree {
    /// The parent of a resource; `None` for the root and for what is not in the tree.
    fn parent<'t>(&'t self, id: &str) -> Option<&'t str>;
}

/// What a subject has at `at` itself and at everything below it that no deeper point covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointOf<'a> {
    /// The resource.
    pub at: &'a str,
    /// Role ids at this resource, sorted.
    pub self_: Vec<&'a str>,
    /// Role ids at the resources below, sorted.
    pub below: Vec<&'a str>,
}

/// The points of one subject, sorted by resource: one for each resource that has a binding.
///
/// Walking from any resource to the root, the first point met gives the same roles as
/// [`effective`] (gateway.md 7.3). That holds because a resource without bindings inherits exactly
/// what an unbound child of its nearest bound ancestor has, and that is this ancestor's `below`.
pub fn points<'a>(
    inheritance: Inheritance,
    bindings: &[BoundRole<'a>],
    tree: &impl Tree,
) -> Vec<PointOf<'a>> {
    let mut bound_at: BTreeMap<&str, Vec<BoundRole<'a>>> = BTreeMap::new();
    for binding in bindings {
        bound_at.entry(binding.resource_id).or_default().push(*binding);
    }
    let levels_from = |at: &'a str| -> Vec<&[BoundRole<'a>]> {
        path_to_root(tree, at).filter_map(|level| bound_at.get(level).map(Vec::as_slice)).collect()
    };

    let mut found = Vec::with_capacity(bound_at.len());
    let places: BTreeSet<&'a str> = bindings.iter().map(|binding| binding.resource_id).collect();
    for at in places {
        let levels = levels_from(at);
        let reaching_children: Vec<Vec<BoundRole<'a>>> = levels
            .iter()
            .map(|level| level.iter().copied().filter(|b| b.propagate).collect())
            .collect();
        let reaching_itself: Vec<Vec<BoundRole<'a>>> = levels
            .first()
            .map(|own| own.to_vec())
            .into_iter()
            .chain(reaching_children.iter().skip(1).cloned())
            .collect();
        found.push(PointOf {
            at,
            self_: combine(inheritance, &reaching_itself),
            below: combine(inheritance, &reaching_children),
        });
    }
    found
}

/// The points of denial of one subject: what any of its roles denies at any level is denied, so
/// nothing overrides it and all levels add up, whatever the way of inheriting.
pub fn denials<'a>(bindings: &[BoundRole<'a>], tree: &impl Tree) -> Vec<PointOf<'a>> {
    points(Inheritance::Union, bindings, tree)
}

/// The sorted role ids that remain of the bindings per level, nearest level first.
fn combine<'a>(inheritance: Inheritance, levels: &[Vec<BoundRole<'a>>]) -> Vec<&'a str> {
    let nearest = levels.iter().position(|level| !level.is_empty());
    let remaining: BTreeSet<&str> = levels
        .iter()
        .enumerate()
        .flat_map(|(distance, level)| level.iter().map(move |binding| (distance, binding)))
        .filter(|(distance, binding)| match inheritance {
            Inheritance::Override => binding.sticky || Some(*distance) == nearest,
            Inheritance::Union => true,
        })
        .map(|(_, binding)| binding.role_id)
        .collect();
    remaining.into_iter().collect()
}

/// The roles of one subject on one resource, straight from the definition: slow and obviously
/// right. Tests hold [`points`] against it, and `explain` shows its steps.
pub fn effective<'a>(
    inheritance: Inheritance,
    bindings: &[BoundRole<'a>],
    tree: &impl Tree,
    resource: &str,
) -> BTreeSet<&'a str> {
    contributing(inheritance, bindings, tree, resource)
        .into_iter()
        .map(|binding| binding.role_id)
        .collect()
}

/// The bindings that give a subject its roles on one resource, nearest first.
///
/// With up(R) = R, its parent, …, the root, and B(A, R) = the bindings at A with `propagate`, or
/// A = R:
/// - union: all of B(A, R) for A in up(R);
/// - override: B(A, R) for the first A in up(R) where that is not empty, and every sticky role of
///   B(A, R) for A in up(R).
pub fn contributing<'a>(
    inheritance: Inheritance,
    bindings: &[BoundRole<'a>],
    tree: &impl Tree,
    resource: &str,
) -> Vec<BoundRole<'a>> {
    let up: Vec<&str> = path_to_root(tree, resource).collect();
    let reaches = |binding: &BoundRole<'_>, level: &str| {
        binding.resource_id == level && (binding.propagate || level == resource)
    };
    let near = up.iter().find(|level| bindings.iter().any(|binding| reaches(binding, level)));

    let mut chosen = Vec::new();
    for level in &up {
        for binding in bindings.iter().filter(|binding| reaches(binding, level)) {
            let counts = match inheritance {
                Inheritance::Override => binding.sticky || Some(level) == near,
                Inheritance::Union => true,
            };
            if counts {
                chosen.push(*binding);
            }
        }
    }
    chosen
}

/// What the gateway makes of points: walk from the resource to the root, the first point met
/// decides, with `self_` at the resource itself and `below` further up.
pub fn evaluate_points<'a>(
    points: &[PointOf<'a>],
    tree: &impl Tree,
    resource: &str,
) -> BTreeSet<&'a str> {
    for level in path_to_root(tree, resource) {
        if let Some(point) = points.iter().find(|point| point.at == level) {
            let roles = if level == resource { &point.self_ } else { &point.below };
            return roles.iter().copied().collect();
        }
    }
    BTreeSet::new()
}

/// `from`, its parent, and so on to the root.
fn path_to_root<'t>(tree: &'t impl Tree, from: &'t str) -> impl Iterator<Item = &'t str> {
    std::iter::successors(Some(from), |id| tree.parent(id)).take(MAX_DEPTH + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

    use super::{BoundRole, Inheritance, PointOf, Tree, effective, evaluate_points, points};

    /// Child to parent.
    struct Parents(BTreeMap<String, String>);

    impl Tree for Parents {
        fn parent<'t>(&'t self, id: &str) -> Option<&'t str> {
            self.0.get(id).map(String::as_str)
        }
    }

    /// A role bound on resource number `at`, picked from few roles so that they collide.
    #[derive(Clone, Debug)]
    struct Drawn {
        at: usize,
        role: usize,
        propagate: bool,
    }

    /// Even roles are sticky: stickiness belongs to the role and not to the binding.
    const ROLES: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];

    fn tree_and_bindings() -> impl Strategy<Value = (Vec<usize>, Vec<Drawn>)> {
        (1_usize..14).prop_flat_map(|size| {
            // The parent of resource n + 1 is any resource before it: every tree can be drawn.
            let parents = (1..size).map(|n| 0..n).collect::<Vec<_>>();
            let drawn = (0..size, 0..ROLES.len(), any::<bool>())
                .prop_map(|(at, role, propagate)| Drawn { at, role, propagate });
            (parents, proptest::collection::vec(drawn, 0..12))
        })
    }

    proptest! {
        #[test]
        fn walking_points_gives_what_the_definition_gives(
            (parents, drawn) in tree_and_bindings()
        ) {
            let names: Vec<String> = (0..=parents.len()).map(|n| format!("x{n}")).collect();
            let tree = Parents(
                parents
                    .iter()
                    .enumerate()
                    .map(|(n, parent)| (names[n + 1].clone(), names[*parent].clone()))
                    .collect(),
            );
            let bindings: Vec<BoundRole<'_>> = drawn
                .iter()
                .map(|one| BoundRole {
                    resource_id: &names[one.at],
                    role_id: ROLES[one.role],
                    sticky: one.role % 2 == 0,
                    propagate: one.propagate,
                })
                .collect();
            for inheritance in [Inheritance::Override, Inheritance::Union] {
                let resolved = points(inheritance, &bindings, &tree);
                for name in &names {
                    prop_assert_eq!(
                        evaluate_points(&resolved, &tree, name),
                        effective(inheritance, &bindings, &tree, name),
                        "{} at {}", inheritance, name
                    );
                }
            }
        }
    }

    #[test]
    fn a_role_without_propagation_hides_nothing_from_the_resources_below() {
        let tree = Parents(BTreeMap::from([("k".to_owned(), "o".to_owned())]));
        let bindings = [
            BoundRole { resource_id: "o", role_id: "viewer", sticky: false, propagate: true },
            BoundRole { resource_id: "k", role_id: "member", sticky: false, propagate: false },
        ];
        let resolved = points(Inheritance::Override, &bindings, &tree);
        let expected = [
            PointOf { at: "k", self_: vec!["member"], below: vec!["viewer"] },
            PointOf { at: "o", self_: vec!["viewer"], below: vec!["viewer"] },
        ];
        assert_eq!(resolved, expected);
    }

    #[test]
    fn points_do_not_depend_on_the_order_or_number_of_equal_bindings() {
        let tree = Parents(BTreeMap::new());
        let one = |role_id| BoundRole { resource_id: "o", role_id, sticky: false, propagate: true };
        let forward = points(Inheritance::Union, &[one("a"), one("b")], &tree);
        let backward = points(Inheritance::Union, &[one("b"), one("a"), one("b")], &tree);
        assert_eq!(forward, backward);
    }

    #[test]
    fn a_cycle_in_the_tree_ends_the_walk() {
        let tree = Parents(BTreeMap::from([
            ("a".to_owned(), "b".to_owned()),
            ("b".to_owned(), "a".to_owned()),
        ]));
        let bindings = [BoundRole {
            resource_id: "elsewhere",
            role_id: "owner",
            sticky: true,
            propagate: true,
        }];
        assert!(effective(Inheritance::Union, &bindings, &tree, "a").is_empty());
        let resolved = points(Inheritance::Union, &bindings, &tree);
        assert!(evaluate_points(&resolved, &tree, "a").is_empty());
    }

    #[test]
    fn inheritance_is_named_as_in_the_policy() {
        for mode in [Inheritance::Override, Inheritance::Union] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert!("Union".parse::<Inheritance>().is_err());
    }
}
