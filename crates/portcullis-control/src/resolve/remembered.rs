//! Access of principals as it was resolved before, for as long as nothing changed that access rests
//! on. It spares most calls the reading of bindings, groups, roles and places.
//!
//! Only resolved access is remembered, never a key, an account or an organization: what was revoked
//! is refused at once. A counter rises with every durable change that could alter anybody's access,
//! before that change is answered; what was resolved under another count is not used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::Access;
use crate::store::organizations::OrganizationRow;

/// Principals that are remembered at most; then all are forgotten.
const MOST: usize = 1000;

/// Counts the durable changes that could alter somebody's access.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessCount(Arc<AtomicU64>);

impl AccessCount {
    pub(crate) fn rise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// The count that a reader may go by who begins to read now.
    pub(crate) fn current(&self) -> AsOf {
        AsOf(Some(self.0.load(Ordering::SeqCst)))
    }
}

/// Under which count somebody reads; under none after changes that are not durable yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct AsOf(Option<u64>);

impl AsOf {
    pub(crate) const UNSETTLED: AsOf = AsOf(None);
}

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    as_of: AsOf,
    /// The organization's policy takes part in resolving.
    org_version: i64,
    access: Access,
}

impl Remembered {
    pub(crate) async fn find(
        &self,
        as_of: AsOf,
        principal_id: &str,
        org: &OrganizationRow,
    ) -> Option<Access> {
        let entries = self.0.lock().await;
        let entry = entries.get(principal_id)?;
        let holds = as_of.0.is_some() && entry.as_of == as_of && entry.org_version == org.version;
        holds.then(|| entry.access.clone())
    }

    pub(crate) async fn keep(
        &self,
        as_of: AsOf,
        principal_id: &str,
        org: &OrganizationRow,
        access: &Access,
    ) {
        if as_of.0.is_none() {
            return;
        }
        let entry = Entry { as_of, org_version: org.version, access: access.clone() };
        let mut entries = self.0.lock().await;
        if entries.len() >= MOST && !entries.contains_key(principal_id) {
            entries.clear();
        }
        entries.insert(principal_id.to_owned(), entry);
    }
}
