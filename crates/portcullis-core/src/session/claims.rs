//! The claims of a token: what it says, in types that cannot be wrong.

use serde_json::{Map, Value, json};

use crate::access::{Pattern, Permission, allows};
use crate::key::KeyId;

use super::LONGEST_LIFE_S;

/// Whether a token is checked against its live key on each use.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is, and dies with its key.
    Bound,
    /// Its audience checks it alone; gateways and the control plane refuse it.
    Detached,
}

impl Mode {
    /// As it is written in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Bound => "bound",
            Mode::Detached => "detached",
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub iss: Box<str>,
    /// Who may take it.
    pub aud: Vec<Box<str>>,
    /// The account.
    pub sub: Box<str>,
    /// The account's organization.
    pub org_id: Box<str>,
    /// The key it was exchanged for; also `client_id`.
    pub key_id: KeyId,
    /// The key's generation then.
    pub key_gen: u32,
    /// Whether it is bound to its key.
    pub mode: Mode,
    /// What it is narrowed to, if it is.
    pub scope: Option<Vec<Pattern>>,
    /// Seconds since 1970 at which it was issued.
    pub iat_s: u64,
    /// Seconds since 1970 before which it is accepted.
    pub exp_s: u64,
    /// Its own name.
    pub jti: Box<str>,
}

/// Most audiences of one token.
const MOST_AUDIENCES: usize = 8;

impl Claims {
    /// Whether the token's own scope lets the permission through.
    pub fn permits(&self, needed: &Permission) -> bool {
        self.scope.as_ref().is_none_or(|scope| allows(scope, needed))
    }

    /// The audiences besides `own`, which is whoever reads this. A token that names any is for
    /// these alone: places of the resource tree, and what is at or below one of them.
    pub fn bounds<'c>(&'c self, own: &'c str) -> impl Iterator<Item = &'c str> {
        self.aud.iter().map(|aud| &**aud).filter(move |aud| *aud != own)
    }

    /// The scope as it is written: words with one blank between them.
    pub fn scope_text(&self) -> Option<String> {
        self.scope.as_ref().map(|scope| {
            let words: Vec<String> = scope.iter().map(Pattern::to_string).collect();
            words.join(" ")
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let key_id = self.key_id.to_string();
        let mut json = json!({
            "iss": self.iss,
            "aud": match &*self.aud {
                [one] => json!(one),
                several => json!(several),
            },
            "sub": self.sub,
            "client_id": key_id,
            "org_id": self.org_id,
            "key_id": key_id,
            "key_gen": self.key_gen,
            "mode": self.mode.as_str(),
            "iat": self.iat_s,
            "exp": self.exp_s,
            "jti": self.jti,
        });
        if let (Some(scope), Value::Object(members)) = (self.scope_text(), &mut json) {
            members.insert("scope".to_owned(), Value::String(scope));
        }
        json
    }

    /// Reads claims; `None` unless each is there, of its type, and no other is: one that is not
    /// known here might have narrowed the token.
    pub(super) fn of_json(json: Value) -> Option<Claims> {
        let Value::Object(mut members) = json else { return None };
        let key_id = text(&mut members, "key_id")?;
        if text(&mut members, "client_id")? != key_id {
            return None;
        }
        let scope = match members.remove("scope") {
            None => None,
            Some(Value::String(words)) => Some(read_scope(&words)?),
            Some(_) => return None,
        };
        let claims = Claims {
            iss: text(&mut members, "iss")?,
            aud: audiences(members.remove("aud")?)?,
            sub: text(&mut members, "sub")?,
            org_id: text(&mut members, "org_id")?,
            key_id: key_id.parse().ok()?,
            key_gen: u32::try_from(number(&mut members, "key_gen")?).ok()?,
            mode: match &*text(&mut members, "mode")? {
                "bound" => Mode::Bound,
                "detached" => Mode::Detached,
                _ => return None,
            },
            scope,
            iat_s: number(&mut members, "iat")?,
            exp_s: number(&mut members, "exp")?,
            jti: text(&mut members, "jti")?,
        };
        let life_s = claims.exp_s.checked_sub(claims.iat_s)?;
        (members.is_empty() && (1..=LONGEST_LIFE_S).contains(&life_s)).then_some(claims)
    }
}

/// The patterns of a scope, if every word of it is one.
fn read_scope(words: &str) -> Option<Vec<Pattern>> {
    words.split(' ').map(|word| word.parse().ok()).collect()
}

fn audiences(value: Value) -> Option<Vec<Box<str>>> {
    let named = |value: Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.into_boxed_str()),
        _ => None,
    };
    match value {
        Value::Array(items) if (1..=MOST_AUDIENCES).contains(&items.len()) => {
            items.into_iter().map(named).collect()
        }
        one => Some(vec![named(one)?]),
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<Box<str>> {
    match members.remove(name)? {
        Value::String(text) if !text.is_empty() => Some(text.into_boxed_str()),
        _ => None,
    }
}

fn number(members: &mut Map<String, Value>, name: &str) -> Option<u64> {
    members.remove(name)?.as_u64()
}
