//! `portcullis man`: man pages, made of the same definition as parsing and help.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::output::Output;

/// Print the man page, or write those of all commands.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for every command into this directory, such as /usr/local/share/man/man1.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, mut command: clap::Command) -> anyhow::Result<()> {
        command.build();
        let Some(directory) = self.to else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return Output::text().raw(&page);
        };
        let failed = || format!("{}: the man pages cannot be written there", directory.display());
        std::fs::create_dir_all(&directory).with_context(failed)?;
        write_pages(&command, &directory).with_context(failed)
    }
}

/// The page of a command and those of all below it: `portcullis-key-rotate.1`.
fn write_pages(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below, directory)?;
    }
    clap_mangen::Man::new(command.clone()).generate_to(directory)?;
    Ok(())
}
