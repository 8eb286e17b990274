//! The roles that every organization has and nobody can change (service-accounts.md 4.1).

/// A built-in role.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BuiltinRole {
    /// Its id, which is also its name in the API, the CLI and the feed.
    pub id: &'static str,
    /// What a console shows.
    pub label: &'static str,
    /// One sentence on whom it is for.
    pub description: &'static str,
    /// What it permits, as patterns.
    pub permissions: &'static [&'static str],
    /// Whether a nearer binding cannot take it away under `override` inheritance.
    pub sticky: bool,
    /// Its place in the order of power, for display only; never compared in a decision.
    pub level: u8,
    /// The kinds of resource it can be bound on.
    pub binding_kinds: &'static [&'static str],
    /// Whether a binding may reach the resources below; if not, every binding of this role has
    /// `propagate = false`.
    pub propagates: bool,
}

impl BuiltinRole {
    /// The built-in role with this id.
    pub fn find(id: &str) -> Option<&'static BuiltinRole> {
        BUILTIN_ROLES.iter().find(|role| role.id == id)
    }
}

const ANY_KIND: &[&str] = &["cluster", "custom", "organization", "project", "workspace"];

/// All built-in roles, from the strongest to the weakest.
pub static BUILTIN_ROLES: [BuiltinRole; 8] = [
    BuiltinRole {
        id: "owner",
        label: "Owner",
        description: "Everything, including the organization itself.",
        permissions: &["**"],
        sticky: true,
        level: 100,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "admin",
        label: "Admin",
        description: "Everything except changing the organization and removing gateways.",
        permissions: &[
            "*:*",
            "access:*",
            "api_key:*",
            "audit_event:*",
            "credential:*",
            "gateway:read",
            "group:*",
            "group_member:*",
            "organization:read",
            "resource:*",
            "role:*",
            "role_binding:*",
            "security_policy:*",
            "service_account:*",
            "usage:*",
            "user:*",
        ],
        sticky: true,
        level: 90,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "manager",
        label: "Manager",
        description: "All data of one part of the tree, and who has access to it.",
        permissions: &["*:*", "role_binding:*"],
        sticky: false,
        level: 70,
        binding_kinds: &["cluster", "project", "workspace"],
        propagates: true,
    },
    BuiltinRole {
        id: "member",
        label: "Member",
        description: "Reads and writes data.",
        permissions: &["*:read", "*:write"],
        sticky: false,
        level: 50,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "executor",
        label: "Executor",
        description: "Reads data and runs what is there.",
        permissions: &["*:execute", "*:read"],
        sticky: false,
        level: 40,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "analyst",
        label: "Analyst",
        description: "Reads data and usage figures.",
        permissions: &["*:read", "usage:read"],
        sticky: false,
        level: 30,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "viewer",
        label: "Viewer",
        description: "Reads data.",
        permissions: &["*:read"],
        sticky: false,
        level: 20,
        binding_kinds: ANY_KIND,
        propagates: true,
    },
    BuiltinRole {
        id: "org_member",
        label: "Organization member",
        description: "Sees that the organization exists, and nothing below it.",
        permissions: &["organization:read"],
        sticky: false,
        level: 10,
        binding_kinds: &["organization"],
        propagates: false,
    },
];

#[cfg(test)]
mod tests {
    use super::{BUILTIN_ROLES, BuiltinRole};
    use crate::access::{MANAGEMENT_TYPES, Pattern, Permission, allows};

    fn patterns(id: &str) -> Vec<Pattern> {
        let role = BuiltinRole::find(id).expect("a built-in role");
        role.permissions
            .iter()
            .map(|text| text.parse().expect("built-in permissions are patterns"))
            .collect()
    }

    #[test]
    fn every_permission_of_every_role_is_a_pattern() {
        for role in &BUILTIN_ROLES {
            assert!(!patterns(role.id).is_empty());
        }
        assert_eq!(BuiltinRole::find("root"), None);
    }

    #[test]
    fn levels_fall_from_owner_to_organization_member() {
        let levels: Vec<u8> = BUILTIN_ROLES.iter().map(|role| role.level).collect();
        assert_eq!(levels, [100, 90, 70, 50, 40, 30, 20, 10]);
        let sticky: Vec<&str> =
            BUILTIN_ROLES.iter().filter(|role| role.sticky).map(|role| role.id).collect();
        assert_eq!(sticky, ["owner", "admin"]);
    }

    #[test]
    fn admin_has_all_management_permissions_but_two() {
        let admin = patterns("admin");
        let mut missing = Vec::new();
        for management in &MANAGEMENT_TYPES {
            for verb in management.verbs {
                let text = format!("{}:{verb}", management.name);
                let permission: Permission = text.parse().expect("a permission");
                if !allows(&admin, &permission) {
                    missing.push(text);
                }
            }
        }
        assert_eq!(missing, ["gateway:delete", "organization:update"]);
        assert!(allows(&admin, &"cluster:anything".parse().expect("a permission")));
    }

    #[test]
    fn data_roles_reach_no_management_type() {
        for id in ["member", "executor", "viewer"] {
            let held = patterns(id);
            for management in &MANAGEMENT_TYPES {
                for verb in management.verbs {
                    let text = format!("{}:{verb}", management.name);
                    assert!(!allows(&held, &text.parse().expect("a permission")), "{id} {text}");
                }
            }
        }
    }
}
