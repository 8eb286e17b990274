//! What is wrong with a configuration, all of it at once.
//!
//! A fault names the key and says what is allowed. It never stops the reading of other keys.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `section.key`, or empty when the whole file is meant.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
    /// Where it was written.
    pub place: Place,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The built-in defaults, or no particular place.
    BuiltIn,
    /// An environment variable.
    Environment(String),
    /// A line of the file, counted from 1.
    Line(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.place {
            Place::BuiltIn => Ok(()),
            Place::Environment(name) => write!(f, " (from {name})"),
            Place::Line(line) => write!(f, " (line {line})"),
        }
    }
}

/// Every fault of one configuration; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file they are in, if there is one.
    pub file: Option<PathBuf>,
    /// In the order of the file's sections.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// One fault that concerns a whole file.
    pub fn of_file(file: &Path, what: String) -> Self {
        let fault = Fault { key: String::new(), what, place: Place::BuiltIn };
        Self { file: Some(file.to_path_buf()), faults: vec![fault] }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let plural = if count == 1 { "" } else { "s" };
        match &self.file {
            Some(file) => write!(f, "{}: {count} error{plural}", file.display())?,
            None => write!(f, "configuration: {count} error{plural}")?,
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
