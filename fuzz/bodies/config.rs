//! The configuration file and the environment over it.

use std::collections::BTreeMap;
use std::path::Path;

/// Lines that begin with `PORTCULLIS__` are variables of the environment, the rest is the file. It
/// is read, or every fault says something; what was read is written and read again as the same.
pub(crate) fn config(data: &[u8]) {
    let mut environment = BTreeMap::new();
    let mut text = String::new();
    for line in super::lines(data) {
        match line.split_once('=') {
            Some((name, value)) if name.starts_with("PORTCULLIS__") => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    match portcullis::config::parse(&text, Path::new("/etc"), &environment) {
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|fault| !fault.what.is_empty()));
        }
        Ok(config) => {
            let written = portcullis::config::effective(&config);
            let again = portcullis::config::parse(&written, Path::new("/etc"), &BTreeMap::new());
            assert_eq!(again.as_ref(), Ok(&config), "{written}");
            let _ = portcullis::config::warnings(&config);
        }
    }
}
