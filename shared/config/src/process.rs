//! Sources of a real process: the one place that reads the environment and the settings file.

use std::path::Path;

use crate::{
    Fault, Faults, Origin, Problem, Profile, Sources, Value,
    sources::{CONFIG, PROFILE},
};

/// What the command line said.
#[derive(Debug, Default)]
struct Arguments {
    profile: Option<String>,
    config: Option<String>,
    flags: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Sources {
    /// Reads the environment, the settings file and `arguments` (without the program's name).
    ///
    /// Understood are `--set name=value` (as often as wanted; the last wins), `--profile development|production` or
    /// `ATHENA_PROFILE`, and `--config path` or `ATHENA_CONFIG`. Whatever else `arguments` hold, a file that cannot be read
    /// and a profile that does not exist are faults, which whoever loads from these sources reports with its own.
    #[must_use]
    pub fn from_process(arguments: impl IntoIterator<Item = String>) -> Self {
        // A variable that is not Unicode is none of ours.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        from_parts(arguments.into_iter(), env.collect())
    }
}

fn from_parts(arguments: impl Iterator<Item = String>, env: Vec<(String, String)>) -> Sources {
    let variable = |wanted: &str| env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let mut arguments = parse(arguments);
    let mut sources = Sources::none();
    let from_env = |wanted: &str| variable(wanted).map(|value| (value, Origin::Variable(wanted.to_owned())));
    let profile = arguments.profile.take().map(|value| (value, Origin::Arguments));
    if let Some((name, origin)) = profile.or_else(|| from_env(PROFILE)) {
        match Profile::parse(&name) {
            Some(profile) => sources = sources.with_profile(profile),
            None => arguments.faults.push(Fault {
                name: "profile".to_owned(),
                value: Some(name),
                origin,
                problem: Problem::Must(Profile::KIND.to_string()),
            }),
        }
    }
    let path = arguments.config.take().map(|value| (value, Origin::Arguments));
    if let Some((path, origin)) = path.or_else(|| from_env(CONFIG)) {
        match std::fs::read_to_string(Path::new(&path)) {
            Ok(text) => sources = sources.with_file(&path, &text),
            Err(error) => arguments.faults.push(Fault {
                name: "config".to_owned(),
                value: Some(path),
                origin,
                problem: Problem::Unreadable(format!("cannot be read, {error}")),
            }),
        }
    }
    let mut sources = sources.with_env(env).with_flags(arguments.flags);
    sources.faults.merge(Faults(arguments.faults));
    sources
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Arguments {
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        let (flag, inline) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if !["--set", "--profile", "--config"].contains(&flag) {
            parsed.faults.push(of_arguments(flag, "one of --set name=value, --profile name, --config path"));
            continue;
        }
        let Some(value) = inline.or_else(|| arguments.next()) else {
            parsed.faults.push(of_arguments(flag, "followed by a value"));
            continue;
        };
        match (flag, value.split_once('=')) {
            ("--profile", _) => parsed.profile = Some(value),
            ("--config", _) => parsed.config = Some(value),
            (_, Some((name, value))) => parsed.flags.push((name.trim().to_owned(), value.to_owned())),
            // The text may be a secret whose name was forgotten: it is not repeated.
            (_, None) => parsed.faults.push(of_arguments(flag, "followed by name=value")),
        }
    }
    parsed
}

fn of_arguments(flag: &str, expected: &str) -> Fault {
    Fault {
        name: flag.to_owned(),
        value: None,
        origin: Origin::Arguments,
        problem: Problem::Must(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::settings! {
        /// Two settings.
        struct Config {
            /// A size.
            cache_size: u64 = "10", unit "entries", range "1" to "100", development "5";
            /// A name.
            agent_name: String = "athena", unit "text";
        }
    }

    fn sources(arguments: &[&str], env: &[(&str, &str)]) -> Sources {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        from_parts(arguments.iter().map(|argument| (*argument).to_owned()), env)
    }

    #[test]
    fn flags_are_read_in_both_spellings_and_the_last_wins() {
        let sources =
            sources(&["--set", "cache_size=7", "--set=agent_name=a=b", "--set", "cache_size=8"], &[]);
        let config = Config::load(&sources).unwrap();
        assert_eq!((config.cache_size, config.agent_name.as_str()), (8, "a=b"));
    }

    #[test]
    fn the_profile_flag_is_stronger_than_its_variable() {
        let env = [("ATHENA_PROFILE", "development")];
        assert_eq!(Config::defaults().cache_size, 10);
        assert_eq!(Config::load(&sources(&[], &env)).unwrap().cache_size, 5);
        assert_eq!(sources(&["--profile", "production"], &env).profile(), Some(Profile::Production));
    }

    #[test]
    fn the_file_named_by_the_environment_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("athena.toml");
        std::fs::write(&path, "cache_size = 42\n").unwrap();
        let sources = sources(&[], &[("ATHENA_CONFIG", path.to_str().unwrap())]);
        assert_eq!(Config::load(&sources).unwrap().cache_size, 42);
    }

    #[test]
    fn every_fault_of_the_process_is_reported_with_those_of_the_settings() {
        let env = [("ATHENA_PROFILE", "staging"), ("ATHENA_CACHE_SIZE", "many")];
        let arguments = ["serve", "--config", "/nowhere/athena.toml", "--set", "topsecret", "--set"];
        let faults = Config::load(&sources(&arguments, &env)).unwrap_err().to_string();
        for expected in [
            "serve (command line): must be one of --set name=value",
            "--set (command line): must be followed by name=value",
            "--set (command line): must be followed by a value",
            r#"profile = "staging" (environment variable ATHENA_PROFILE): must be one of development, production"#,
            r#"config = "/nowhere/athena.toml" (command line): cannot be read"#,
            r#"cache_size = "many" (environment variable ATHENA_CACHE_SIZE): must be a whole number from 1 to 100"#,
        ] {
            assert!(faults.contains(expected), "{expected}\nnot in\n{faults}");
        }
        assert!(!faults.contains("topsecret"), "{faults}");
    }
}
