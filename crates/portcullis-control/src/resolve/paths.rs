//! Where resources are: some of one organization's, with everything above each. What is not known
//! here is nowhere, and grants nothing.

use std::collections::HashMap;

use portcullis_core::access::Tree;

use crate::store::resources::ResourceRow;

/// Some resources of one organization with everything above each of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths(HashMap<String, ResourceRow>);

impl Paths {
    pub(crate) fn add(&mut self, rows: Vec<ResourceRow>) {
        self.0.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
    }

    /// Learns all that `other` knows and this does not.
    pub(crate) fn merge(&mut self, other: &Paths) {
        for (id, row) in &other.0 {
            self.0.entry(id.clone()).or_insert_with(|| row.clone());
        }
    }

    pub(crate) fn find(&self, id: &str) -> Option<&ResourceRow> {
        self.0.get(id)
    }

    /// The resource, its parent, and so on to the root.
    pub(crate) fn up<'p>(&'p self, id: &'p str) -> impl Iterator<Item = &'p str> {
        std::iter::successors(Some(id), |id| self.parent(id)).take(17)
    }

    /// Of an archived resource and what lies below it only reading is left.
    pub(crate) fn is_archived(&self, id: &str) -> bool {
        let mut above = self.up(id).filter_map(|up| self.find(up));
        above.any(|row| row.state == ResourceRow::ARCHIVED)
    }
}

impl Tree for Paths {
    fn parent<'t>(&'t self, id: &str) -> Option<&'t str> {
        self.0.get(id).and_then(|row| row.parent_id.as_deref())
    }
}
