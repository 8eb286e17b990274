//! What a command prints: tables for people, JSON for scripts, complaints on standard error. Text
//! from a server is stripped of control characters before a terminal sees it.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;
use comfy_table::{Table, presets};
use serde_json::Value;

use super::Usage;

/// A column of a table: its heading and where its value is in the JSON object.
pub(crate) type Column = (&'static str, &'static str);

/// The members of an object that people look for first.
const FIRST: [&str; 11] = [
    "id",
    "well_formed",
    "username",
    "name",
    "kind",
    "ref",
    "state",
    "role_id",
    "subject",
    "owner",
    "permissions",
];

/// How a command prints.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// JSON if `json`, else text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Text, whatever the flags say.
    pub(crate) fn text() -> Self {
        Self { json: false }
    }

    /// Whether scripts read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Bytes as they are.
    pub(crate) fn raw(self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // The reader of a pipe that has seen enough is content.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("standard output cannot be written"),
        }
    }

    /// One line of text.
    pub(crate) fn line(self, text: &str) -> anyhow::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// A JSON document on one line.
    pub(crate) fn json(self, value: &Value) -> anyhow::Result<()> {
        self.line(&value.to_string())
    }

    /// A list of objects: an array for scripts, a table for people.
    pub(crate) fn list(self, columns: &[Column], items: &[Value]) -> anyhow::Result<()> {
        if self.json {
            return self.json(&Value::Array(items.to_vec()));
        }
        if items.is_empty() {
            return self.line("none");
        }
        let mut table = plain_table();
        table.set_header(columns.iter().map(|(heading, _)| *heading));
        for item in items {
            table.add_row(columns.iter().map(|(_, pointer)| cell(item.pointer(pointer))));
        }
        self.line(&table.trim_fmt())
    }

    /// One object: as it is for scripts, a line for each member that says something for people.
    pub(crate) fn object(self, object: &Value) -> anyhow::Result<()> {
        if self.json {
            return self.json(object);
        }
        let mut members: Vec<_> = object.as_object().into_iter().flatten().collect();
        members
            .retain(|(_, value)| !(value.is_null() || value.as_array().is_some_and(Vec::is_empty)));
        // The sort is stable: what is not in the list keeps the server's order.
        members.sort_by_key(|(name, _)| {
            FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len())
        });
        let mut table = plain_table();
        for (name, value) in members {
            match value {
                // Whoever has a kind is one person or account; any other object is a section.
                Value::Object(inner) if !inner.contains_key("kind") => {
                    for (inner_name, value) in inner {
                        table.add_row([words(&format!("{name}: {inner_name}")), cell(Some(value))]);
                    }
                }
                _ => {
                    table.add_row([words(name), cell(Some(value))]);
                }
            }
        }
        self.line(&table.trim_fmt())
    }

    /// Something a person should know besides the result.
    pub(crate) fn note(text: &str) {
        // Nobody can be told that standard error is closed.
        writeln!(io::stderr().lock(), "{}", printable(text)).unwrap_or_default();
    }

    /// Why the command failed.
    pub(crate) fn complain(text: &str) {
        let lines: Vec<String> = text.lines().map(printable).collect();
        writeln!(io::stderr().lock(), "portcullis: {}", lines.join("\n")).unwrap_or_default();
    }

    /// Asks for a line of text; empty without a terminal.
    pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(String::new());
        }
        write!(io::stderr().lock(), "{} ", printable(question)).context("cannot ask")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("no answer could be read")?;
        Ok(answer.trim().to_owned())
    }

    /// Asks before something that cannot be undone or breaks callers.
    pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
        if yes {
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            let message = format!("{question} Without a terminal this needs --yes.");
            return Err(Usage(message).into());
        }
        write!(io::stderr().lock(), "{} [y/N] ", printable(question)).context("cannot ask")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("no answer could be read")?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        anyhow::bail!("nothing was changed")
    }
}

/// A member's name as a person would write it.
fn words(name: &str) -> String {
    printable(&name.replace('_', " "))
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// A JSON value as a person would write it.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(items)) if items.iter().all(|item| !item.is_object()) => {
            let items: Vec<String> = items.iter().map(|item| cell(Some(item))).collect();
            if items.is_empty() { "-".to_owned() } else { items.join(", ") }
        }
        Some(Value::Object(members)) if members.is_empty() => "-".to_owned(),
        Some(Value::Object(members)) if members.contains_key("kind") => {
            let display = ["display", "username", "id"].iter().find_map(|name| members.get(*name));
            format!("{} {}", cell(members.get("kind")), cell(display))
        }
        Some(other) => printable(&other.to_string()),
    }
}

/// `text` without the characters that could steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_server_cannot_steer_the_terminal() {
        let hostile = Value::String("\u{1b}[2Jowned\u{9b}".to_owned());
        assert_eq!(cell(Some(&hostile)), "\u{fffd}[2Jowned\u{fffd}");
    }
}
