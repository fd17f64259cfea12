//! `meshtone`: the one binary. Command line, configuration and logging; whatever it does, a library does.

mod acme;
mod administer;
mod authority;
mod backup;
mod call;
mod client;
mod command;
mod config;
mod dns;
mod failure;
mod journaling;
mod nodes;
mod output;
mod outside;
mod people;
mod reach;
mod relay_calculator;
mod run;
mod settings;
mod trunk;
mod turn;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use meshtone_node::settings::Source;

use crate::command::{Cli, Command};
use crate::failure::Failure;
use crate::settings::PageSettings;

/// Memory of what is over goes back to the system though what stays lies between: blocks are kept by size. A node whose phones have
/// registered all at once would else be as large for the rest of its life as it was in that minute.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where two crypto providers are compiled in, rustls panics unless one is chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let matches = Cli::command().get_matches();
    let given = matches.subcommand_matches("run").map(settings::given).unwrap_or_default();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match dispatch(cli, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: Cli, given: BTreeMap<String, (Source, String)>) -> Result<(), Failure> {
    let (table, path) = config::load(cli.config.as_deref())?;
    let settings = config::read(table.clone(), &path)?;
    let data = config::data_folder(cli.data, settings.data)?;
    match cli.command {
        Command::Run(options) => run::run(&data, *options, PageSettings::open(&data, (table, path), given)?),
        Command::User(command) => administer::user(&data, command),
        Command::Invite(options) => administer::invite(&data, &options),
        Command::Authority(command) => administer::authority(&data, &command),
        Command::Node(command) => nodes::node(&data, command),
        Command::Enroll(options) => people::enroll(&data, options),
        Command::Delegate(options) => people::delegate(&data, &options),
        Command::Key(command) => people::key(&data, command),
        Command::Backup(options) => backup::backup(&data, &options),
        Command::Restore(options) => backup::restore(&data, &options),
        Command::Call(options) => call::call(&data, *options),
        Command::Page(options) => administer::page(&data, options.json),
        Command::RelayCalculator(options) => relay_calculator::run(&options),
        Command::TurnCredentials { user } => turn::credentials(&data, &user),
        Command::Status(options) => administer::status(&data, options.json),
        Command::Netcheck(options) => reach::netcheck(&data, options.json),
        Command::DnsRecords(options) => dns::records(&data, &options),
        Command::Trace(options) => reach::trace(&data, &options.target, options.json),
        Command::Version => {
            output::print(&command::long_version());
            Ok(())
        }
    }
}
