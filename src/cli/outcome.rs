//! What a call to the admin API came to: the changed object with a key shown once, or the refusal
//! with what to do next.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::output::Output;
use crate::client::{FieldFault, Problem};
use crate::files::write_token;

/// A secret is never written over another file: the one before may still be in use.
pub(super) fn refuse_existing(secret_file: Option<&PathBuf>) -> anyhow::Result<()> {
    match secret_file {
        Some(path) if path.symlink_metadata().is_ok() => {
            bail!("{} exists; remove it, or name another --secret-file", path.display())
        }
        Some(_) | None => Ok(()),
    }
}

/// Shows the result of a change. A new key's value is shown once, or goes to `secret_file`; on a
/// terminal a person who named none is offered one.
pub(super) fn show_change(
    output: Output,
    mut response: Value,
    object: &str,
    secret_file: Option<&PathBuf>,
) -> anyhow::Result<()> {
    let value = match response.get("value") {
        Some(Value::String(value)) => Some(Zeroizing::new(value.clone())),
        _ => None,
    };
    let offered = match (&value, secret_file) {
        (Some(_), None) if !output.is_json() => offered_file()?,
        _ => None,
    };
    let secret_file = secret_file.or(offered.as_ref());
    if let (Some(path), Some(value)) = (secret_file, &value) {
        write_token(path, value)?;
        if let Some(members) = response.as_object_mut() {
            members.remove("value");
            members.remove("secret");
            members.insert("secret_file".to_owned(), json!(path));
        }
    }
    if output.is_json() {
        return output.json(&response);
    }
    output.object(response.get(object).unwrap_or(&response))?;
    if let (Some(key), true) = (response.get("key"), object != "key") {
        output.line("\nkey")?;
        output.object(key)?;
    }
    match (value, secret_file) {
        (Some(_), Some(path)) => {
            Output::note(&format!("The key is in {}; it is not shown again.", path.display()));
        }
        (Some(value), None) => {
            output.line(&format!("\n{}", value.as_str()))?;
            Output::note("This is the key. It is shown only now: store it.");
        }
        (None, _) => {}
    }
    Ok(())
}

/// The file that a person wants the key in. One that exists is asked for again: the key exists by
/// now, and must not be lost to a refusal.
fn offered_file() -> anyhow::Result<Option<PathBuf>> {
    loop {
        let name = Output::ask("File for the key, mode 0600 (empty: show it here):")?;
        if name.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(name);
        match refuse_existing(Some(&path)) {
            Ok(()) => return Ok(Some(path)),
            Err(error) => Output::note(&error.to_string()),
        }
    }
}

/// The problem of a refused call, with what to do next.
pub(super) fn refusal(problem: &Problem) -> anyhow::Error {
    let Problem { status, code, detail, errors, required_permission, .. } = problem;
    let mut message = format!("refused ({status} {code})");
    if !detail.is_empty() {
        message.push_str(": ");
        message.push_str(detail);
    }
    for FieldFault { field, code, detail } in errors {
        message.push_str(&format!("\n  {field}: {detail} ({code})"));
    }
    let needed = required_permission.as_deref().unwrap_or_default();
    let advice = match (*status, code.as_str()) {
        (401, _) => "the token is not accepted: is it of this server? --token-file names another",
        (403, _) if needed == "operator" => {
            "use the operator's token, which `portcullis up` leaves in its data directory: \
             --token-file DIR/operator-token"
        }
        (403, _) if !needed.is_empty() => {
            if !message.contains(needed) {
                message.push_str(&format!("; it needs {needed}"));
            }
            "use a token of an account or user whose role has it"
        }
        (404, _) => "the list commands show what there is",
        (409, "operation_not_offered") => "`portcullis org policy show` shows what is offered",
        (409, "service_account_inactive") => "`portcullis account activate` switches it on",
        (409, "username_taken" | "name_taken") => "choose another name",
        (409, "role_in_use") => "`portcullis binding list --role` shows who has it",
        (409, "last_owner") => "make somebody else an owner first",
        (429 | 503, _) => "try again in a moment",
        _ => "",
    };
    if !advice.is_empty() {
        message.truncate(message.trim_end_matches('.').len());
        message.push_str("; ");
        message.push_str(advice);
    }
    anyhow!(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_fields_and_what_to_do() {
        let refused = |status: u16, problem: Value| {
            let problem: Problem = serde_json::from_value(problem).expect("a problem");
            refusal(&Problem { status, ..problem }).to_string()
        };
        let problem = json!({"code": "validation_failed", "detail": "see errors",
            "errors": [{"field": "name", "code": "required", "detail": "is missing"}]});
        let expected = "refused (422 validation_failed): see errors\n  name: is missing (required)";
        assert_eq!(refused(422, problem), expected);
        let forbidden =
            json!({"code": "permission_denied", "required_permission": "api_key:create"});
        assert!(refused(403, forbidden).contains("it needs api_key:create"));
        let taken = json!({"code": "name_taken", "detail": "Another key has this name."});
        let expected = "refused (409 name_taken): Another key has this name; choose another name";
        assert_eq!(refused(409, taken), expected);
    }
}
