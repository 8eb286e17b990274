//! Kinds of values with a meaning of their own: URLs, header names, credentials, key prefixes.
//! Each keeps the text it was read from, so that the configuration can be shown as it was meant.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_core::access::Permission;
use portcullis_core::key::Prefix;
use portcullis_gateway::CredentialSource;
use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::setting::{Reader, Setting};

/// Declares a text that passes one test.
macro_rules! text {
    ($(#[doc = $doc:literal])* $name:ident, $accepts:expr, $allowed:expr) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl Setting for $name {
            fn allowed() -> String {
                $allowed.to_owned()
            }

            fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
                let accepts: fn(&str) -> bool = $accepts;
                match value.get_ref().as_str() {
                    Some(text) if accepts(text) => Some(Self(text.to_owned())),
                    Some(_) | None => reader.refuse(value),
                }
            }

            fn write(&self) -> toml::Value {
                toml::Value::String(self.0.clone())
            }
        }
    };
}

text!(
    /// The base URL of a control plane, or `""` for none.
    BaseUrl,
    |text| text.is_empty() || text.strip_prefix("http://").is_some_and(is_authority),
    "\"http://HOST:PORT\" without a path, or \"\" for none"
);

text!(
    /// How callers reach the control plane, or `""` for its address.
    PublicUrl,
    |text| text.is_empty() || is_public_url(text),
    "\"https://HOST\" or \"http://HOST:PORT\", at most 256 visible characters without query and fragment, or \"\""
);

text!(
    /// The name of a header, in lower case.
    HeaderName,
    |text| is_token(text, 64) && !text.bytes().any(|b| b.is_ascii_uppercase()),
    "a header name of 1 to 64 lower-case letters, digits and `-`, such as \"x-internal\""
);

text!(
    /// A host name, or `*.` and a suffix.
    HostPattern,
    |text| is_host_name(text.strip_prefix("*.").unwrap_or(text)),
    "a lower-case host name such as \"api.example.com\", or \"*.example.com\""
);

text!(
    /// Where a protected resource describes itself, or `""` for nowhere.
    MetadataUrl,
    |text| text.is_empty() || (text.len() <= 512
        && (text.starts_with("https://") || text.starts_with("http://"))
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>".contains(&b))),
    "an http or https URL of at most 512 characters, or \"\" for none"
);

text!(
    /// An HTTP method.
    Method,
    |text| is_token(text, 20) && !matches!(text, "CONNECT" | "TRACE"),
    "an HTTP method such as \"GET\", at most 20 bytes; CONNECT and TRACE are never forwarded"
);

text!(
    /// A permission, or `""` for none.
    OptionalPermission,
    |text| text.is_empty() || Permission::from_str(text).is_ok(),
    "a permission `type:verb` such as \"cluster:read\", each part 1 to 64 of a-z, 0-9, `_`, `.`, `-`"
);

text!(
    /// The path of a route.
    PathTemplate,
    |text| text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic()),
    "a path that starts with `/`: literal segments, `{name}` for one segment, `{*rest}` last"
);

text!(
    /// The beginning of a path that is taken away, or `""` for none.
    PathPrefix,
    |text| text.is_empty() || (text.starts_with('/') && !text.ends_with('/') && text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"{}?#%".contains(&b))),
    "the beginning of a path such as \"/api\" without a `/` at its end, or \"\" for none"
);

text!(
    /// Host and port of an upstream.
    UpstreamHost,
    is_authority,
    "a host and a port such as \"10.0.0.5:8080\", \"api.internal:8080\" or \"[fd00::1]:8080\""
);

text!(
    /// The reserved prefix of identity headers.
    IdentityPrefix,
    |text| text.ends_with('-') && HEADER_STARTS.iter().all(|taken| !taken.starts_with(text))
        && is_token(text, 32) && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
    "1 to 32 lower-case letters, digits and `-`, first a letter, last a `-`, such as \"x-auth-\""
);

text!(
    /// The realm of challenges.
    Realm,
    |text| !text.is_empty() && text.len() <= 64
        && text.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && !b"\"\\".contains(&b)),
    "1 to 64 visible ASCII characters or spaces without `\"` and `\\`"
);

text!(
    /// The first part of a key's text.
    KeyPrefix,
    |text| Prefix::from_str(text).is_ok(),
    "2 to 16 letters and digits, such as \"ptc\""
);

text!(
    /// Where a key is looked for.
    Credential,
    |text| CredentialSource::from_str(text).is_ok(),
    "\"bearer\", \"basic\", \"header:NAME\", \"form:NAME\", \"query:NAME\" or \"cookie:NAME\""
);

/// Prefixes that every request carries; reserving them would remove its own framing.
const HEADER_STARTS: [&str; 3] = ["content-", "accept-", "x-forwarded-"];

/// An Ed25519 public key as 43 base64url characters, or `""` for none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(pub Option<[u8; 32]>);

impl Setting for PublicKey {
    fn allowed() -> String {
        "43 characters of base64url as in feed-signing.pub, or \"\" for none".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("") => Some(Self(None)),
            Some(text) => {
                decode_public_key(text).map(|key| Self(Some(key))).or_else(|| reader.refuse(value))
            }
            None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        let text = self.0.map(|key| URL_SAFE_NO_PAD.encode(key));
        toml::Value::String(text.unwrap_or_default())
    }
}

/// Where the operator's listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A socket file of mode 0600: whoever may open it may do everything.
    Socket(PathBuf),
    /// An IP address and a port.
    Tcp(SocketAddr),
}

impl AdminAddress {
    /// Whether nobody on another machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Tcp(address) => address.ip().is_loopback(),
        }
    }

    /// The address, with the path of a socket file as `resolve` reads it.
    fn parse(text: &str, resolve: impl FnOnce(&str) -> PathBuf) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) if path.is_empty() || path.contains('\0') => None,
            Some(path) => Some(Self::Socket(resolve(path))),
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, |path| path.into()).ok_or_else(|| format!("allowed: {}", Self::allowed()))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Setting for AdminAddress {
    fn allowed() -> String {
        "an IP address and a port such as \"127.0.0.1:9901\", or \"unix:PATH\" for a socket file"
            .to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = value.get_ref().as_str();
        let parsed = text.and_then(|text| Self::parse(text, |path| reader.resolve(path)));
        parsed.or_else(|| reader.refuse(value))
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordSink {
    /// Appended to this file.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
}

impl Setting for RecordSink {
    fn allowed() -> String {
        "\"stdout\", \"off\" or \"file:PATH\"".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("stdout") => Some(Self::Stdout),
            Some("off") => Some(Self::Off),
            Some(text) => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() && !path.contains('\0') => {
                    Some(Self::File(reader.resolve(path)))
                }
                Some(_) | None => reader.refuse(value),
            },
            None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(match self {
            Self::File(path) => format!("file:{}", path.display()),
            Self::Off => "off".to_owned(),
            Self::Stdout => "stdout".to_owned(),
        })
    }
}

fn is_token(text: &str, longest: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.len() <= longest && text.bytes().all(allowed)
}

fn is_public_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\?#@<>".contains(&b))
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `host:port`, where the host is a name, an IPv4 address or an IPv6 address in brackets.
pub fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let port_fits = !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(&host.to_ascii_lowercase()),
    };
    port_fits && host_fits
}

/// The 32 bytes of a public key written as base64url without padding.
pub fn decode_public_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
