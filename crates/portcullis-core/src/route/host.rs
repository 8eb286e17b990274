//! The host a request names, in one spelling, and the hosts a route admits.
//!
//! Lower case, no trailing dot, no default port. User information, IPv6 zones and names outside
//! ASCII are refused: each has been a way to make two readers see two hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::scan::Flaw;
use super::target::Scheme;

/// The longest host name in DNS.
const NAME_BYTES: usize = 253;
/// The longest label in DNS.
const LABEL_BYTES: usize = 63;

/// A canonical `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    authority: Cow<'a, str>,
    /// Where the name ends and `:port` begins.
    name_length: usize,
}

impl<'a> Host<'a> {
    /// Reads a `Host` field value or an `:authority`; `scheme` says which port goes without saying.
    pub fn canonical(written: &'a [u8], scheme: Scheme) -> Result<Host<'a>, Flaw> {
        let text = std::str::from_utf8(written).map_err(|_| Flaw::Host)?;
        let (name, port) = split_port(text)?;
        let name = canonical_name(name)?;
        let port = port.filter(|port| *port != scheme.default_port());
        let name_length = name.len();
        let authority = match (port, name) {
            (None, name) => name,
            // The port has no leading zeros, so all is as written if it follows the name at once.
            (Some(_), Cow::Borrowed(name)) if text.as_bytes().get(name.len()) == Some(&b':') => {
                Cow::Borrowed(text)
            }
            (Some(port), name) => Cow::Owned(format!("{name}:{port}")),
        };
        Ok(Host { authority, name_length })
    }

    /// The host without its port.
    pub fn name(&self) -> &str {
        self.authority.get(..self.name_length).unwrap_or(&self.authority)
    }

    /// The host and, if it is not the scheme's own, the port: what an upstream is told.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// Splits `host:port`, where the host may be an IPv6 address in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), Flaw> {
    let name_length = if text.starts_with('[') {
        text.find(']').ok_or(Flaw::Host)? + 1
    } else {
        // Byte by byte, for hosts are short.
        text.bytes().position(|byte| byte == b':').unwrap_or(text.len())
    };
    let (name, rest) = text.split_at_checked(name_length).ok_or(Flaw::Host)?;
    if rest.is_empty() {
        return Ok((name, None));
    }
    let digits = rest.strip_prefix(':').ok_or(Flaw::Host)?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if is_plain => Ok((name, Some(port))),
        Ok(_) | Err(_) => Err(Flaw::Host),
    }
}

/// One spelling of a host name or of an IPv6 address in brackets.
fn canonical_name(name: &str) -> Result<Cow<'_, str>, Flaw> {
    if let Some(inner) = name.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(Flaw::Host)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| Flaw::Host)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Ok(match spelling(name).ok_or(Flaw::Host)? {
        Spelling::Lower => Cow::Borrowed(name),
        Spelling::Mixed => Cow::Owned(name.to_ascii_lowercase()),
    })
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Spelling {
    Lower,
    Mixed,
}

/// What a byte means in a host name.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Class {
    Dot,
    Lower,
    Refused,
    Upper,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let lower = b"abcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut n = 0;
    while n < lower.len() {
        classes[lower[n].to_ascii_uppercase() as usize] = Class::Upper;
        n += 1;
    }
    n = 0;
    while n < lower.len() {
        classes[lower[n] as usize] = Class::Lower;
        n += 1;
    }
    classes[b'.' as usize] = Class::Dot;
    classes
};

/// How a name is spelled: letters, digits, `-`, `_`, in labels of 1 to 63 bytes. `None` if it is no
/// name.
fn spelling(name: &str) -> Option<Spelling> {
    let mut spelling = Spelling::Lower;
    let mut label_start = 0;
    for (at, byte) in name.bytes().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Lower => {}
            Class::Dot if (1..=LABEL_BYTES).contains(&(at - label_start)) => label_start = at + 1,
            Class::Upper => spelling = Spelling::Mixed,
            Class::Dot | Class::Refused => return None,
        }
    }
    let ends_well = (1..=LABEL_BYTES).contains(&(name.len() - label_start));
    (ends_well && name.len() <= NAME_BYTES).then_some(spelling)
}

/// Which hosts a route admits. A port in the request plays no part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host.
    Exact(Box<str>),
    /// `*.suffix`: one or more labels before `.suffix`; kept without the `*.`.
    Suffix(Box<str>),
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com` or `*`.
    pub fn parse(text: &str) -> Option<HostPattern> {
        if text == "*" {
            return Some(HostPattern::Any);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            let name = canonical_name(suffix).ok()?;
            let is_dns = !name.starts_with('[');
            return is_dns.then(|| HostPattern::Suffix(name.into()));
        }
        Some(HostPattern::Exact(canonical_name(text).ok()?.into()))
    }

    /// Whether a canonical host name is admitted.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(exact) => **exact == *name,
            HostPattern::Suffix(suffix) => name
                .strip_suffix(&**suffix)
                .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Suffix(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Flaw, Host, HostPattern, Scheme};

    fn read(text: &str) -> Result<(String, String), Flaw> {
        Host::canonical(text.as_bytes(), Scheme::Http)
            .map(|host| (host.authority().to_owned(), host.name().to_owned()))
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (text, authority, name) in [
            ("api.example.com", "api.example.com", "api.example.com"),
            ("API.Example.COM", "api.example.com", "api.example.com"),
            ("api.example.com.", "api.example.com", "api.example.com"),
            ("api.example.com:80", "api.example.com", "api.example.com"),
            ("api.example.com.:80", "api.example.com", "api.example.com"),
            ("api.example.com:8080", "api.example.com:8080", "api.example.com"),
            ("api.example.com.:8080", "api.example.com:8080", "api.example.com"),
            ("API:8080", "api:8080", "api"),
            ("localhost:443", "localhost:443", "localhost"),
            ("my_service", "my_service", "my_service"),
            ("127.0.0.1:9000", "127.0.0.1:9000", "127.0.0.1"),
            ("[::1]", "[::1]", "[::1]"),
            ("[::1]:80", "[::1]", "[::1]"),
            ("[0:0::0001]:81", "[::1]:81", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]", "[2001:db8::1]"),
        ] {
            let expected = Ok((authority.to_owned(), name.to_owned()));
            assert_eq!(read(text), expected, "{text}");
        }
        let https = Host::canonical(b"a:443", Scheme::Https).expect("a host");
        assert_eq!(https.authority(), "a");
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let long_label = "a".repeat(64);
        let long_first_label = format!("{long_label}.b");
        let long_name = ["a"; 128].join(".");
        for text in [
            "",
            ".",
            "..",
            "a..",
            ".a",
            "a..b",
            "user@a",
            "user:pass@a",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "a:+1",
            "a:8x",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[a]",
            "[]",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a,b",
            "a%41",
            "münchen.de",
            "*.a",
            "a\0",
            &long_label,
            &long_first_label,
            &long_name,
        ] {
            assert_eq!(read(text), Err(Flaw::Host), "{text}");
        }
        assert_eq!(Host::canonical(b"a\xff", Scheme::Http), Err(Flaw::Host));
    }

    #[test]
    fn the_longest_label_and_name_pass() {
        let label = "a".repeat(63);
        let name = [label.as_str(); 4].join(".")[..253].to_owned();
        for text in [&label, &name] {
            assert_eq!(read(text), Ok((text.clone(), text.clone())));
        }
    }

    #[test]
    fn a_host_that_is_canonical_already_is_not_copied() {
        for text in ["api.example.com", "api.example.com:8080"] {
            let host = Host::canonical(text.as_bytes(), Scheme::Http).expect("a host");
            assert!(matches!(host.authority, Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn patterns_admit_their_hosts_and_no_others() {
        let admits = |pattern: &str, name: &str| {
            HostPattern::parse(pattern).expect("a pattern").admits(name)
        };
        assert!(admits("*", "anything"));
        assert!(admits("Api.Example.com.", "api.example.com"));
        assert!(!admits("api.example.com", "xapi.example.com"));
        assert!(admits("*.example.com", "a.example.com"));
        assert!(admits("*.example.com", "a.b.example.com"));
        assert!(!admits("*.example.com", "example.com"));
        assert!(!admits("*.example.com", "aexample.com"));
        assert!(!admits("*.example.com", ".example.com"));
        for text in ["", "*.", "**", "a.*", "*a", "a:80", "*.[::1]", "a/b", "*.*.a"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_canonical_host_is_canonical(text in "[a-cA-C.:0-9\\[\\]-]{0,12}") {
            if let Ok((authority, name)) = read(&text) {
                prop_assert_eq!(read(&authority), Ok((authority.clone(), name)));
            }
        }

        #[test]
        fn no_bytes_make_the_host_panic(bytes in any::<Vec<u8>>()) {
            let _ = Host::canonical(&bytes, Scheme::Https);
        }
    }
}
