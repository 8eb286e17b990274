//! What few keys have: a retained secret, a foreign one, a first instant, restrictions, sources.
//! Kept apart so that the many without any of it stay one cache line each.

use std::net::IpAddr;
use std::sync::Arc;

use crate::feed::{Alg, KeyRecord, RecordFault};
use crate::key::{Digest, Uid, check_bcrypt};
use crate::time::WallMs;

use super::grants::{Patterns, Symbols};
use super::keys::MAX_PEPPER;

/// The rarer members of a key record, ready to be checked.
#[derive(Clone)]
pub(super) struct KeyExtra {
    /// How the current digest was made.
    pub(super) hashing: Hashing,
    /// What its rendering calls it, if that does not follow from its id.
    pub(super) uid: Option<Uid>,
    pub(super) previous: Option<Previous>,
    pub(super) not_before: Option<WallMs>,
    pub(super) restrict: Option<Restrict>,
    pub(super) sources: Option<Box<[Cidr]>>,
    /// The key is bound to a client certificate.
    pub(super) bound: bool,
}

/// How a digest was made.
#[derive(Clone)]
pub(super) enum Hashing {
    /// With a pepper: what natively presented keys are compared with.
    B3,
    /// By a slow hash; the digest beside it is the dummy, which no secret has.
    Bcrypt(Arc<str>),
    /// Without a pepper: the version beside it is 0, which no pepper has.
    Sha256,
}

/// A digest as a record brings it, judged by how it was made.
pub(super) struct Hashed {
    pub(super) digest: Digest,
    pub(super) hashing: Hashing,
    pub(super) pepper: u32,
}

impl Hashed {
    /// Reads `alg`, `pepper` and `digest` of the member called `member`.
    pub(super) fn read(
        member: &str,
        (alg, pepper, text): (Alg, u32, &str),
    ) -> Result<Self, RecordFault> {
        let fault = |name: &str, allowed: &dyn std::fmt::Display| {
            RecordFault::at(&format!("{member}.{name}"), allowed)
        };
        let expected = match alg {
            Alg::B3 => (1..=MAX_PEPPER).contains(&pepper),
            Alg::Bcrypt | Alg::Sha256 => pepper == 0,
        };
        if !expected {
            let allowed = format!("1 to {MAX_PEPPER} for b3, absent for others");
            return Err(fault("pepper", &allowed));
        }
        if alg == Alg::Bcrypt {
            check_bcrypt(text).map_err(|error| fault("digest", &error))?;
            let hashing = Hashing::Bcrypt(text.into());
            return Ok(Self { digest: Digest::DUMMY, hashing, pepper });
        }
        let digest = Digest::from_hex(text).map_err(|error| fault("digest", &error))?;
        let hashing = if alg == Alg::B3 { Hashing::B3 } else { Hashing::Sha256 };
        Ok(Self { digest, hashing, pepper })
    }
}

/// The secret that a rotation replaced.
#[derive(Clone)]
pub(super) struct Previous {
    pub(super) digest: Digest,
    pub(super) hashing: Hashing,
    pub(super) pepper: u32,
    pub(super) retained_until: WallMs,
}

/// What a key is narrowed to.
#[derive(Clone)]
pub(super) struct Restrict {
    pub(super) permissions: Option<Patterns>,
    /// `org` or `kind/ref`, looked up when asked: few keys have them, and a key may come before
    /// its account.
    pub(super) resources: Option<Box<[Box<str>]>>,
    pub(super) methods: Option<Box<[Box<str>]>>,
}

impl KeyExtra {
    /// The extra of a record; `None` if it has nothing rare.
    pub(super) fn read(
        record: &KeyRecord,
        hashing: Hashing,
        symbols: &mut Symbols,
    ) -> Result<Option<Self>, RecordFault> {
        let previous = match &record.previous {
            None => None,
            Some(previous) => {
                let parts = (previous.alg, previous.pepper, previous.digest.as_str());
                let Hashed { digest, hashing, pepper } = Hashed::read("previous", parts)?;
                let retained_until = WallMs(previous.retained_until_ms);
                Some(Previous { digest, hashing, pepper, retained_until })
            }
        };
        let uid = match &record.uid {
            None => None,
            Some(text) => {
                let uid: Uid = text.parse().map_err(|error| RecordFault::at("uid", error))?;
                if uid.key_id().is_some() {
                    let allowed = "absent where it follows from the key's id";
                    return Err(RecordFault::at("uid", allowed));
                }
                Some(uid)
            }
        };
        let slow = |hashing: &Hashing| matches!(hashing, Hashing::Bcrypt(_));
        let any_slow = slow(&hashing) || previous.as_ref().is_some_and(|it| slow(&it.hashing));
        if uid.is_none() && any_slow {
            return Err(RecordFault::at("uid", "a UUID: bcrypt finds nothing by itself"));
        }
        let restrict = match &record.restrict {
            None => None,
            Some(restrict) => Some(Restrict {
                permissions: match &restrict.permissions {
                    None => None,
                    Some(list) => Some(symbols.patterns("restrict.permissions", list)?),
                },
                resources: boxed(restrict.resources.as_deref()),
                methods: boxed(restrict.methods.as_deref()),
            }),
        };
        let sources = match &record.sources {
            None => None,
            Some(list) => Some(
                list.iter()
                    .map(|text| {
                        text.parse().map_err(|error: CidrError| RecordFault::at("sources", error))
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        let not_before = record.not_before_ms.map(WallMs);
        let bound = record.cnf.is_some();
        let plain = previous.is_none()
            && restrict.is_none()
            && sources.is_none()
            && not_before.is_none()
            && uid.is_none()
            && matches!(hashing, Hashing::B3)
            && !bound;
        let extra = Self { hashing, uid, previous, not_before, restrict, sources, bound };
        Ok((!plain).then_some(extra))
    }
}

fn boxed(list: Option<&[String]>) -> Option<Box<[Box<str>]>> {
    list.map(|list| list.iter().map(|text| text.as_str().into()).collect())
}

/// A range of addresses (RFC 4632).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
    v4: bool,
}

/// The text is not a range of addresses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address or a range such as 10.0.0.0/8 or 2001:db8::/32, without bits beyond its length"
)]
pub struct CidrError;

impl Cidr {
    /// Whether the range holds this address. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (number, v4) = number_of(address);
        v4 == self.v4 && number & self.mask == self.network
    }
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => {
                let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let length: u32 = length.parse().map_err(|_| CidrError)?;
                (address, Some(length).filter(|_| plain))
            }
        };
        if text.contains('/') && length.is_none() {
            return Err(CidrError);
        }
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let (network, v4) = number_of(address);
        let width = if v4 { 32 } else { 128 };
        let length = length.unwrap_or(width);
        if length > width {
            return Err(CidrError);
        }
        let mask = match width - length {
            128 => 0,
            shift => u128::MAX << shift,
        };
        if network & mask != network {
            return Err(CidrError);
        }
        Ok(Self { network, mask, v4 })
    }
}

fn number_of(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        let holds = |range: &str, address: &str| {
            let range: Cidr = range.parse().expect("a range");
            range.contains(address.parse().expect("an address"))
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3"));
        assert!(holds("0.0.0.0/0", "255.1.1.1"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!holds("2001:db8::/32", "2001:db9::1"));
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "x/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError), "{text}");
        }
    }
}
