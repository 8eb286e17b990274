//! The one-pass path scanner (gateway.md 3.1). It reports what it saw; policy is applied elsewhere.
//!
//! A path that passes without remarks is used as it came, so the common case copies nothing. A path
//! with remarks that policy tolerates is rewritten once and scanned again, which is why
//! canonicalising twice changes nothing: the result has passed the same scan without remarks.

use thiserror::Error;

/// What one pass over a path found that is not simply wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Remarks {
    /// Where the path ends: at the `?` or at the end of the text.
    pub(super) length: usize,
    /// Empty segments, dot segments, or encoded characters that need no encoding.
    pub(super) ambiguous: bool,
    /// `%2F`, which only some routes take.
    pub(super) encoded_slash: bool,
    /// Lower-case hex digits in an escape.
    pub(super) lower_hex: bool,
    /// `;`, or a segment that ends with `.` or `%20`.
    pub(super) odd: bool,
}

impl Remarks {
    /// Whether the path is already in the form that is matched and forwarded.
    pub(super) fn is_canonical(&self) -> bool {
        !self.ambiguous && !self.lower_hex
    }
}

/// Why a target is refused. The caller learns only `bad_request`; this is for the access record.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// More `..` segments than there are segments to leave.
    #[error("the path climbs above its root")]
    AboveRoot,
    /// The authority of an absolute target is not the `Host`.
    #[error("the target's authority differs from the host")]
    AuthorityMismatch,
    /// `*` with another method than OPTIONS.
    #[error("the target * is for OPTIONS alone")]
    Asterisk,
    /// An escape for a control character.
    #[error("the path holds an encoded control character")]
    ControlEscape,
    /// `%25` before two hex digits: a reader that decodes twice would see another path.
    #[error("the path is encoded twice")]
    DoubleEscape,
    /// `%5C`, which some servers take for a slash.
    #[error("the path holds an encoded backslash")]
    EncodedBackslash,
    /// `%` without two hex digits.
    #[error("the path holds a % without two hex digits")]
    Escape,
    /// A `Host` that is none.
    #[error("the host is malformed")]
    Host,
    /// No `Host`.
    #[error("the host is missing")]
    HostMissing,
    /// Escapes that are not UTF-8, overlong forms included.
    #[error("the path's escapes are not UTF-8")]
    NotUtf8,
    /// `;`, or a segment that ends with `.` or an encoded space.
    #[error("the path holds a segment that servers read differently")]
    OddSegment,
    /// A path that does not start with `/`.
    #[error("the path does not start with /")]
    PathStart,
    /// A byte that the query may not hold.
    #[error("the query holds a byte that is not allowed")]
    QueryByte,
    /// A byte that a path may not hold unencoded.
    #[error("the path holds a byte that is not allowed")]
    RawByte,
    /// An absolute target with another scheme than the listener's.
    #[error("the target's scheme is not the listener's")]
    Scheme,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Class {
    End,
    Escape,
    Odd,
    Plain,
    Refused,
    Slash,
}

/// What each byte means in a path.
static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Refused; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@[]";
    let mut n = 0;
    while n < plain.len() {
        table[plain[n] as usize] = Class::Plain;
        n += 1;
    }
    table[b'%' as usize] = Class::Escape;
    table[b'/' as usize] = Class::Slash;
    table[b';' as usize] = Class::Odd;
    table[b'?' as usize] = Class::End;
    table
}

fn is_plain(byte: u8) -> bool {
    CLASSES[usize::from(byte)] == Class::Plain
}

/// Reads the path at the beginning of `text`, up to a `?` or the end.
pub(super) fn scan(text: &str) -> Result<Remarks, Flaw> {
    let Some(after_root) = text.as_bytes().strip_prefix(b"/") else {
        return Err(Flaw::PathStart);
    };
    let mut remarks = Remarks::default();
    let mut at = 0;
    let mut segment_start = 0;
    loop {
        // Most bytes are plain, and passed over by themselves.
        let rest = after_root.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| is_plain(**byte)).count();
        let Some(&byte) = after_root.get(at) else { break };
        match CLASSES[usize::from(byte)] {
            Class::Plain => {}
            Class::Slash => {
                let segment = after_root.get(segment_start..at).unwrap_or_default();
                // `//`: only the last segment may be empty.
                remarks.ambiguous |= segment.is_empty();
                remarks.close_segment(segment);
                at += 1;
                segment_start = at;
            }
            Class::Escape => at += remarks.read_escape(after_root.get(at..).unwrap_or_default())?,
            Class::Odd => {
                remarks.odd = true;
                at += 1;
            }
            Class::End => break,
            Class::Refused => return Err(Flaw::RawByte),
        }
    }
    remarks.close_segment(after_root.get(segment_start..at).unwrap_or_default());
    remarks.length = at + 1;
    Ok(remarks)
}

impl Remarks {
    fn close_segment(&mut self, segment: &[u8]) {
        if matches!(segment, b"." | b"..") {
            self.ambiguous = true;
        } else if segment.ends_with(b".") || segment.ends_with(b"%20") {
            self.odd = true;
        }
    }

    /// Reads the escape, or the escapes of one character beyond ASCII, at the beginning of `rest`,
    /// and returns its length.
    fn read_escape(&mut self, rest: &[u8]) -> Result<usize, Flaw> {
        let value = self.read_octet(rest)?;
        match value {
            0x00..=0x1F | 0x7F => return Err(Flaw::ControlEscape),
            b'\\' => return Err(Flaw::EncodedBackslash),
            b'/' => self.encoded_slash = true,
            b'%' if octet(rest.get(3..5)).is_some() => return Err(Flaw::DoubleEscape),
            0x80..=0xFF => return self.read_character(value, rest),
            _ => self.ambiguous |= is_unreserved(value),
        }
        Ok(3)
    }

    /// Checks that the escapes from `first` on spell one character of UTF-8.
    fn read_character(&mut self, first: u8, rest: &[u8]) -> Result<usize, Flaw> {
        let width = match first {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return Err(Flaw::NotUtf8),
        };
        let mut octets = [first, 0, 0, 0];
        for (n, slot) in octets.iter_mut().enumerate().take(width).skip(1) {
            let escape = rest.get(n * 3..).unwrap_or_default();
            if escape.first() != Some(&b'%') {
                return Err(Flaw::NotUtf8);
            }
            *slot = self.read_octet(escape)?;
        }
        match std::str::from_utf8(octets.get(..width).unwrap_or_default()) {
            Ok(_) => Ok(width * 3),
            Err(_) => Err(Flaw::NotUtf8),
        }
    }

    fn read_octet(&mut self, escape: &[u8]) -> Result<u8, Flaw> {
        let digits = escape.get(1..3);
        let value = octet(digits).ok_or(Flaw::Escape)?;
        self.lower_hex |= digits.is_some_and(|two| two.iter().any(u8::is_ascii_lowercase));
        Ok(value)
    }
}

/// The value of two hex digits.
fn octet(digits: Option<&[u8]>) -> Option<u8> {
    let [high, low] = digits? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// Characters whose encoded and plain forms mean the same (RFC 3986, 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether every byte of a query is allowed: 0x21 to 0x7E without `"`, `#`, `<`, `>`.
pub(super) fn is_query(query: &str) -> bool {
    query.bytes().all(|byte| IN_QUERY[usize::from(byte)])
}

static IN_QUERY: [bool; 256] = in_query();

const fn in_query() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte <= 0x7E {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = false;
    table[b'#' as usize] = false;
    table[b'<' as usize] = false;
    table[b'>' as usize] = false;
    table
}

/// The canonical form of a path that [`scan`] let pass: hex digits in upper case, unreserved
/// characters decoded, then empty and dot segments removed. The caller scans the result again.
///
/// `None` if a `..` leaves the root. RFC 3986 would swallow it; nobody sends it in earnest.
pub(super) fn rewrite(path: &str) -> Option<String> {
    let spelled = respell(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in spelled.split('/').skip(1) {
        ends_open = false;
        match segment {
            "" | "." => ends_open = true,
            ".." => {
                kept.pop()?;
                ends_open = true;
            }
            _ => kept.push(segment),
        }
    }
    let mut canonical = String::with_capacity(spelled.len());
    for segment in &kept {
        canonical.push('/');
        canonical.push_str(segment);
    }
    if ends_open {
        canonical.push('/');
    }
    Some(canonical)
}

/// Decodes what needs no encoding and writes all other escapes with upper-case digits.
fn respell(path: &str) -> String {
    let mut spelled = String::with_capacity(path.len());
    let mut pieces = path.split('%');
    spelled.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        // The scan has seen two hex digits after every `%`.
        let (digits, plain) = piece.split_at_checked(2).unwrap_or((piece, ""));
        match octet(Some(digits.as_bytes())) {
            Some(value) if is_unreserved(value) => spelled.push(char::from(value)),
            Some(_) | None => {
                spelled.push('%');
                spelled.push_str(&digits.to_ascii_uppercase());
            }
        }
        spelled.push_str(plain);
    }
    spelled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Flaw, Remarks, is_query, rewrite, scan};

    fn clean(length: usize) -> Remarks {
        Remarks { length, ..Remarks::default() }
    }

    #[test]
    fn ordinary_paths_pass_without_remarks() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/v1/clusters/c-1/nodes",
            "/A.b/~c_d/!$&'()*+,=:@[]",
            "/a%20b/%25/%25zz/%C3%A4/%E2%82%AC/%F0%9F%98%80",
            "/.a/..b/...c",
        ] {
            assert_eq!(scan(path), Ok(clean(path.len())), "{path}");
        }
        assert_eq!(scan("/a/b?c/../d"), Ok(clean(4)));
        assert_eq!(scan("/?"), Ok(clean(1)));
    }

    #[test]
    fn every_byte_that_must_be_encoded_is_refused() {
        for byte in 0_u8..=0x7F {
            let text = format!("/a{}b", char::from(byte));
            let refused = scan(&text) == Err(Flaw::RawByte);
            let expected = byte <= 0x20
                || byte == 0x7F
                || matches!(
                    byte,
                    b'\\' | b'"' | b'<' | b'>' | b'^' | b'{' | b'}' | b'`' | b'|' | b'#'
                );
            assert_eq!(refused, expected, "{byte:#04x}");
        }
        assert_eq!(scan("/ä"), Err(Flaw::RawByte));
    }

    #[test]
    fn escapes_that_hide_something_are_refused() {
        for value in (0x00_u8..=0x1F).chain([0x7F]) {
            let text = format!("/a%{value:02x}");
            assert_eq!(scan(&text), Err(Flaw::ControlEscape), "{text}");
        }
        for (text, flaw) in [
            ("/%5C", Flaw::EncodedBackslash),
            ("/%5c", Flaw::EncodedBackslash),
            ("/%", Flaw::Escape),
            ("/%2", Flaw::Escape),
            ("/%zz", Flaw::Escape),
            ("/%+1", Flaw::Escape),
            ("/%2/b", Flaw::Escape),
            ("/%u0041", Flaw::Escape),
            ("/%252e", Flaw::DoubleEscape),
            ("/%25FF", Flaw::DoubleEscape),
            ("/%C0%AF", Flaw::NotUtf8),
            ("/%C1%81", Flaw::NotUtf8),
            ("/%E0%80%AF", Flaw::NotUtf8),
            ("/%ED%A0%80", Flaw::NotUtf8),
            ("/%F4%90%80%80", Flaw::NotUtf8),
            ("/%F5%80%80%80", Flaw::NotUtf8),
            ("/%FF", Flaw::NotUtf8),
            ("/%80", Flaw::NotUtf8),
            ("/%C3", Flaw::NotUtf8),
            ("/%C3a%A4", Flaw::NotUtf8),
            ("/%C3%61", Flaw::NotUtf8),
            ("/%C3%zz", Flaw::Escape),
        ] {
            assert_eq!(scan(text), Err(flaw), "{text}");
        }
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        for text in ["", "a", "?a", "*", "http://h/", "%2Fa"] {
            assert_eq!(scan(text), Err(Flaw::PathStart), "{text}");
        }
    }

    #[test]
    fn remarks_name_what_was_seen() {
        let with = |text: &str, note: fn(&mut Remarks)| {
            let mut expected = clean(text.len());
            note(&mut expected);
            assert_eq!(scan(text), Ok(expected), "{text}");
        };
        for text in
            ["//", "/a//b", "/a//", "/.", "/..", "/a/./b", "/a/../b", "/a/..", "/%61", "/%7E"]
        {
            with(text, |remarks| remarks.ambiguous = true);
        }
        for text in ["/%2e", "/%2e%2E", "/%6a"] {
            with(text, |remarks| {
                remarks.ambiguous = true;
                remarks.lower_hex = true;
                remarks.odd = false;
            });
        }
        for text in ["/a;b", "/;", "/a./b", "/a.", "/...", "/a%20", "/a%20/b"] {
            with(text, |remarks| remarks.odd = true);
        }
        with("/a%2Fb", |remarks| remarks.encoded_slash = true);
        with("/a%2fb", |remarks| {
            remarks.encoded_slash = true;
            remarks.lower_hex = true;
        });
        with("/%c3%A4", |remarks| remarks.lower_hex = true);
    }

    #[test]
    fn rewriting_gives_the_one_form_that_all_readers_share() {
        for (path, canonical) in [
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/a//../b", "/b"),
            ("/a///b//", "/a/b/"),
            ("/%61%2e%2E", "/a.."),
            ("/a/%2e%2E/b", "/b"),
            ("/%c3%a4%2f", "/%C3%A4%2F"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
        ] {
            assert_eq!(rewrite(path).as_deref(), Some(canonical), "{path}");
        }
        for path in ["/..", "/a/../..", "/%2e%2e/a", "//.."] {
            assert_eq!(rewrite(path), None, "{path}");
        }
    }

    #[test]
    fn a_rewritten_path_may_turn_out_to_be_refused() {
        let rewritten = rewrite("/%25%36%31").expect("stays inside");
        assert_eq!(rewritten, "/%2561");
        assert_eq!(scan(&rewritten), Err(Flaw::DoubleEscape));
    }

    #[test]
    fn queries_hold_visible_ascii_without_four_characters() {
        for byte in 0_u8..=0x7F {
            let expected =
                (0x21..=0x7E).contains(&byte) && !matches!(byte, b'"' | b'#' | b'<' | b'>');
            assert_eq!(is_query(&char::from(byte).to_string()), expected, "{byte:#04x}");
        }
        assert!(!is_query("ä"));
        assert!(is_query(""));
    }

    proptest! {
        #[test]
        fn rewriting_twice_changes_nothing(
            path in "(/|\\.|%2[eEfF]|%61|%c3%A4|%25|a|b;|%20){1,12}"
        ) {
            let path = format!("/{path}");
            if scan(&path).is_ok() && let Some(once) = rewrite(&path) {
                prop_assert!(once.starts_with('/'));
                prop_assert!(!once.starts_with("//"));
                if let Ok(remarks) = scan(&once) {
                    prop_assert!(remarks.is_canonical(), "{}", once);
                    prop_assert_eq!(rewrite(&once), Some(once.clone()));
                }
            }
        }

        #[test]
        fn no_text_makes_the_scanner_panic(text in any::<String>()) {
            if let Ok(remarks) = scan(&text) {
                prop_assert!(text.is_char_boundary(remarks.length));
                let _ = rewrite(&text[..remarks.length]);
            }
        }
    }
}
