//! One operation on many objects from the command line: in calls of at most 200, each object with its
//! own end.

use std::path::PathBuf;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Negative;
use super::api::Api;
use super::output::{Column, Output};
use super::progress::Progress;
use crate::files::write_token;

/// What one call takes.
const MOST: usize = 200;

const COLUMNS: &[Column] =
    &[("ID", "/id"), ("STATUS", "/status"), ("CODE", "/code"), ("WHY", "/detail")];
const COLUMNS_WITH_VALUES: &[Column] =
    &[("ID", "/id"), ("STATUS", "/status"), ("CODE", "/code"), ("KEY", "/value")];

/// Calls `path` with all of `ids`, or once with `all` if there are none, and collects the results.
pub(super) async fn call(
    api: &Api,
    path: &str,
    body: &Value,
    ids: Option<&[String]>,
) -> anyhow::Result<Vec<Value>> {
    let calls: Vec<(&str, Value)> = match ids {
        Some(ids) => ids.chunks(MOST).map(|some| ("ids", json!(some))).collect(),
        None => vec![("all", json!(true))],
    };
    let mut progress = Progress::of("changed");
    let mut results = Vec::new();
    for (name, value) in calls {
        let mut body = body.clone();
        if let Some(members) = body.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
        let answer = api.change(Method::POST, path, Some(&body)).await?;
        let found = answer.get("results").and_then(Value::as_array);
        results.extend(found.context("the server answered without results")?.iter().cloned());
        progress.reached(results.len() as u64);
    }
    Ok(results)
}

/// Shows the results; new secrets go to files in `directory`, if one is named. An object that failed
/// makes the command fail.
pub(super) fn show(
    output: Output,
    mut results: Vec<Value>,
    directory: Option<&PathBuf>,
) -> anyhow::Result<()> {
    let has_values = results.iter().any(|result| result.get("value").is_some());
    if let Some(directory) = directory {
        for result in &mut results {
            store(result, directory)?;
        }
    }
    let columns = match has_values && directory.is_none() {
        true => COLUMNS_WITH_VALUES,
        false => COLUMNS,
    };
    output.list(columns, &results)?;
    match (has_values, directory) {
        (true, Some(directory)) => Output::note(&format!(
            "The keys are in {}, one file each; they are not shown again.",
            directory.display()
        )),
        (true, None) => Output::note("These are the keys. They are shown only now: store them."),
        (false, _) => {}
    }
    let failed = results.iter().any(|result| result.get("status") != Some(&json!(200)));
    if failed { Err(Negative.into()) } else { Ok(()) }
}

/// Moves the secret of a result into a file named by its id.
fn store(result: &mut Value, directory: &std::path::Path) -> anyhow::Result<()> {
    let Some(members) = result.as_object_mut() else { return Ok(()) };
    members.remove("secret");
    let Some(Value::String(value)) = members.remove("value") else { return Ok(()) };
    let value = Zeroizing::new(value);
    let id = members.get("id").and_then(Value::as_str).unwrap_or_default();
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    anyhow::ensure!(plain, "the server sent an id that names no file");
    let file = directory.join(format!("{id}.key"));
    write_token(&file, &value)?;
    members.insert("secret_file".to_owned(), json!(file));
    Ok(())
}
