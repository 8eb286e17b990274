//! The resource tree: creation, renaming, moving, archiving, removal. The names that gateways know
//! (`kind/ref`) never change.

use portcullis_core::feed::Kind;

use super::stakes::{Stakes, Subject};
use super::{Code, Problem, new_id, records};
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::store::bindings;
use crate::store::keys as key_rows;
use crate::store::resources::{self, ResourceRow};

/// Kinds of resource that can be created; the root's kind is `organization`.
pub(crate) const KINDS: &[&str] = &["cluster", "custom", "project", "workspace"];
/// Resources from the root to the deepest one, both counted.
const DEEPEST: usize = 8;

/// A resource that is wanted.
pub(crate) struct NewResource {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) parent_id: String,
    pub(crate) reference: Option<String>,
}

/// Whether a text can be a `ref`: what fits into a path segment as it is.
pub(crate) fn is_ref(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".."
}

pub(crate) async fn create(work: &mut Work, wanted: NewResource) -> Result<ResourceRow, Problem> {
    let org_id = work.org()?.id.clone();
    let NewResource { name, kind, parent_id, reference } = wanted;
    let above = resources::list_path(work.unit.conn(), &org_id, &parent_id).await?;
    if above.is_empty() {
        return Err(unknown_reference("parent_id"));
    }
    if above.len() >= DEEPEST {
        return Err(too_deep());
    }
    let id = new_id(work.now, work.app.entropy.as_ref())?;
    let reference = match reference {
        Some(asked) => {
            let taken =
                resources::find_by_ref(work.unit.conn(), &org_id, kind, &asked).await?.is_some();
            if taken {
                let detail = "Another resource of this kind has this ref.";
                return Err(Problem::new(Code::NameTaken, detail));
            }
            asked
        }
        // Without a ref of its own, the name is taken if it fits and is free.
        None => {
            let free = is_ref(&name)
                && resources::find_by_ref(work.unit.conn(), &org_id, kind, &name).await?.is_none();
            if free { name.clone() } else { id.clone() }
        }
    };
    let row = ResourceRow {
        id,
        org_id,
        parent_id: Some(parent_id),
        kind: kind.to_owned(),
        name,
        reference,
        state: ResourceRow::ACTIVE.to_owned(),
        created_ms: column(work.now),
        updated_ms: column(work.now),
        version: 1,
    };
    resources::insert(work.unit.conn(), &row).await?;
    records::publish_resource(&mut work.unit, &row).await?;
    Ok(row)
}

/// Renames or moves a resource. True if it was moved.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut ResourceRow,
    name: Option<String>,
    parent_id: Option<String>,
) -> Result<bool, Problem> {
    if let Some(name) = name {
        row.name = name;
    }
    let moved = match parent_id {
        Some(parent_id) if Some(&parent_id) != row.parent_id.as_ref() => {
            move_below(work, row, parent_id).await?;
            true
        }
        Some(_) | None => {
            resources::update(work.unit.conn(), row, work.now).await?;
            false
        }
    };
    Ok(moved)
}

/// Moves a resource with everything below it. Whoever has access at the new place gains it here,
/// so the mover must have what they gain.
async fn move_below(
    work: &mut Work,
    row: &mut ResourceRow,
    parent_id: String,
) -> Result<(), Problem> {
    let org = work.org()?.clone();
    if row.is_root() {
        return Err(immutable_root());
    }
    let above = resources::list_path(work.unit.conn(), &org.id, &parent_id).await?;
    if above.is_empty() {
        return Err(unknown_reference("parent_id"));
    }
    if above.iter().any(|up| up.id == row.id) {
        let detail = "The new parent is the resource itself or lies below it.";
        return Err(Problem::new(Code::Cycle, detail));
    }
    let below = resources::height_below(work.unit.conn(), &row.id).await?;
    if above.len() + 1 + usize::try_from(below).unwrap_or(DEEPEST) > DEEPEST {
        return Err(too_deep());
    }
    let gainers = concerned_by_move(work, row, &above).await?;
    let mut stakes = Stakes::before(work, &gainers).await?;
    stakes.locate(work, &row.id).await?;
    row.parent_id = Some(parent_id);
    resources::update(work.unit.conn(), row, work.now).await?;
    stakes.check(work, Some(&row.id)).await?;
    records::publish_resource(&mut work.unit, row).await?;
    republish_subjects(work, &row.id).await
}

/// Everybody for whom a move changes anything: those with bindings in what moves, and those with
/// bindings above the old place or above the new one, but not above both.
async fn concerned_by_move(
    work: &mut Work,
    row: &ResourceRow,
    above: &[ResourceRow],
) -> Result<Vec<Subject>, Problem> {
    let old = resources::list_path(work.unit.conn(), &row.org_id, &row.id).await?;
    let is_in = |path: &[ResourceRow], id: &str| path.iter().any(|up| up.id == id);
    let left = old.iter().filter(|up| up.id != row.id && !is_in(above, &up.id));
    let joined = above.iter().filter(|up| !is_in(&old, &up.id));
    let mut found = bindings::list_subjects_below(work.unit.conn(), &row.id).await?;
    for up in left.chain(joined) {
        found.extend(bindings::list_subjects_on(work.unit.conn(), &up.id).await?);
    }
    let mut subjects: Vec<Subject> =
        found.into_iter().map(|(kind, id)| Subject { kind, id }).collect();
    subjects.sort();
    subjects.dedup();
    Ok(subjects)
}

/// Archives a resource, of which only reading is left, or takes that back. False if it was so.
pub(crate) async fn set_archived(
    work: &mut Work,
    row: &mut ResourceRow,
    archived: bool,
) -> Result<bool, Problem> {
    if row.is_root() {
        return Err(immutable_root());
    }
    let state = if archived { ResourceRow::ARCHIVED } else { ResourceRow::ACTIVE };
    if row.state == state {
        return Ok(false);
    }
    row.state = state.to_owned();
    resources::update(work.unit.conn(), row, work.now).await?;
    records::publish_resource(&mut work.unit, row).await?;
    Ok(true)
}

/// Removes a resource without children, and every binding and restriction that names it.
pub(crate) async fn delete(work: &mut Work, row: &ResourceRow) -> Result<(), Problem> {
    let org = work.org()?.clone();
    if row.is_root() {
        return Err(immutable_root());
    }
    if resources::has_children(work.unit.conn(), &row.id).await? {
        let detail = "Delete or move what lies below it first.";
        return Err(Problem::new(Code::ResourceNotEmpty, detail));
    }
    let subjects = bindings::list_subjects_below(work.unit.conn(), &row.id).await?;
    bindings::erase_on_resource(work.unit.conn(), &row.id).await?;
    resources::erase(work.unit.conn(), &row.id).await?;
    for (kind, id) in subjects {
        records::publish_subject(&mut work.unit, &org.id, &kind, &id, &org.policy).await?;
    }
    for key in key_rows::list_restricted(work.unit.conn(), &org.id).await? {
        // The restriction keeps the dead id, which no later resource can have; gateways lose the
        // name, which one could.
        let names_it = key.restriction.as_deref().is_some_and(|text| text.contains(&row.id));
        if names_it {
            records::publish_key(&mut work.unit, &key).await?;
        }
    }
    work.unit.delete(Kind::Resource, &row.feed_id()).await?;
    Ok(())
}

/// Resolves everybody again whose points lie on the resource or below it.
async fn republish_subjects(work: &mut Work, resource_id: &str) -> Result<(), Problem> {
    let org = work.org()?.clone();
    for (kind, id) in bindings::list_subjects_below(work.unit.conn(), resource_id).await? {
        records::publish_subject(&mut work.unit, &org.id, &kind, &id, &org.policy).await?;
    }
    Ok(())
}

fn too_deep() -> Problem {
    let detail = format!("A resource tree has at most {DEEPEST} levels, the root included.");
    Problem::new(Code::DepthExceeded, detail)
}

fn immutable_root() -> Problem {
    Problem::new(Code::ImmutableObject, "The root stands for the organization itself.")
}
