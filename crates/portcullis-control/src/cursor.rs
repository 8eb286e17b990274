//! The opaque cursor of lists: which row was shown last, bound to the list and its filters by a
//! MAC. A forged, altered or foreign cursor never reaches a statement.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_core::key::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes of the MAC at the front of a cursor.
const MAC: usize = 32;

/// The key of the cursors' MAC. Kept in the database, so that a cursor outlives a restart.
pub(crate) struct CursorKey([u8; 32]);

impl CursorKey {
    pub(crate) fn new(bytes: [u8; 32]) -> CursorKey {
        CursorKey(bytes)
    }

    /// The cursor after the row at `created_ms` with this id, for the list called `scope`.
    pub(crate) fn seal(&self, scope: &str, created_ms: i64, id: &str) -> String {
        let place = format!("{created_ms} {id}");
        let mut bytes = self.mac(scope, place.as_bytes()).as_bytes().to_vec();
        bytes.extend_from_slice(place.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place a cursor stands for, if it is one of ours for the list called `scope`.
    pub(crate) fn open(&self, scope: &str, cursor: &str) -> Option<(i64, String)> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (mac, place) = bytes.split_first_chunk::<MAC>()?;
        if !self.mac(scope, place).matches(&Digest::from_bytes(*mac)) {
            return None;
        }
        let (created_ms, id) = std::str::from_utf8(place).ok()?.split_once(' ')?;
        Some((created_ms.parse().ok()?, id.to_owned()))
    }

    /// Hashed twice, with the key in front both times, so that a longer place cannot be derived
    /// from the MAC of a shorter one.
    fn mac(&self, scope: &str, place: &[u8]) -> Digest {
        let inner = Sha256::new()
            .chain_update(self.0)
            .chain_update(scope.len().to_le_bytes())
            .chain_update(scope)
            .chain_update(place)
            .finalize();
        Digest::from_bytes(Sha256::new().chain_update(self.0).chain_update(inner).finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::CursorKey;

    #[test]
    fn a_cursor_opens_only_as_it_was_sealed() {
        let key = CursorKey::new([7; 32]);
        let cursor = key.seal("keys?state=active", 17, "0192");
        assert_eq!(key.open("keys?state=active", &cursor), Some((17, "0192".to_owned())));
        assert_eq!(key.open("keys", &cursor), None);
        assert_eq!(CursorKey::new([8; 32]).open("keys?state=active", &cursor), None);
        assert_eq!(key.open("keys?state=active", &cursor.replacen('A', "B", 1)), None);
        for foreign in ["", "AAAA", "%%%", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(key.open("keys?state=active", foreign), None, "{foreign}");
        }
    }
}
