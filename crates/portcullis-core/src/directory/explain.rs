//! Why a key is usable or not: the very checks a request goes through, each by name. Takes a key
//! id, never a plaintext, so the secret itself is not judged here.

use std::net::IpAddr;

use crate::key::KeyId;
use crate::time::WallMs;
use crate::verdict::DenyReason;

use super::{CHECKS, Directory, Place, Requirement};

/// One check of the chain.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was asked.
    pub check: &'static str,
    /// The reason if the answer is no.
    pub denied: Option<DenyReason>,
}

impl Directory {
    /// Goes through every check of the key's standing, also past the first that fails.
    pub fn explain(&self, key: KeyId, peer: IpAddr, now: WallMs) -> Vec<Finding> {
        let known = |denied| Finding { check: "key is known", denied };
        let Some(claim) = self.keys.find(key).and_then(|slot| self.claim(slot, key)) else {
            return vec![known(Some(DenyReason::UnknownKey))];
        };
        let claim = super::Claim { peer: Some(peer), now, ..claim };
        let checks = CHECKS.iter().map(|(check, run)| Finding { check, denied: run(&claim).err() });
        std::iter::once(known(None)).chain(checks).collect()
    }

    /// Whether the key's account has a permission, as [`super::Principal::authorize`] would decide
    /// for a usable key.
    pub fn explain_permission(
        &self,
        key: KeyId,
        need: &Requirement,
        place: Place<'_>,
        method: &str,
    ) -> Finding {
        let claim = self.keys.find(key).and_then(|slot| self.claim(slot, key));
        let denied = match claim {
            None => Some(DenyReason::UnknownKey),
            Some(claim) => claim.proven(false).authorize(need, place, method).err(),
        };
        Finding { check: "account has the permission", denied }
    }
}
