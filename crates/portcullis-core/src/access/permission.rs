//! One right, `type:verb`, and the closed list of types that administer Portcullis itself.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest type or verb, in bytes.
const WORD_BYTES: usize = 64;

/// A right such as `cluster:read`: exactly one type and one verb, no wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    of_type: Word,
    verb: Word,
}

impl Permission {
    /// The part before the colon.
    pub fn of_type(&self) -> &Word {
        &self.of_type
    }

    /// The part after the colon.
    pub fn verb(&self) -> &Word {
        &self.verb
    }

    /// The right of `verb` over `of_type`.
    pub fn new(of_type: Word, verb: Word) -> Permission {
        Permission { of_type, verb }
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Permission, PermissionError> {
        let (of_type, verb) = text.split_once(':').ok_or(PermissionError::Shape)?;
        Ok(Permission { of_type: of_type.parse()?, verb: verb.parse()? })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.of_type, self.verb)
    }
}

/// A type or a verb: `[a-z0-9][a-z0-9_.-]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Box<str>);

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names a type of Portcullis' own administration, which `*:verb` and `*:*` never
    /// reach.
    pub fn is_management_type(&self) -> bool {
        MANAGEMENT_TYPES.iter().any(|management| management.name == self.as_str())
    }
}

impl FromStr for Word {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Word, PermissionError> {
        if is_word(text) { Ok(Word(text.into())) } else { Err(PermissionError::Word) }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` has the shape of a type, a verb or a resource kind.
pub(crate) fn is_word(text: &str) -> bool {
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    starts_well
        && text.len() <= WORD_BYTES
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-')
        })
}

/// Why a text is no permission.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum PermissionError {
    /// No colon.
    #[error("a permission is `type:verb`, such as `cluster:read`")]
    Shape,
    /// A type or a verb with other characters, or too long.
    #[error(
        "a type or verb has 1 to 64 characters of a-z 0-9 _ . - and starts with a letter or digit"
    )]
    Word,
}

/// A type of Portcullis' own administration and the verbs it knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ManagementType {
    /// The type.
    pub name: &'static str,
    /// Its verbs.
    pub verbs: &'static [&'static str],
}

/// Every management type (service-accounts.md 9.4). Any other type is a data type.
pub static MANAGEMENT_TYPES: [ManagementType; 15] = [
    management("access", &["explain"]),
    management("api_key", &["read", "create", "update", "rotate", "delete", "import", "diagnose"]),
    management("audit_event", &["read"]),
    management("credential", &["verify"]),
    management("gateway", &["read", "delete"]),
    management("group", CRUD),
    management("group_member", &["read", "create", "delete"]),
    management("organization", &["read", "update"]),
    management("resource", CRUD),
    management("role", CRUD),
    management("role_binding", CRUD),
    management("security_policy", CRUD),
    management("service_account", CRUD),
    management("usage", &["read"]),
    management("user", &["read", "create", "delete"]),
];

const CRUD: &[&str] = &["read", "create", "update", "delete"];

const fn management(name: &'static str, verbs: &'static [&'static str]) -> ManagementType {
    ManagementType { name, verbs }
}

#[cfg(test)]
mod tests {
    use super::{MANAGEMENT_TYPES, Permission, PermissionError, Word};

    fn parse(text: &str) -> Result<Permission, PermissionError> {
        text.parse()
    }

    #[test]
    fn a_permission_is_a_type_and_a_verb() {
        let permission = parse("cluster:read").expect("a plain permission");
        assert_eq!(permission.of_type().as_str(), "cluster");
        assert_eq!(permission.verb().as_str(), "read");
        assert_eq!(permission.to_string(), "cluster:read");
        assert_eq!(parse("a.b-c_d:9x").map(|p| p.to_string()), Ok("a.b-c_d:9x".to_owned()));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "cluster", "cluster.read"] {
            assert_eq!(parse(text), Err(PermissionError::Shape), "{text}");
        }
        let too_long = format!("{}:read", "a".repeat(65));
        for text in [
            ":", "a:", ":a", "a:b:c", "A:read", "a:Read", "_a:b", "-a:b", ".a:b", "a b:c",
            "*:read", "a:*", "ä:b", &too_long,
        ] {
            assert_eq!(parse(text), Err(PermissionError::Word), "{text}");
        }
    }

    #[test]
    fn management_types_are_a_closed_sorted_list_of_words() {
        let names: Vec<&str> = MANAGEMENT_TYPES.iter().map(|t| t.name).collect();
        assert!(names.is_sorted());
        for management in &MANAGEMENT_TYPES {
            let word: Word = management.name.parse().expect("a management type is a word");
            assert!(word.is_management_type());
            for verb in management.verbs {
                verb.parse::<Word>().expect("a management verb is a word");
            }
        }
        let data: Word = "cluster".parse().expect("a word");
        assert!(!data.is_management_type());
    }
}
