//! A route's path as it is written: literal segments, `{name}` for one segment, `{*rest}` at the
//! end for zero or more bytes after the slash.

use super::scan::scan;
use super::spec::RouteFault;

/// The most captures in one path.
pub const MAX_CAPTURES: usize = 8;

/// The most segments in one path: bounds the depth of every lookup.
const MAX_SEGMENTS: usize = 64;

/// One segment of a route's path. The order is the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Segment {
    /// These bytes.
    Literal(Box<str>),
    /// Any bytes, at least one.
    Capture,
    /// All that is left, slashes included, or nothing.
    Rest,
}

/// A route's path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    pub(super) segments: Vec<Segment>,
    /// The names of the captures, in the order of the segments.
    pub(super) captures: Box<[Box<str>]>,
    /// `%2F` occurs in a literal.
    pub(super) encoded_slash: bool,
}

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<PathPattern, RouteFault> {
        let after_root = text.strip_prefix('/').ok_or(RouteFault::PathStart)?;
        let mut segments = Vec::new();
        let mut captures: Vec<Box<str>> = Vec::new();
        // Captures replaced by a letter, this must be a path that a request can have.
        let mut plain = String::with_capacity(text.len());
        for written in after_root.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(RouteFault::RestNotLast);
            }
            plain.push('/');
            let inner = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let Some(inner) = inner else {
                if written.contains(['{', '}']) {
                    return Err(RouteFault::CapturePart(written.to_owned()));
                }
                plain.push_str(written);
                segments.push(Segment::Literal(written.into()));
                continue;
            };
            plain.push('x');
            let (segment, name) = match inner.strip_prefix('*') {
                Some(name) => (Segment::Rest, name),
                None => (Segment::Capture, inner),
            };
            if !is_capture_name(name) {
                return Err(RouteFault::CaptureName(name.to_owned()));
            }
            if captures.iter().any(|capture| **capture == *name) {
                return Err(RouteFault::CaptureTwice(name.to_owned()));
            }
            captures.push(name.into());
            segments.push(segment);
        }
        if captures.len() > MAX_CAPTURES || segments.len() > MAX_SEGMENTS {
            return Err(RouteFault::TooLong);
        }
        match scan(&plain) {
            Ok(remarks) if remarks.is_canonical() && remarks.length == plain.len() => {
                Ok(PathPattern {
                    segments,
                    captures: captures.into(),
                    encoded_slash: remarks.encoded_slash,
                })
            }
            Ok(_) => Err(RouteFault::NotCanonical),
            Err(flaw) => Err(RouteFault::Path(flaw)),
        }
    }

    /// Whether every path of this pattern is `prefix` or continues it after a slash. A prefix is
    /// made of literal segments, none of them empty.
    pub(super) fn is_under(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix.split('/').skip(1).all(|wanted| match segments.next() {
            Some(Segment::Literal(found)) => !wanted.is_empty() && **found == *wanted,
            Some(Segment::Capture | Segment::Rest) | None => false,
        })
    }
}

fn is_capture_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
