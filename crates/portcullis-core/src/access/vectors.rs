//! The sixteen vectors of service-accounts.md 8.2, each by its number, and each checked twice: by
//! the definition and by the points a gateway walks.
//!
//! O is the organization; K1 and K2 are clusters under it (K3 is there from the start: a resource
//! without bindings is the same whether it is new or old). V views, M reads and writes, A is the
//! sticky owner. A group is one more subject whose roles add; the bindings of a disabled policy and
//! of a group that the account left or may not be in are absent.

use super::{
    BoundRole, BuiltinRole, Inheritance, Pattern, Permission, Tree, allows, effective,
    evaluate_points, narrowed, points,
};

struct Organization;

impl Tree for Organization {
    fn parent<'t>(&'t self, id: &str) -> Option<&'t str> {
        matches!(id, "K1" | "K2" | "K3").then_some("O")
    }
}

const V: &str = "viewer";
const M: &str = "member";
const A: &str = "owner";
const BOTH: [Inheritance; 2] = [Inheritance::Override, Inheritance::Union];
const OVERRIDE: [Inheritance; 1] = [Inheritance::Override];

/// "X@R".
fn at(role_id: &'static str, resource_id: &'static str) -> BoundRole<'static> {
    BoundRole {
        resource_id,
        role_id,
        sticky: BuiltinRole::find(role_id).expect("a built-in role").sticky,
        propagate: true,
    }
}

fn patterns(role_id: &str) -> Vec<Pattern> {
    let role = BuiltinRole::find(role_id).expect("a built-in role");
    role.permissions
        .iter()
        .map(|text| text.parse().expect("built-in permissions are patterns"))
        .collect()
}

/// The patterns on a resource: the union over the subjects of what each has there.
fn access(mode: Inheritance, subjects: &[&[BoundRole<'_>]], resource: &str) -> Vec<Pattern> {
    let mut found = Vec::new();
    for bindings in subjects {
        let by_definition = effective(mode, bindings, &Organization, resource);
        let resolved = points(mode, bindings, &Organization);
        let by_points = evaluate_points(&resolved, &Organization, resource);
        assert_eq!(by_definition, by_points, "{mode} at {resource}");
        found.extend(by_definition.into_iter().flat_map(patterns));
    }
    found
}

/// What the table's cells say, asked of a data type.
fn cell(held: &[Pattern]) -> &'static str {
    let may = |verb: &str| {
        let permission: Permission = format!("cluster:{verb}").parse().expect("a permission");
        allows(held, &permission)
    };
    match (may("read"), may("write"), may("anything")) {
        (false, false, false) => "∅",
        (true, false, false) => "read",
        (true, true, false) => "read, write",
        (true, true, true) => "*",
        other => unreachable!("no cell of the table is {other:?}"),
    }
}

fn check(modes: &[Inheritance], subjects: &[&[BoundRole<'_>]], expected: [(&str, &str); 2]) {
    for mode in modes {
        for (resource, wanted) in expected {
            let held = access(*mode, subjects, resource);
            assert_eq!(cell(&held), wanted, "{mode} at {resource}");
        }
    }
}

#[test]
fn vector_01_a_role_on_the_organization_is_inherited() {
    check(&OVERRIDE, &[&[at(V, "O")]], [("K1", "read"), ("K2", "read")]);
}

#[test]
fn vector_02_a_direct_role_raises() {
    check(&OVERRIDE, &[&[at(V, "O"), at(M, "K1")]], [("K1", "read, write"), ("K2", "read")]);
}

#[test]
fn vector_03_a_direct_role_lowers_under_override() {
    check(&OVERRIDE, &[&[at(M, "O"), at(V, "K1")]], [("K1", "read"), ("K2", "read, write")]);
}

#[test]
fn vector_04_a_direct_role_lowers_nothing_under_union() {
    check(
        &[Inheritance::Union],
        &[&[at(M, "O"), at(V, "K1")]],
        [("K1", "read, write"), ("K2", "read, write")],
    );
}

#[test]
fn vector_05_a_sticky_role_comes_through() {
    check(&OVERRIDE, &[&[at(A, "O"), at(V, "K1")]], [("K1", "*"), ("K2", "*")]);
}

#[test]
fn vector_06_groups_add() {
    check(
        &OVERRIDE,
        &[&[at(V, "K1")], &[at(M, "O")]],
        [("K1", "read, write"), ("K2", "read, write")],
    );
}

#[test]
fn vector_07_leaving_a_group_takes_what_it_gave() {
    check(&OVERRIDE, &[&[at(V, "K1")]], [("K1", "read"), ("K2", "∅")]);
}

#[test]
fn vector_08_the_nearest_level_is_found_per_subject() {
    check(
        &OVERRIDE,
        &[&[], &[at(V, "O")], &[at(M, "K1")]],
        [("K1", "read, write"), ("K2", "read")],
    );
}

#[test]
fn vector_09_the_nearest_level_decides_within_one_group() {
    check(&OVERRIDE, &[&[], &[at(M, "O"), at(V, "K1")]], [("K1", "read"), ("K2", "read, write")]);
}

#[test]
fn vector_10_revoking_the_direct_role_inherits_again() {
    check(&OVERRIDE, &[&[at(M, "O")]], [("K1", "read, write"), ("K2", "read, write")]);
}

#[test]
fn vector_11_the_direct_role_survives_the_inherited_one() {
    check(&OVERRIDE, &[&[at(M, "K1")]], [("K1", "read, write"), ("K2", "∅")]);
}

#[test]
fn vector_12_a_role_without_propagation_stays_on_the_organization() {
    let only_here = BoundRole { propagate: false, ..at(M, "O") };
    check(&BOTH, &[&[only_here]], [("K1", "∅"), ("K2", "∅")]);
    check(&BOTH, &[&[only_here]], [("O", "read, write"), ("K1", "∅")]);
}

#[test]
fn vector_13_a_disabled_policy_gives_nothing() {
    check(&BOTH, &[&[]], [("K1", "∅"), ("K2", "∅")]);
}

#[test]
fn vector_14_a_forbidden_group_gives_nothing() {
    let subjects_without_the_forbidden_group: [&[BoundRole<'_>]; 1] = [&[]];
    check(&BOTH, &subjects_without_the_forbidden_group, [("K1", "∅"), ("K2", "∅")]);
}

#[test]
fn vector_15_a_restricted_key_has_less_than_its_owner() {
    let restriction: [Pattern; 1] = ["*:read".parse().expect("a pattern")];
    for mode in BOTH {
        for resource in ["K1", "K2"] {
            let held = access(mode, &[&[at(M, "O")]], resource);
            assert_eq!(cell(&held), "read, write");
            assert_eq!(cell(&narrowed(&held, &restriction)), "read");
        }
    }
}

#[test]
fn vector_16_a_new_resource_is_covered() {
    check(&OVERRIDE, &[&[at(V, "O")]], [("K1", "read"), ("K3", "read")]);
}
