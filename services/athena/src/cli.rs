//! The command line: what can be asked, and how it ends.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use config::Sources;

use crate::{Service, demo, ephemeral, serve, status, up};

/// The mesh that makes LLM agents fast, cheap and observable.
#[derive(Debug, Parser)]
#[command(name = "athena", version, about, after_help = EXAMPLES)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "Examples:
  athena demo                                   replay 40 recorded days, print what it measured
  athena up --llm https://HOST/v1 --model NAME  the mesh with a real model (key in ATHENA_LLM_API_KEY)
  athena serve memory-service --set memory_port=0
  athena status --json
  athena bench list

Exit codes: 0 fine, 1 the thing checked failed, 2 wrong use.";

/// Settings, for every verb; see the README for their table.
#[derive(Args, Debug)]
struct Settings {
    /// Sets one setting; may be repeated, the last wins.
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The profile: development or production (also ATHENA_PROFILE).
    #[arg(long, global = true)]
    profile: Option<String>,
    /// A TOML file with settings (also ATHENA_CONFIG).
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Replays the bundled days through the whole mesh, in a temporary folder, and prints what it measured.
    Demo {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Runs the whole mesh in one process until Ctrl-C.
    Up {
        /// URL of an OpenAI-compatible upstream; its key is read from ATHENA_LLM_API_KEY.
        #[arg(long, value_name = "URL", requires = "model")]
        llm: Option<String>,
        /// The model to ask, as the upstream names it.
        #[arg(long, value_name = "NAME", requires = "llm")]
        model: Option<String>,
        /// Uses the sources named by `agent_source` instead of the bundled days.
        #[arg(long)]
        live: bool,
    },
    /// Runs one service: monitor, llm-gateway, memory-service, storage-batcher or orchestrator.
    Serve {
        /// The service.
        #[arg(value_parser = service)]
        service: Service,
    },
    /// Says which services answer at their configured ports, and whether they serve.
    Status {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lists the benchmarks or runs one.
    #[cfg(feature = "bench")]
    Bench(crate::bench::Arguments),
    /// Prints the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Reads the arguments, does what they ask and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nothing is left to do if the terminal is gone.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(perform(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => fail(&error),
    }
}

async fn perform(command: Command) -> Result<bool> {
    let settings = &command.settings;
    match command.verb {
        Verb::Demo { json } => {
            let folder = tempfile::tempdir()?;
            let report = demo::run(settings.pinned(demo_settings(folder.path()))).await?;
            let text = if json { format!("{:#}\n", report.json()) } else { pretty(&report) };
            print(&text)?;
            Ok(report.passed())
        }
        Verb::Up { llm, model, live } => {
            let mut pinned = Vec::new();
            pinned.extend(llm.map(|url| format!("llm_upstream_url={url}")));
            pinned.extend(model.map(|name| format!("llm_model={name}")));
            let presets = [("agent_interval".to_owned(), "300s".to_owned())];
            let sources = settings.pinned(pinned).with_presets(presets);
            up::run(sources, !live, |table| drop(print(table))).await.map(|()| true)
        }
        Verb::Serve { service } => {
            // As the service's own program does.
            let sources = settings.pinned(Vec::new()).alias("PORT", service.port_setting());
            serve::run(service, &sources).await.map(|()| true)
        }
        Verb::Status { json } => {
            let (ports, reach) = crate::mesh::ports(&settings.pinned(Vec::new()))?;
            let (text, all) = status::run(&ports, &reach, json).await?;
            print(&text)?;
            Ok(all)
        }
        #[cfg(feature = "bench")]
        Verb::Bench(arguments) => {
            let text = crate::bench::run(arguments, &settings.set).await?;
            print(&text)?;
            Ok(true)
        }
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Command::command(), "athena", &mut io::stdout());
            Ok(true)
        }
    }
}

impl Settings {
    /// Returns the sources of all settings; `pinned` ones are stronger than file and environment, and weaker than what the
    /// command line sets.
    fn pinned(&self, pinned: Vec<String>) -> Sources {
        let mut arguments = Vec::new();
        for (flag, value) in [("--profile", &self.profile), ("--config", &self.config)] {
            if let Some(value) = value {
                arguments.extend([flag.to_owned(), value.clone()]);
            }
        }
        for set in pinned.iter().chain(&self.set) {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        Sources::from_process(arguments)
    }
}

/// Returns the settings of a demo: whatever the user's file and environment say, it writes nowhere but to `folder`, asks nobody, and
/// runs its cycles alone.
fn demo_settings(folder: &std::path::Path) -> Vec<String> {
    let mut settings = ephemeral(folder);
    for (name, value) in [
        ("agent_interval", "0s"),
        ("auth_tokens", ""),
        ("bind_address", "127.0.0.1"),
        ("firestore_project", ""),
        ("llm_model", "builtin/statistics"),
        ("llm_upstream_url", ""),
        ("log_filter", "warn"),
        ("otlp_endpoint", ""),
    ] {
        settings.push(format!("{name}={value}"));
    }
    settings
}

fn pretty(report: &demo::Report) -> String {
    let terminal = io::stdout().is_terminal();
    let width = if terminal { indicatif::TermLike::width(&console::Term::stdout()).into() } else { 120 };
    demo::screen(report, width, terminal && console::colors_enabled())
}

fn service(name: &str) -> Result<Service, String> {
    Service::named(name).ok_or_else(|| {
        let names: Vec<&str> = Service::ALL.iter().map(|service| service.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let wrong_use = error.is::<config::Faults>();
    // Nothing is left to do if standard error is gone.
    drop(writeln!(io::stderr(), "athena: {error:#}"));
    ExitCode::from(if wrong_use { 2 } else { 1 })
}
