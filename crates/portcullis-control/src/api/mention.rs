//! What of a call may be told again where an id belongs, in an answer, a problem or the audit log:
//! what can be an id of ours. Whoever puts a key there must not find it again.
//!
//! | text | told |
//! |---|---|
//! | up to 19 bytes: words of the API, ids of keys, names of built-in roles | yes: the shortest key that can be imported has 20 |
//! | a UUID of version 7, which our ids are | yes |
//! | anything else: keys in every spelling, tails of keys, long names of gateways | no |

use uuid::Uuid;

/// Bytes of the shortest text that can be a key.
const SHORTEST_KEY: usize = 20;

/// The id, or nothing if it cannot be one.
pub(super) fn id(text: &str) -> &str {
    if can_be_id(text) { text } else { "" }
}

/// The id, or `…` if it cannot be one.
pub(super) fn shown(text: &str) -> &str {
    if can_be_id(text) { text } else { "…" }
}

/// The path with `…` in place of every segment that can be neither id nor word.
pub(super) fn path(path: &str) -> String {
    let told = |segment| match can_be_segment(segment) {
        true => segment,
        false => "…",
    };
    path.split('/').map(told).collect::<Vec<_>>().join("/")
}

/// An id or a word, maybe with a verb.
fn can_be_segment(segment: &str) -> bool {
    match segment.split_once(':') {
        Some((id, verb)) => can_be_id(id) && verb.len() < SHORTEST_KEY,
        None => can_be_id(segment),
    }
}

fn can_be_id(text: &str) -> bool {
    let ours = || Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 7);
    text.len() < SHORTEST_KEY || (text.len() == 36 && ours())
}

#[cfg(test)]
mod tests {
    use portcullis_core::key::is_importable;

    use super::{SHORTEST_KEY, path};

    #[test]
    fn no_key_is_shorter_than_the_shortest() {
        assert!(is_importable("k".repeat(SHORTEST_KEY).as_bytes()));
        assert!(!is_importable("k".repeat(SHORTEST_KEY - 1).as_bytes()));
    }

    #[test]
    fn ids_words_and_verbs_are_told_and_nothing_that_can_be_a_key() {
        let id = "01a2008d-7400-7967-ba1b-04b8d88e1248";
        for told in [
            "",
            "/",
            "/v1/role-bindings:batch",
            &format!("/v1/organizations/{id}/service-accounts/{id}:revoke"),
            &format!("/v1/organizations/{id}/service-accounts/{id}/keys/063UfDVRKBz:rotate"),
        ] {
            assert_eq!(path(told), told);
        }
        for hidden in [
            "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr",
            "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr",
            "ZENPROKEY_eyJpZCI6IjAxOTBmMGE0In0=",
            "a-key-of-20-letters!",
            // Of another version: a secret that somebody made as a UUID.
            "2b1f0f0e-9c5e-4a44-8a3c-0d6a7b8c9d0e",
            "01a2008d74007967ba1b04b8d88e1248",
        ] {
            for segment in [hidden, &format!("{hidden}:revoke"), &format!("{id}:{hidden}")] {
                assert_eq!(path(&format!("/v1/keys/{segment}")), "/v1/keys/…");
            }
        }
    }
}
