//! Session tokens against the live directory: a token is worth what its key is worth now.

use std::net::IpAddr;

use crate::access::Permission;
use crate::key::KeyId;
use crate::session::{Claims, Mode, Token};
use crate::time::WallMs;
use crate::verdict::DenyReason;

use super::{Directory, Permit, Place, Principal, Refusal, Requirement};

/// Why a token was refused, and whose it is, if that was proven.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TokenRefusal {
    /// Why.
    pub refusal: Refusal,
    /// The key that the token was exchanged for.
    pub key: Option<KeyId>,
}

/// What an accepted token says, and how its reader is called in it.
#[derive(Debug)]
pub struct Session<'d> {
    claims: Claims,
    /// The audience that all tokens name.
    own: &'d str,
}

impl Session<'_> {
    /// Lets a permit pass only as far as the token reaches: its scope, and the places that it names
    /// as further audiences. What asks for no permission is as wide as the whole organization.
    ///
    /// # Errors
    ///
    /// `MissingPermission` beyond the scope, `Restricted` outside of the places.
    pub fn narrow<'d>(
        &self,
        permit: Permit<'d>,
        need: Option<(&Requirement, Place<'_>)>,
    ) -> Result<Permit<'d>, DenyReason> {
        let Session { claims, own } = self;
        let (needed, place) = need.unzip();
        let permitted = needed.is_none_or(|need| {
            need.as_str().parse().is_ok_and(|needed: Permission| claims.permits(&needed))
        });
        if !permitted {
            return Err(DenyReason::MissingPermission);
        }
        let mut bounds = claims.bounds(own).peekable();
        let within =
            bounds.peek().is_none() || permit.0.is_within(bounds, place.unwrap_or(Place::Root));
        if within { Ok(permit) } else { Err(DenyReason::Restricted) }
    }
}

impl Directory {
    /// Who presents the token, and what it says, if it and its key are usable.
    ///
    /// # Errors
    ///
    /// The first reason in the order of the specification: signature and claims, the key, its
    /// generation.
    pub fn verify_session<'d>(
        &'d self,
        token: &Token,
        peer: IpAddr,
        now: WallMs,
    ) -> Result<(Principal<'d>, Session<'d>), TokenRefusal> {
        let refused =
            |reason| TokenRefusal { refusal: Refusal { reason, reveal: false }, key: None };
        let signer = self.signers.iter().find(|signer| signer.kid() == token.kid());
        let signer = signer.ok_or_else(|| refused(DenyReason::TokenInvalid))?;
        let claims = token.verify(signer, now).map_err(refused)?;
        let of_key = |refusal| TokenRefusal { refusal, key: Some(claims.key_id) };
        let denied = |reason| of_key(Refusal { reason, reveal: false });
        if claims.mode != Mode::Bound {
            return Err(denied(DenyReason::TokenInvalid));
        }
        let slot = self.keys.find(claims.key_id).ok_or_else(|| denied(DenyReason::UnknownKey))?;
        let claim =
            self.claim(slot, claims.key_id).ok_or_else(|| denied(DenyReason::SaInactive))?;
        // The record of a revoked account or an unknown organization is gone; what is left says why.
        let principal = claim.presented_by(None, peer, now).examined(None).map_err(of_key)?;
        let owned = self.account_id(slot.account) == claims.sub.as_bytes()
            && principal.org_id().as_ref() == claims.org_id.as_bytes();
        if !owned {
            return Err(denied(DenyReason::TokenInvalid));
        }
        let retained = || {
            let previous = slot.extra.as_ref().and_then(|extra| extra.previous.as_ref());
            previous.is_some_and(|previous| now < previous.retained_until)
                && claims.key_gen.checked_add(1) == Some(slot.generation)
        };
        if claims.key_gen != slot.generation && !retained() {
            return Err(denied(DenyReason::TokenGeneration));
        }
        let retained = claims.key_gen != slot.generation;
        Ok((Principal { retained, ..principal }, Session { claims, own: signer.aud() }))
    }
}
