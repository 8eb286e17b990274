//! What people call the objects whose ids stand in a list. Only tables show names; scripts get ids.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api::Api;

/// Puts a name in the place of each id at `pointers`, where one of the organization's lists tells
/// one. An id that nobody may look up stays.
pub(super) async fn put_names(api: &Api, org: &str, items: &mut [Value], pointers: &[&str]) {
    let mut names = BTreeMap::new();
    for list in LISTS {
        let found = api.list(&format!("{org}/{list}")).await.unwrap_or_default();
        names.extend(found.iter().filter_map(named));
    }
    for item in items {
        for pointer in pointers {
            let Some(place) = item.pointer_mut(pointer) else { continue };
            if let Some(name) = place.as_str().and_then(|id| names.get(id)) {
                *place = json!(name);
            }
        }
    }
}

/// Where names come from.
const LISTS: [&str; 6] =
    ["service-accounts", "users", "resources", "groups", "roles?kind=custom", "security-policies"];

/// An account by its username, a resource as the commands take it, all others by their name.
fn named(object: &Value) -> Option<(String, String)> {
    let text = |member: &str| object.get(member).and_then(Value::as_str);
    let name = match (text("username"), text("parent_id"), text("kind"), text("ref")) {
        (Some(username), ..) => username.to_owned(),
        (None, Some(_), Some(kind), Some(reference)) => format!("{kind}/{reference}"),
        (None, None, Some("organization"), _) => "org".to_owned(),
        _ => text("name")?.to_owned(),
    };
    Some((text("id")?.to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_called_what_the_commands_take() {
        let name = |object: Value| named(&object).map(|(_, name)| name);
        assert_eq!(name(json!({"id": "1", "username": "ci"})).as_deref(), Some("ci"));
        let root = json!({"id": "2", "kind": "organization", "ref": "2", "parent_id": null});
        assert_eq!(name(root).as_deref(), Some("org"));
        let cluster = json!({"id": "3", "kind": "cluster", "ref": "c1", "parent_id": "2"});
        assert_eq!(name(cluster).as_deref(), Some("cluster/c1"));
        assert_eq!(name(json!({"id": "4", "name": "g", "kind": "custom"})).as_deref(), Some("g"));
        assert_eq!(name(json!({"id": "5"})), None);
    }
}
