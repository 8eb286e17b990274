//! The present state of whatever events and lists name by kind and id.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portcullis_core::access::BUILTIN_ROLES;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;

/// Where each kind's state is, and whose it is. What has no state of its own is `active` while it
/// exists.
const KINDS: [(&str, &str); 9] = [
    ("api_key", "SELECT id, org_id, state FROM api_keys"),
    ("group", "SELECT id, org_id, 'active' AS state FROM account_groups"),
    ("organization", "SELECT id, id AS org_id, state FROM organizations"),
    ("resource", "SELECT id, org_id, state FROM resources"),
    ("role", "SELECT id, org_id, 'active' AS state FROM roles"),
    ("role_binding", "SELECT id, org_id, 'active' AS state FROM role_bindings"),
    (
        "security_policy",
        "SELECT id, org_id, CASE WHEN enabled THEN 'enabled' ELSE 'disabled' END AS state
         FROM security_policies",
    ),
    ("service_account", "SELECT id, org_id, state FROM service_accounts"),
    ("user", "SELECT id, org_id, state FROM users"),
];
/// Ids of one statement.
const ROWS: usize = 500;
/// What is gone without a tombstone.
const DELETED: &str = "deleted";

/// States that are wanted, and those that were read.
#[derive(Default)]
pub(crate) struct States {
    wanted: BTreeMap<&'static str, BTreeSet<String>>,
    found: HashMap<(&'static str, String), String>,
}

impl States {
    /// Asks for a state. Kinds that have none are not looked for.
    pub(crate) fn want(&mut self, kind: &str, id: &str) {
        if let Some((kind, _)) = KINDS.iter().find(|(known, _)| *known == kind)
            && !id.is_empty()
        {
            self.wanted.entry(kind).or_default().insert(id.to_owned());
        }
    }

    /// Reads what was asked for.
    pub(crate) async fn read(
        &mut self,
        conn: &mut SqliteConnection,
        org_id: &str,
    ) -> Result<(), StoreError> {
        for (kind, start) in KINDS {
            let ids: Vec<String> =
                self.wanted.remove(kind).unwrap_or_default().into_iter().collect();
            for some in ids.chunks(ROWS) {
                let mut query = QueryBuilder::<Sqlite>::new(start);
                // By the ids alone: without statistics, SQLite would rather walk the whole
                // organization in an index by state than look a hundred ids up.
                query.push(" WHERE id IN (");
                let mut list = query.separated(", ");
                for id in some {
                    list.push_bind(id.clone());
                }
                query.push(")");
                let rows: Vec<(String, String, String)> =
                    query.build_query_as().fetch_all(&mut *conn).await?;
                let ours = rows.into_iter().filter(|(_, owner, _)| owner == org_id);
                self.found.extend(ours.map(|(id, _, state)| ((kind, id), state)));
            }
        }
        Ok(())
    }

    /// The state, `deleted` for what is gone; `None` for kinds without one.
    pub(crate) fn find(&self, kind: &str, id: &str) -> Option<&str> {
        let (kind, _) = KINDS.iter().find(|(known, _)| *known == kind)?;
        if id.is_empty() {
            return None;
        }
        if *kind == "role" && BUILTIN_ROLES.iter().any(|role| role.id == id) {
            return Some("active");
        }
        let found = self.found.get(&(*kind, id.to_owned()));
        Some(found.map_or(DELETED, String::as_str))
    }
}
