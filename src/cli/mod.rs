//! The command line: one file per family of commands, one definition for parsing, help,
//! completions and man pages. Commands on accounts, keys and so on talk to the admin API like any other client.
//! No secret is ever taken from argv.

mod account;
mod announce;
mod api;
mod audit;
mod batch;
mod binding;
mod configuration;
mod demo;
mod explain;
mod group;
mod key;
mod login;
mod man;
mod names;
mod org;
mod outcome;
mod output;
mod policy;
mod progress;
mod resource;
mod role;
mod security_policy;
mod serve;
mod transfer;
mod usage;
mod user;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Faults;
use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `explain` and `key parse`: allowed, well-formed
  1   failed to start, refused by the control plane, or not reachable; `explain`: not allowed
  2   wrong usage of the command line
  78  the configuration is wrong; every error is listed

Environment:
  PORTCULLIS_SERVER      as --server
  PORTCULLIS_ORG         as --org
  PORTCULLIS_TOKEN       the admin API's token itself
  PORTCULLIS_TOKEN_FILE  as --token-file
  PORTCULLIS__SECTION__KEY  overrides section.key of the configuration file

Tokens come from files or the environment, never from the command line.";

/// The API-key gateway with service accounts done right.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run control plane and gateway in one process.
    Up(serve::Up),
    /// Run the control plane alone.
    Control(serve::Control),
    /// Run the gateway alone; it follows a control plane or a snapshot file.
    Gateway(serve::Gateway),
    /// Service accounts.
    #[command(subcommand)]
    Account(account::Account),
    /// API keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Human users.
    #[command(subcommand)]
    User(user::User),
    /// Roles.
    #[command(subcommand)]
    Role(role::Role),
    /// Role bindings: who has which role where.
    #[command(subcommand)]
    Binding(binding::Binding),
    /// Groups: service accounts and users that have roles together.
    #[command(subcommand)]
    Group(group::Group),
    /// Security policies: bundles of bindings that are switched on and off together.
    #[command(subcommand)]
    Policy(security_policy::Policy),
    /// Organizations.
    #[command(subcommand)]
    Org(org::Org),
    /// The resources of an organization.
    #[command(subcommand)]
    Resource(resource::Resource),
    /// Keep a key for later commands: it is typed in or piped, never an argument.
    Login(login::Login),
    /// Forget the key that `login` kept.
    Logout,
    /// Usage of keys: calls, refusals and last use, by day in UTC.
    #[command(subcommand)]
    Usage(usage::Usage),
    /// The audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Why is a request with this key allowed or refused?
    Explain(explain::Explain),
    /// Write everything of one organization, or of the installation, to a file.
    Export(transfer::Export),
    /// Fill an empty data directory from an export.
    Import(transfer::Import),
    /// The configuration file.
    #[command(subcommand)]
    Config(configuration::Configuration),
    /// Print the OpenAPI document of the admin API.
    Openapi,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write those of all commands into a directory.
    Man(man::Man),
}

/// The command line was understood but asks for something impossible; exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The answer is no, and it has been printed; exit code 1.
#[derive(Debug)]
pub(crate) struct Negative;

impl std::fmt::Display for Negative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not allowed")
    }
}

impl std::error::Error for Negative {}

/// Runs the command that argv names.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // A closed terminal leaves nobody to tell.
            error.print().unwrap_or_default();
            return ExitCode::from(code);
        }
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<Negative>() {
                Output::complain(&format!("{error:#}"));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(up) => up.run(),
        Command::Control(control) => control.run(),
        Command::Gateway(gateway) => gateway.run(),
        Command::Account(account) => account.run(),
        Command::Key(key) => key.run(),
        Command::User(user) => user.run(),
        Command::Role(role) => role.run(),
        Command::Binding(binding) => binding.run(),
        Command::Group(group) => group.run(),
        Command::Policy(policy) => policy.run(),
        Command::Org(org) => org.run(),
        Command::Resource(resource) => resource.run(),
        Command::Login(login) => login.run(),
        Command::Logout => login::logout(),
        Command::Usage(usage) => usage.run(),
        Command::Audit(audit) => audit.run(),
        Command::Explain(explain) => explain.run(),
        Command::Export(export) => export.run(),
        Command::Import(import) => import.run(),
        Command::Config(configuration) => configuration.run(),
        Command::Openapi => Output::text().raw(portcullis_control::openapi_text().as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "portcullis", &mut script);
            Output::text().raw(&script)
        }
        Command::Man(man) => man.run(Arguments::command()),
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Faults>() {
        return 78;
    }
    if error.is::<Usage>() { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn exit_codes_follow_the_kind_of_the_error() {
        let faults = Faults { file: None, faults: Vec::new() };
        assert_eq!(exit_code(&faults.into()), 78);
        assert_eq!(exit_code(&Usage(String::new()).into()), 2);
        assert_eq!(exit_code(&Negative.into()), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("anything else")), 1);
    }

    #[test]
    fn no_command_takes_a_secret_from_argv() {
        fn names(command: &clap::Command, out: &mut Vec<String>) {
            out.extend(command.get_arguments().map(|argument| argument.get_id().to_string()));
            command.get_subcommands().for_each(|command| names(command, out));
        }
        let mut found = Vec::new();
        names(&Arguments::command(), &mut found);
        for secret in ["token", "secret", "password", "value", "pepper"] {
            assert!(!found.iter().any(|name| name == secret), "--{secret} exists");
        }
    }
}
