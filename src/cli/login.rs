//! `portcullis login`: keeps a key for later commands in a file of the user's own, after the control
//! plane has accepted it. The key is typed in without an echo or comes from a pipe.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use zeroize::Zeroizing;

use super::api::Remote;
use super::output::Output;
use crate::config;
use crate::files::write_token;

/// No key is longer, in any spelling.
const MAX_KEY_BYTES: u64 = 4096;

/// Keep a key for later commands.
#[derive(Debug, Args)]
pub(super) struct Login {
    #[command(flatten)]
    remote: Remote,
}

impl Login {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file =
            kept_token().ok_or_else(|| anyhow!("neither XDG_CONFIG_HOME nor HOME is set"))?;
        let key = typed_or_piped()?;
        let who = self.remote.with_token(key.clone(), async |api| api.read("/v1/whoami").await)?;
        let directory = file.parent().expect("the file lies in a directory");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        write_token(&file, &key)?;
        let name = who.pointer("/principal/username").and_then(|it| it.as_str());
        Output::note(&format!(
            "logged in as {}; the key is kept in {} until `portcullis logout`",
            name.unwrap_or("the operator"),
            file.display()
        ));
        self.remote.output().object(&who)
    }
}

/// Forgets the kept key.
pub(super) fn logout() -> anyhow::Result<()> {
    let file = kept_token().ok_or_else(|| anyhow!("neither XDG_CONFIG_HOME nor HOME is set"))?;
    match std::fs::remove_file(&file) {
        Ok(()) => {
            Output::note(&format!("{} is gone; the key itself still works", file.display()));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Output::note("nobody was logged in");
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", file.display())),
    }
}

/// Where `login` keeps the key.
pub(super) fn kept_token() -> Option<PathBuf> {
    let configuration = config::variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || config::variable("HOME").map(|home| PathBuf::from(home).join(".config"));
    Some(configuration.or_else(home)?.join("portcullis").join("token"))
}

fn typed_or_piped() -> anyhow::Result<Zeroizing<String>> {
    let text = if io::stdin().is_terminal() {
        Zeroizing::new(rpassword::prompt_password("Key: ").context("no key could be read")?)
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .lock()
            .take(MAX_KEY_BYTES + 1)
            .read_to_string(&mut text)
            .context("no key could be read from standard input")?;
        text
    };
    let key = Zeroizing::new(text.trim().to_owned());
    let well_formed = !key.is_empty()
        && key.len() as u64 <= MAX_KEY_BYTES
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    match well_formed {
        true => Ok(key),
        false => Err(anyhow!("that is no key; allowed: one line of visible ASCII characters")),
    }
}
