//! Roles as decisions see them: built-in and custom ones alike, their lists parsed. A text that
//! cannot be read grants nothing and, where it would deny, denies everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_core::access::{BUILTIN_ROLES, BuiltinRole, Pattern};
use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::store::roles::{self, RoleRow};

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) permissions: Vec<Pattern>,
    pub(crate) deny: Vec<Pattern>,
    pub(crate) sticky: bool,
    /// If not, every binding of it has `propagate = false`.
    pub(crate) propagates: bool,
    pub(crate) sa_assignable: bool,
    pub(crate) binding_kinds: Vec<String>,
    pub(crate) built_in: bool,
    /// For display; never compared in a decision.
    pub(crate) level: i64,
}

impl Role {
    /// The built-in role, or the organization's custom one.
    pub(crate) async fn find(
        conn: &mut SqliteConnection,
        org_id: &str,
        id: &str,
    ) -> Result<Option<Role>, StoreError> {
        if let Some(role) = BuiltinRole::find(id) {
            return Ok(Some(Role::built_in(role)));
        }
        Ok(roles::find(conn, org_id, id).await?.as_ref().map(Role::custom))
    }

    /// Everything that can be bound in an organization.
    pub(crate) async fn list(
        conn: &mut SqliteConnection,
        org_id: &str,
    ) -> Result<Vec<Role>, StoreError> {
        let custom = roles::list_all(conn, org_id).await?;
        Ok(BUILTIN_ROLES
            .iter()
            .map(Role::built_in)
            .chain(custom.iter().map(Role::custom))
            .collect())
    }

    pub(crate) fn built_in(role: &BuiltinRole) -> Role {
        Role {
            id: role.id.to_owned(),
            name: role.label.to_owned(),
            permissions: role.permissions.iter().filter_map(|text| text.parse().ok()).collect(),
            deny: Vec::new(),
            sticky: role.sticky,
            propagates: role.propagates,
            sa_assignable: true,
            binding_kinds: role.binding_kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            built_in: true,
            level: i64::from(role.level),
        }
    }

    pub(crate) fn custom(row: &RoleRow) -> Role {
        let deny: Result<Vec<Pattern>, _> =
            texts(&row.deny).iter().map(|text| text.parse()).collect();
        Role {
            id: row.id.clone(),
            name: row.name.clone(),
            permissions: patterns(&texts(&row.permissions)),
            deny: deny.unwrap_or_else(|_| vec![Pattern::Everything]),
            sticky: row.sticky,
            propagates: true,
            sa_assignable: row.sa_assignable,
            binding_kinds: texts(&row.binding_kinds),
            built_in: false,
            level: row.level,
        }
    }
}

/// The roles that some bindings name, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles(BTreeMap<String, Arc<Role>>);

impl Roles {
    pub(super) fn of(custom: &[RoleRow]) -> Roles {
        Roles(custom.iter().map(|row| (row.id.clone(), Arc::new(Role::custom(row)))).collect())
    }

    /// A role that is not there grants nothing.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Role>> {
        match BuiltinRole::find(id) {
            Some(role) => Some(Arc::new(Role::built_in(role))),
            None => self.0.get(id).cloned(),
        }
    }
}

/// Patterns from text. One that cannot be read grants nothing.
pub(crate) fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// A JSON array of texts; what is none is empty.
pub(crate) fn texts(column: &str) -> Vec<String> {
    serde_json::from_str(column).unwrap_or_default()
}
