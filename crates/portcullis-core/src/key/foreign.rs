//! Keys that other systems made, and our own keys in another system's spelling: read from a text,
//! named by what they are found by, hashed in the ways that records know. Never looks anything up.
//!
//! | text | what it is | found by |
//! |---|---|---|
//! | `ZENPROKEY_` or `ZENKEY_` + base64 of `{"id":"<uuid>","key":"<secret>"}` | a rendering | the uuid |
//! | anything else that is not a key of ours | an imported key | SHA-256 of the text |
//!
//! A uuid that [`Uid::of_key`] made names one of our own keys, and its secret is the 49-character
//! tail: such a rendering is read as the native key and needs no look-up of its own.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    Digest, ID_LEN, KeyId, Malformed, ParsedKey, Pepper, PlainKey, Prefix, SECRET_LEN, TAIL_LEN,
};

/// What a key text of ZenML Pro begins with.
const ZENPRO: &str = "ZENPROKEY_";
/// What a key text of open-source ZenML begins with.
const ZEN: &str = "ZENKEY_";

/// Longest secret inside a rendering, in bytes.
const LONGEST_SECRET: usize = 128;
/// Shortest and longest text of an imported key, in bytes.
const TEXT: std::ops::RangeInclusive<usize> = 20..=256;

/// A key's id in schemas that want a UUID.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

/// Tells the uids that we make from all others (58 bits).
const MARK: u128 = 0x70_6f72_7463_756c;

impl Uid {
    /// The uid of a key of ours: its id in a UUID of version 8 (RFC 9562), so that whoever reads
    /// it back needs no table.
    pub const fn of_key(id: KeyId) -> Uid {
        let id = id.as_u64() as u128;
        let (high, middle, low) = (id >> 16, (id >> 4) & 0xfff, id & 0xf);
        Uid((high << 80) | (8 << 76) | (middle << 64) | (0b10 << 62) | (low << 58) | MARK)
    }

    /// The key whose uid this is, if [`Uid::of_key`] made it.
    pub fn key_id(self) -> Option<KeyId> {
        let bits = |shift: u32, mask: u128| u64::try_from((self.0 >> shift) & mask).unwrap_or(0);
        let id = (bits(80, 0xffff_ffff_ffff) << 16) | (bits(64, 0xfff) << 4) | bits(58, 0xf);
        let id = KeyId::from_u64(id);
        (Uid::of_key(id) == self).then_some(id)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, digits: usize| {
            let mask = (1 << (digits * 4)) - 1;
            (self.0 >> shift) & mask
        };
        let (a, b, c, d, e) = (part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a UUID.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a UUID such as 0190f0a4-7c1e-7000-8000-000000000000 is wanted")]
pub struct UidError;

impl FromStr for Uid {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Uid, UidError> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(UidError);
        }
        let mut number = 0_u128;
        for (place, &byte) in bytes.iter().enumerate() {
            if matches!(place, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(UidError);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(UidError)?;
            number = (number << 4) | u128::from(digit);
        }
        Ok(Uid(number))
    }
}

/// Which texts besides native keys are understood.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Spellings {
    /// Any text that is nothing else is an imported key.
    pub imported: bool,
    /// `ZENKEY_…`.
    pub zen: bool,
    /// `ZENPROKEY_…`.
    pub zenpro: bool,
}

impl Spellings {
    /// Everything that there is.
    pub const ALL: Spellings = Spellings { imported: true, zen: true, zenpro: true };
}

/// What a text turned out to be.
#[derive(Debug)]
pub enum Spelled {
    /// A key that is to be looked up by what it is found by.
    Foreign(ForeignKey),
    /// A key of ours, in its own spelling or in a rendering.
    Native(ParsedKey),
}

/// Reads a presented text. `prefixes` are those that keys of ours may have; none means the usual
/// one.
///
/// # Errors
///
/// [`Malformed`] if it is nothing that is understood.
pub fn read(text: &[u8], prefixes: &[Prefix], spellings: Spellings) -> Result<Spelled, Malformed> {
    for (mark, on) in [(ZENPRO, spellings.zenpro), (ZEN, spellings.zen)] {
        if let (true, Some(rest)) = (on, text.strip_prefix(mark.as_bytes())) {
            return read_rendering(rest, prefixes);
        }
    }
    match super::parse(text) {
        Ok(parsed) => Ok(Spelled::Native(parsed)),
        Err(_) if spellings.imported && is_importable(text) => {
            Ok(Spelled::Foreign(ForeignKey::of_text(text)))
        }
        Err(malformed) => Err(malformed),
    }
}

/// Whether a text may be an imported key: visible ASCII without a comma, which would make two
/// credentials of it, within its sizes, and none of the spellings that mean something else.
pub fn is_importable(text: &[u8]) -> bool {
    TEXT.contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',')
        && ![ZENPRO, ZEN, "eyJ"].iter().any(|mark| text.starts_with(mark.as_bytes()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rendering<'r> {
    id: &'r str,
    key: &'r str,
}

/// Either alphabet of RFC 4648, padded or not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn read_rendering(encoded: &[u8], prefixes: &[Prefix]) -> Result<Spelled, Malformed> {
    let mut standard = Zeroizing::new(encoded.to_vec());
    for byte in standard.iter_mut() {
        match byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
    }
    let json = LENIENT.decode(&*standard).map(Zeroizing::new).map_err(|_| Malformed::Rendering)?;
    // Both members are borrowed: no copy of the secret is made that nobody wipes.
    let found: Rendering<'_> = serde_json::from_slice(&json).map_err(|_| Malformed::Rendering)?;
    let uid: Uid = found.id.parse().map_err(|_| Malformed::Rendering)?;
    of_uid(uid, found.key.as_bytes(), prefixes)
}

fn of_uid(uid: Uid, secret: &[u8], prefixes: &[Prefix]) -> Result<Spelled, Malformed> {
    if let Some(id) = uid.key_id() {
        return parse_halves(&id.digits(), secret, prefixes).map(Spelled::Native);
    }
    let fits = (1..=LONGEST_SECRET).contains(&secret.len());
    if !fits || !secret.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed::Rendering);
    }
    Ok(Spelled::Foreign(ForeignKey::of_secret(Finder::Uid(uid), secret)))
}

/// Reads a key given as an id and a secret: our id or uid with the tail, a foreign uuid with the
/// secret of its rendering, or a whole value beside whatever name.
///
/// # Errors
///
/// [`Malformed`] if it is nothing that is understood.
pub fn read_pair(
    id: &[u8],
    secret: &[u8],
    prefixes: &[Prefix],
    spellings: Spellings,
) -> Result<Spelled, Malformed> {
    if id.len() == ID_LEN && secret.len() == TAIL_LEN {
        return parse_halves(id, secret, prefixes).map(Spelled::Native);
    }
    let uid = std::str::from_utf8(id).ok().and_then(|id| id.parse::<Uid>().ok());
    let rendered = [ZENPRO, ZEN].iter().any(|mark| secret.starts_with(mark.as_bytes()));
    match uid {
        Some(uid) if !rendered && super::parse(secret).is_err() => of_uid(uid, secret, prefixes),
        Some(_) | None => read(secret, prefixes, spellings),
    }
}

/// Reads a key given as id and tail. Its checksum tells which of the prefixes it was made with.
///
/// # Errors
///
/// [`Malformed`] as for the whole text.
pub fn parse_halves(id: &[u8], tail: &[u8], prefixes: &[Prefix]) -> Result<ParsedKey, Malformed> {
    let usual = [Prefix::default()];
    let candidates = if prefixes.is_empty() { &usual } else { prefixes };
    let mut result = Err(Malformed::Prefix);
    for prefix in candidates {
        let whole = Zeroizing::new([prefix.as_bytes(), id, tail].join(&b'_'));
        result = super::parse(&whole);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// One of our keys as a ZenML Pro client has it: `{"id":"<uid>","key":"<tail>"}` behind its mark.
pub fn render_zenpro(plain: &PlainKey, uid: Uid) -> Zeroizing<String> {
    let json = Zeroizing::new(format!(r#"{{"id":"{uid}","key":"{}"}}"#, plain.tail()));
    let mut text = Zeroizing::new(String::with_capacity(ZENPRO.len() + json.len() * 4 / 3 + 4));
    text.push_str(ZENPRO);
    STANDARD.encode_string(json.as_bytes(), &mut text);
    text
}

/// What a foreign key is found by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Finder {
    /// SHA-256 of its text.
    Text,
    /// The uuid of its rendering.
    Uid(Uid),
}

/// A key that was presented in another spelling than ours: what it is found by, and its secret.
/// Zeroized on drop.
pub struct ForeignKey {
    finder: Finder,
    sha256: Digest,
    secret: Zeroizing<Box<[u8]>>,
}

impl ForeignKey {
    fn of_text(text: &[u8]) -> ForeignKey {
        ForeignKey::of_secret(Finder::Text, text)
    }

    fn of_secret(finder: Finder, secret: &[u8]) -> ForeignKey {
        let sha256 = Digest::from_bytes(Sha256::digest(secret).into());
        ForeignKey { finder, sha256, secret: Zeroizing::new(secret.into()) }
    }

    /// What it is found by.
    pub fn finder(&self) -> Finder {
        self.finder
    }

    /// SHA-256 of the secret, which is the whole text where there is no rendering.
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// Whether a stored keyed digest is this secret's, under the id that was found. Costs the same
    /// for any answer: the secret as it is, and as the tail of a key of ours.
    pub fn matches_keyed(&self, id: KeyId, pepper: &Pepper, stored: &Digest) -> bool {
        let whole = self.keyed_of(id, pepper, &self.secret).matches(stored);
        let tail = self.secret.len() == TAIL_LEN;
        let end = if tail { SECRET_LEN } else { self.secret.len() };
        let bare = self.secret.get(..end).unwrap_or_default();
        whole | self.keyed_of(id, pepper, bare).matches(stored)
    }

    /// The keyed digest that replaces a slow one: BLAKE3 under a pepper over `<id>_<secret>`.
    pub fn keyed(&self, id: KeyId, pepper: &Pepper) -> Digest {
        self.keyed_of(id, pepper, &self.secret)
    }

    fn keyed_of(&self, id: KeyId, pepper: &Pepper, secret: &[u8]) -> Digest {
        pepper.digest_parts(&id.digits(), secret)
    }

    /// Whether the secret is the one of a bcrypt hash. Slow on purpose: never on a worker.
    pub fn matches_bcrypt(&self, hash: &str) -> bool {
        // Undecidable means no: an unreadable hash, or a secret beyond what bcrypt looks at.
        self.secret.len() <= BCRYPT_LONGEST && bcrypt::verify(&*self.secret, hash).unwrap_or(false)
    }
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey")
    }
}

/// Bytes of a secret that bcrypt looks at; a longer one would match by its beginning.
const BCRYPT_LONGEST: usize = 72;
/// Highest cost of a hash that is taken: one check takes about a second there.
const BCRYPT_COSTLIEST: u32 = 14;

/// The text is not a bcrypt hash that is taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a bcrypt hash `$2b$CC$…` of 60 characters and a cost of 4 to {BCRYPT_COSTLIEST} is wanted"
)]
pub struct BcryptTextError;

/// Checks the form of a bcrypt hash.
///
/// # Errors
///
/// [`BcryptTextError`] for anything else, also for a cost that would be a denial of service.
pub fn check_bcrypt(text: &str) -> Result<(), BcryptTextError> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| BcryptTextError)?;
    let fits = text.len() == 60 && (4..=BCRYPT_COSTLIEST).contains(&parts.get_cost());
    if fits { Ok(()) } else { Err(BcryptTextError) }
}

#[cfg(test)]
mod tests {
    use super::{
        Finder, ForeignKey, KeyId, Malformed, Prefix, Spelled, Spellings, Uid, check_bcrypt, read,
        render_zenpro,
    };
    use crate::entropy::{Entropy, EntropyFailure};
    use crate::key::{Pepper, mint};
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
            out.fill(7);
            Ok(())
        }
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "0190f0a4-7c1e-4000-8000-00000000beef";

    fn foreign(text: &str) -> ForeignKey {
        match read(text.as_bytes(), &[], Spellings::ALL) {
            Ok(Spelled::Foreign(key)) => key,
            other => panic!("{other:?}"),
        }
    }

    fn refused(text: &str) -> Malformed {
        read(text.as_bytes(), &[], Spellings { imported: false, ..Spellings::ALL })
            .expect_err("it is refused")
    }

    #[test]
    fn a_uid_of_ours_leads_back_to_its_key_and_no_other_does() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = KeyId::from_u64(number);
            let uid = Uid::of_key(id);
            let text = uid.to_string();
            let (version, variant) = (text.as_bytes()[14], text.as_bytes()[19]);
            assert!(text.len() == 36 && version == b'8' && b"89ab".contains(&variant), "{text}");
            assert_eq!(text.parse::<Uid>().map(Uid::key_id), Ok(Some(id)), "{text}");
        }
        assert_eq!(UID.parse::<Uid>().map(Uid::key_id), Ok(None));
        for text in
            ["", "0190f0a4-7c1e-4000-8000-00000000bee", "0190f0a47c1e400080000000000000beef00"]
        {
            assert!(text.parse::<Uid>().is_err(), "{text}");
        }
    }

    #[test]
    fn our_key_in_a_rendering_is_the_native_key() {
        let plain = mint(&Prefix::default(), &Sevens).expect("sevens do not fail");
        let text = render_zenpro(&plain, Uid::of_key(plain.id()));
        assert!(text.starts_with("ZENPROKEY_eyJpZCI6I"), "clients look for the prefix and the id");
        let pepper = Pepper::new(1, [7; 32]);
        let Ok(Spelled::Native(read)) = read(text.as_bytes(), &[], Spellings::ALL) else {
            panic!("a key of ours")
        };
        assert_eq!(read.id(), plain.id());
        assert!(read.digest(&pepper).matches(&plain.parsed().digest(&pepper)));
    }

    #[test]
    fn renderings_come_with_blanks_without_padding_and_in_either_alphabet() {
        let compact = format!(r#"{{"id":"{UID}","key":"{SECRET}"}}"#);
        let spaced = format!(r#" {{ "id" : "{UID}" , "key" : "{SECRET}" }} "#);
        let wanted = foreign(&format!("ZENKEY_{}", STANDARD.encode(&compact)));
        assert_eq!(wanted.finder(), Finder::Uid(UID.parse().expect("a uuid")));
        for text in [
            format!("ZENKEY_{}", URL_SAFE_NO_PAD.encode(&compact)),
            format!("ZENPROKEY_{}", STANDARD.encode(&spaced)),
            format!("ZENPROKEY_{}", URL_SAFE_NO_PAD.encode(&spaced)),
        ] {
            let key = foreign(&text);
            assert_eq!(key.finder(), wanted.finder());
            assert!(key.sha256().matches(wanted.sha256()), "{text}");
        }
    }

    #[test]
    fn what_is_no_rendering_is_malformed() {
        let json = |text: &str| format!("ZENPROKEY_{}", STANDARD.encode(text));
        let ours = Uid::of_key(KeyId::from_u64(7));
        for text in [
            "ZENPROKEY_".to_owned(),
            "ZENPROKEY_not base64".to_owned(),
            json("[]"),
            json(&format!(r#"{{"id":"{UID}"}}"#)),
            json(&format!(r#"{{"id":"{UID}","key":""}}"#)),
            json(&format!(r#"{{"id":"{UID}","key":"a b"}}"#)),
            json(&format!(r#"{{"id":"{UID}","key":"{SECRET}","key":"{SECRET}"}}"#)),
            json(&format!(r#"{{"id":"{UID}","key":"{SECRET}","x":1}}"#)),
            json(&format!(r#"{{"id":"x","key":"{SECRET}"}}"#)),
        ] {
            assert_eq!(refused(&text), Malformed::Rendering, "{text}");
        }
        // One of our own ids with a secret that is none of ours.
        let text = json(&format!(r#"{{"id":"{ours}","key":"{SECRET}"}}"#));
        assert!(read(text.as_bytes(), &[], Spellings::ALL).is_err());
    }

    #[test]
    fn a_spelling_that_is_off_is_malformed() {
        let text = format!(
            "ZENPROKEY_{}",
            STANDARD.encode(format!(r#"{{"id":"{UID}","key":"{SECRET}"}}"#))
        );
        assert!(read(text.as_bytes(), &[], Spellings::default()).is_err());
        assert!(read(b"some-foreign-key-text-1", &[], Spellings::default()).is_err());
        // A rendering is never taken for an imported text, and neither is a session token.
        let imported = Spellings { imported: true, ..Spellings::default() };
        assert!(read(text.as_bytes(), &[], imported).is_err());
        assert!(read(b"eyJhbGciOiJub25lIn0.e30.", &[], imported).is_err());
        assert_eq!(foreign("some-foreign-key-text-1").finder(), Finder::Text);
        for text in ["short", "a,comma-in-the-middle-of-it", "a blank in the middle of it"] {
            assert!(read(text.as_bytes(), &[], imported).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_matches_its_hashes_and_no_others() {
        let key = foreign("some-foreign-key-text-1");
        let (id, pepper) = (KeyId::from_u64(7), Pepper::new(1, [7; 32]));
        let keyed = key.keyed(id, &pepper);
        assert!(key.matches_keyed(id, &pepper, &keyed));
        assert!(!key.matches_keyed(KeyId::from_u64(8), &pepper, &keyed));
        assert!(!foreign("some-foreign-key-text-2").matches_keyed(id, &pepper, &keyed));
        let hash = bcrypt::hash_with_salt("some-foreign-key-text-1", 4, [9; 16])
            .expect("a cost of 4")
            .to_string();
        assert!(key.matches_bcrypt(&hash));
        assert!(!foreign("some-foreign-key-text-2").matches_bcrypt(&hash));
        assert!(!key.matches_bcrypt("$2b$04$nonsense"));
    }

    #[test]
    fn a_bcrypt_hash_has_a_form_and_a_bounded_cost() {
        let real = bcrypt::hash_with_salt("text", 4, [9; 16]).expect("a cost of 4").to_string();
        let of_cost = |cost| real.replacen("$04$", &format!("${cost}$"), 1);
        assert_eq!(check_bcrypt(&of_cost("12")), Ok(()));
        for text in [of_cost("03"), of_cost("15"), of_cost("31"), "plain".into(), "$2b$12$x".into()]
        {
            assert!(check_bcrypt(&text).is_err(), "{text}");
        }
    }
}
