//! The resource a request speaks of, as its route derives it from the path: `org`, `kind/ref`, or
//! `kind/{capture}`.
//!
//! A reference is one capture or one literal and never a mixture: with `{a}-{b}` two different
//! paths could name the same resource.

use arrayvec::{ArrayString, ArrayVec};

use super::pattern::MAX_CAPTURES;
use crate::access::is_word;

/// The longest reference: what may stand for a resource in a path.
const REFERENCE_BYTES: usize = 128;

/// The longest resource: kind, slash, reference.
pub const RESOURCE_BYTES: usize = 64 + 1 + REFERENCE_BYTES;

/// A resource as the directory knows it.
pub type ResourceText = ArrayString<RESOURCE_BYTES>;

/// Whether `text` may stand for a resource: `[A-Za-z0-9._~-]{1,128}`. No escape, no slash.
pub(super) fn is_reference(text: &str) -> bool {
    (1..=REFERENCE_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'))
}

/// A route's `resource`, checked against the captures of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResourceTemplate {
    /// The capture with this number is the reference.
    Captured { kind: Box<str>, capture: usize },
    /// Always this one.
    Fixed(ResourceText),
}

impl ResourceTemplate {
    /// Reads a template. `None` if it has another shape, or names a capture the path has not.
    pub(super) fn parse(text: &str, captures: &[Box<str>]) -> Option<ResourceTemplate> {
        if text == "org" {
            return ArrayString::from(text).ok().map(ResourceTemplate::Fixed);
        }
        let (kind, reference) = text.split_once('/')?;
        if !is_word(kind) {
            return None;
        }
        let name = reference.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = name {
            let capture = captures.iter().position(|capture| **capture == *name)?;
            let kind = kind.into();
            return Some(ResourceTemplate::Captured { kind, capture });
        }
        if !is_reference(reference) {
            return None;
        }
        ArrayString::from(text).ok().map(ResourceTemplate::Fixed)
    }

    /// The resource for these captures. `None` if the capture cannot stand for a resource: then
    /// the route does not match.
    pub(super) fn read<'t, 'p>(
        &'t self,
        captures: &ArrayVec<&'p str, MAX_CAPTURES>,
    ) -> Option<Resource<'t, 'p>> {
        match self {
            ResourceTemplate::Captured { kind, capture } => {
                let reference = captures.get(*capture).copied()?;
                is_reference(reference).then_some(Resource::Captured { kind, reference })
            }
            ResourceTemplate::Fixed(text) => Some(Resource::Fixed(text)),
        }
    }
}

/// A resource that a request names. Its parts are checked and fit a [`ResourceText`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource<'t, 'p> {
    Captured { kind: &'t str, reference: &'p str },
    Fixed(&'t ResourceText),
}

impl Resource<'_, '_> {
    pub(super) fn render(self) -> ResourceText {
        match self {
            Resource::Captured { kind, reference } => {
                let mut text = ResourceText::new();
                for part in [kind, "/", reference] {
                    text.try_push_str(part)
                        .expect("a kind has up to 64 bytes and a reference up to 128");
                }
                text
            }
            Resource::Fixed(text) => *text,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrayvec::ArrayVec;

    use super::{ResourceTemplate, is_reference};

    fn render(template: &str, captures: &[(&str, &'static str)]) -> Option<String> {
        let names: Vec<Box<str>> = captures.iter().map(|(name, _)| (*name).into()).collect();
        let values: ArrayVec<&str, 8> = captures.iter().map(|(_, value)| *value).collect();
        let template = ResourceTemplate::parse(template, &names)?;
        template.read(&values).map(|resource| resource.render().to_string())
    }

    #[test]
    fn a_resource_is_the_organization_a_fixed_one_or_a_captured_one() {
        assert_eq!(render("org", &[]).as_deref(), Some("org"));
        assert_eq!(render("cluster/c-1", &[]).as_deref(), Some("cluster/c-1"));
        let captures = [("cluster", "c1"), ("node", "n.2")];
        assert_eq!(render("node/{node}", &captures).as_deref(), Some("node/n.2"));
    }

    #[test]
    fn other_templates_are_refused() {
        for template in [
            "",
            "root",
            "cluster",
            "cluster/",
            "/c1",
            "cluster/{}",
            "cluster/{other}",
            "cluster/{a}-{a}",
            "cluster/x{a}",
            "cluster/a/b",
            "Cluster/{a}",
            "cluster/a b",
            "{a}",
            "{a}/b",
        ] {
            assert_eq!(render(template, &[("a", "1")]), None, "{template}");
        }
    }

    #[test]
    fn only_unreserved_characters_stand_for_a_resource() {
        assert!(is_reference("aZ0._~-"));
        assert!(is_reference(&"a".repeat(128)));
        for text in ["", "a/b", "a%2Fb", "a b", "a:b", "ä", &"a".repeat(129)] {
            assert!(!is_reference(text), "{text}");
        }
        assert_eq!(render("a/{a}", &[("a", "x%2Fy")]), None);
    }

    #[test]
    fn the_longest_kind_and_reference_fit() {
        let kind = "k".repeat(64);
        let reference: &'static str = "r".repeat(128).leak();
        let rendered = render(&format!("{kind}/{{a}}"), &[("a", reference)]);
        assert_eq!(rendered, Some(format!("{kind}/{reference}")));
    }
}
