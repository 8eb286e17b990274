//! Names that people give: what is allowed in them and when two are the same.
//!
//! A name ends up in logs, terminals and consoles, so none may hold characters that move the cursor
//! or turn the direction of writing. A name that must be unique may not hold invisible characters
//! either, or two names that look the same would be different.

use std::fmt;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// The longest name, in characters.
pub const NAME_CHARACTERS: usize = 255;

/// The unique name of an account within its organization, such as `ci` or `finance team`.
///
/// Written as given, in Unicode's composed form (NFC), without white space at the ends. Two
/// usernames are the same if their [`folded`](Username::folded) forms are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    shown: String,
    folded: String,
}

impl Username {
    /// Reads a username.
    pub fn parse(text: &str) -> Result<Username, NameFault> {
        let shown: String = text.trim().nfc().collect();
        check(&shown, |c| is_control(c) || is_invisible(c))?;
        let folded = fold(&shown);
        Ok(Username { shown, folded })
    }

    /// The username for an account that was given only a display name: lower-case letters and
    /// digits, everything between them one `-`. `CI für Köln (2)` gives `ci-für-köln-2`.
    pub fn slug(display_name: &DisplayName) -> Result<Username, NameFault> {
        let lower: String = display_name.as_str().nfc().flat_map(char::to_lowercase).collect();
        let words: Vec<&str> =
            lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        Username::parse(&words.join("-"))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The form for comparison. Letter case is gone: each character was mapped to upper and then
    /// to lower case, which joins at least what Unicode's case folding joins (`ß` and `SS`, the two
    /// sigmas) and also the dotless `ı` with `i`, which look too much alike to tell two accounts
    /// apart.
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a console shows for an account. Need not be unique; kept exactly as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Reads a display name. Zero-width joiners are allowed: Persian and many emoji need them.
    pub fn parse(text: &str) -> Result<DisplayName, NameFault> {
        check(text, |c| is_control(c) || (is_invisible(c) && !is_joiner(c)))?;
        Ok(DisplayName(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a key, unique among the living keys of its owner. In Unicode's composed form (NFC);
/// case and inner spaces count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Reads a key's name.
    pub fn parse(text: &str) -> Result<KeyName, NameFault> {
        let composed: String = text.nfc().collect();
        check(&composed, |c| is_control(c) || is_invisible(c))?;
        if composed.trim().len() != composed.len() {
            return Err(NameFault::Edges);
        }
        Ok(KeyName(composed))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// Nothing, or nothing but white space.
    #[error("it is empty; 1 to {NAME_CHARACTERS} characters are allowed")]
    Empty,
    /// White space at the beginning or end.
    #[error("it begins or ends with white space")]
    Edges,
    /// A control or formatting character.
    #[error(
        "it holds U+{:04X}; control characters, marks that turn the direction of writing and \
         invisible characters are not allowed",
        u32::from(*.0)
    )]
    Forbidden(char),
    /// Too many characters.
    #[error("it has {0} characters; 1 to {NAME_CHARACTERS} are allowed")]
    TooLong(usize),
}

fn check(text: &str, forbidden: impl Fn(char) -> bool) -> Result<(), NameFault> {
    if text.trim().is_empty() {
        return Err(NameFault::Empty);
    }
    let characters = text.chars().count();
    if characters > NAME_CHARACTERS {
        return Err(NameFault::TooLong(characters));
    }
    match text.chars().find(|c| forbidden(*c)) {
        Some(found) => Err(NameFault::Forbidden(found)),
        None => Ok(()),
    }
}

/// Control characters, line and paragraph separators, and everything that changes the direction in
/// which text runs.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061C}'
            | '\u{200E}' | '\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}')
}

/// Characters without a width of their own that leave no trace on a screen, and code points that
/// no text uses.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}'
        | '\u{034F}'
        | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}'
        | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200D}'
        | '\u{2060}'..='\u{2065}' | '\u{206A}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFF0}'..='\u{FFFB}' | '\u{FFFE}' | '\u{FFFF}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

/// Upper and then lower case, character by character and so without rules that depend on the place
/// in a word; composed before and after.
fn fold(text: &str) -> String {
    let upper: String = text.chars().flat_map(char::to_uppercase).nfc().collect();
    upper.chars().flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{DisplayName, KeyName, NameFault, Username};

    fn folded(text: &str) -> String {
        Username::parse(text).expect("a username").folded().to_owned()
    }

    #[test]
    fn usernames_are_compared_without_case_composition_and_outer_space() {
        let same = [
            ("ci", " CI\t"),
            ("Straße", "STRASSE"),
            ("k\u{f6}ln", "KO\u{308}LN"),
            ("ΣΑΣ", "σας"),
            ("finance team", "Finance Team"),
        ];
        for (one, other) in same {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        assert_ne!(folded("finance team"), folded("finance-team"));
        assert_ne!(folded("a  b"), folded("a b"));
        let shown = Username::parse("  Ko\u{308}ln ").expect("a username");
        assert_eq!(shown.as_str(), "K\u{f6}ln");
    }

    #[test]
    fn names_have_one_to_255_characters() {
        let longest = "ä".repeat(255);
        let too_long = "ä".repeat(256);
        assert!(Username::parse(&longest).is_ok());
        assert!(DisplayName::parse(&longest).is_ok());
        assert!(KeyName::parse(&longest).is_ok());
        let refused = NameFault::TooLong(256);
        assert_eq!(Username::parse(&too_long), Err(refused));
        assert_eq!(DisplayName::parse(&too_long), Err(refused));
        assert_eq!(KeyName::parse(&too_long), Err(refused));
        for empty in ["", " ", "\u{3000}\t"] {
            assert_eq!(Username::parse(empty), Err(NameFault::Empty));
            assert_eq!(DisplayName::parse(empty), Err(NameFault::Empty));
            assert_eq!(KeyName::parse(empty), Err(NameFault::Empty));
        }
    }

    #[test]
    fn characters_that_deceive_a_reader_are_refused() {
        let everywhere = [
            '\0',
            '\u{1b}',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{61c}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{200b}',
            '\u{feff}',
            '\u{ad}',
            '\u{e0041}',
        ];
        for c in everywhere {
            let text = format!("a{c}b");
            let refused = NameFault::Forbidden(c);
            assert_eq!(Username::parse(&text), Err(refused));
            assert_eq!(DisplayName::parse(&text), Err(refused));
            assert_eq!(KeyName::parse(&text), Err(refused));
        }
        for joiner in ['\u{200c}', '\u{200d}'] {
            let text = format!("a{joiner}b");
            assert!(DisplayName::parse(&text).is_ok());
            assert_eq!(Username::parse(&text), Err(NameFault::Forbidden(joiner)));
            assert_eq!(KeyName::parse(&text), Err(NameFault::Forbidden(joiner)));
        }
        assert_eq!(
            NameFault::Forbidden('\u{202e}').to_string(),
            "it holds U+202E; control characters, marks that turn the direction of writing and \
             invisible characters are not allowed"
        );
    }

    #[test]
    fn a_key_name_has_no_outer_space_and_keeps_its_case() {
        assert_eq!(KeyName::parse(" ci"), Err(NameFault::Edges));
        assert_eq!(KeyName::parse("ci "), Err(NameFault::Edges));
        assert_ne!(KeyName::parse("ci"), KeyName::parse("CI"));
        assert_eq!(KeyName::parse("o\u{308}"), KeyName::parse("\u{f6}"));
    }

    #[test]
    fn a_slug_is_made_of_the_letters_and_digits_of_a_display_name() {
        let slug = |text| {
            let display = DisplayName::parse(text).expect("a display name");
            Username::slug(&display).map(|username| username.as_str().to_owned())
        };
        assert_eq!(slug("CI für Köln (2)"), Ok("ci-für-köln-2".to_owned()));
        assert_eq!(slug("  deploy -- bot  "), Ok("deploy-bot".to_owned()));
        assert_eq!(slug("!!!"), Err(NameFault::Empty));
    }

    proptest! {
        #[test]
        fn reading_a_username_again_changes_nothing(text in any::<String>()) {
            if let Ok(username) = Username::parse(&text) {
                prop_assert_eq!(Username::parse(username.as_str()), Ok(username.clone()));
            }
        }

        #[test]
        fn upper_and_lower_case_of_a_username_fold_to_the_same(text in "[a-zß-öø-ÿα-ωа-я0-9 .-]{1,20}") {
            if let Ok(username) = Username::parse(&text) {
                let upper = folded(&username.as_str().to_uppercase());
                prop_assert_eq!(username.folded(), upper);
            }
        }

        #[test]
        fn no_text_makes_a_name_panic(text in any::<String>()) {
            let _ = KeyName::parse(&text);
            if let Ok(display) = DisplayName::parse(&text)
                && let Ok(slug) = Username::slug(&display)
            {
                prop_assert!(!slug.as_str().is_empty());
            }
        }
    }
}
