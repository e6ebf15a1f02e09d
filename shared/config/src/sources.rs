//! Where settings come from, and which source wins.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use crate::{Fault, Faults, Problem, Setting, fault::nearest, file};

/// What the name of every environment variable of ours begins with.
pub(crate) const PREFIX: &str = "ATHENA_";
/// The variables with that prefix that are not settings: they say where settings are.
pub(crate) const PROFILE: &str = "ATHENA_PROFILE";
pub(crate) const CONFIG: &str = "ATHENA_CONFIG";

crate::choice! {
    /// A named set of values for the settings that have one in it.
    pub enum Profile {
        /// Short lives and small caches, to see changes at once.
        Development = "development",
        /// Large caches, for load.
        Production = "production",
    }
}

/// Everything that settings can be read from. `Sources::none()` gives every setting its default.
#[derive(Clone, Default)]
pub struct Sources {
    presets: BTreeMap<String, String>,
    profile: Option<Profile>,
    file: BTreeMap<String, file::Entry>,
    path: PathBuf,
    env: BTreeMap<String, String>,
    aliases: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
    pub(crate) faults: Faults,
}

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its declaration.
    Default,
    /// The profile in force.
    Profile(Profile),
    /// This file, at this line (the first is 1); no line where the file as a whole is meant.
    File(PathBuf, Option<usize>),
    /// The environment variable of this name.
    Variable(String),
    /// A flag `--set` for this name.
    Flag(String),
    /// The command line as a whole.
    Arguments,
}

impl Sources {
    /// Returns sources that name nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Puts a profile in force.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Adds the text of a TOML file with flat setting names; `path` is how faults name it. Its own faults are kept and
    /// reported by whoever loads.
    #[must_use]
    pub fn with_file(mut self, path: impl AsRef<Path>, text: &str) -> Self {
        path.as_ref().clone_into(&mut self.path);
        let (entries, faults) = file::parse(path.as_ref(), text);
        self.file = entries;
        self.faults.merge(faults);
        self
    }

    /// Adds environment variables; those that are no setting's are ignored.
    #[must_use]
    pub fn with_env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(variables);
        self
    }

    /// Adds flags: names of settings and values.
    #[must_use]
    pub fn with_flags(mut self, flags: impl IntoIterator<Item = (String, String)>) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Adds defaults of the program that are not those of the declaration; everything that a user gives is stronger.
    #[must_use]
    pub fn with_presets(mut self, presets: impl IntoIterator<Item = (String, String)>) -> Self {
        self.presets.extend(presets);
        self
    }

    /// Lists the environment variables whose names begin with `prefix`: for a standard with names of its own, such as `OTEL_`.
    #[must_use]
    pub fn variables(&self, prefix: &str) -> Vec<(String, String)> {
        let named = self.env.iter().filter(|(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Lets an environment variable of another name stand for a setting (`PORT` on Cloud Run). The setting's own variable
    /// is stronger.
    #[must_use]
    pub fn alias(mut self, variable: &str, setting: &str) -> Self {
        self.aliases.insert(setting.to_owned(), variable.to_owned());
        self
    }

    /// Returns the profile in force.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Returns a fault for every name that is given in the file, in a flag or in a variable that begins with `ATHENA_`, but
    /// is not `declared`.
    #[must_use]
    pub fn unknown(&self, declared: &[&Setting]) -> Faults {
        let is_known = |name: &str| declared.iter().any(|setting| setting.name == name);
        let fault = |given: &str, name: &str, origin: Origin| Fault {
            name: given.to_owned(),
            value: None,
            origin,
            problem: Problem::Unknown(nearest(name, declared.iter().map(|setting| setting.name))),
        };
        let file = self.file.iter().map(|(name, entry)| (name.clone(), self.at_line(entry.line)));
        let env = self.env.keys().filter(|variable| *variable != PROFILE && *variable != CONFIG).filter_map(
            |variable| {
                Some((variable.strip_prefix(PREFIX)?.to_lowercase(), Origin::Variable(variable.clone())))
            },
        );
        let flags = self.flags.keys().map(|name| (name.clone(), Origin::Flag(name.clone())));
        let unknown = file.chain(env).chain(flags).filter(|(name, _)| !is_known(name));
        Faults(
            unknown
                .map(|(name, origin)| match &origin {
                    Origin::Variable(variable) => fault(&variable.clone(), &name, origin),
                    _ => fault(&name, &name, origin),
                })
                .collect(),
        )
    }

    /// Returns the value of `setting` in the strongest source that names it, and that source.
    pub(crate) fn value(&self, setting: &'static Setting) -> (String, Origin) {
        if let Some(value) = self.flags.get(setting.name) {
            return (value.clone(), Origin::Flag(setting.name.to_owned()));
        }
        let variables = [Some(setting.variable()), self.aliases.get(setting.name).cloned()];
        for variable in variables.into_iter().flatten() {
            if let Some(value) = self.env.get(&variable) {
                return (value.clone(), Origin::Variable(variable));
            }
        }
        if let Some(entry) = self.file.get(setting.name) {
            return (entry.value.clone(), self.at_line(entry.line));
        }
        let of_profile = match self.profile {
            Some(Profile::Development) => setting.development,
            Some(Profile::Production) => setting.production,
            None => None,
        };
        match (of_profile, self.profile, self.presets.get(setting.name)) {
            (Some(value), Some(profile), _) => (value.to_owned(), Origin::Profile(profile)),
            (_, _, Some(preset)) => (preset.clone(), Origin::Default),
            _ => (setting.default.to_owned(), Origin::Default),
        }
    }

    fn at_line(&self, line: usize) -> Origin {
        Origin::File(self.path.clone(), Some(line))
    }
}

/// Prints which names are given, never a value: some are secret.
impl fmt::Debug for Sources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sources")
            .field("profile", &self.profile)
            .field("file", &self.file.keys())
            .field("env", &self.env.keys().filter(|name| name.starts_with(PREFIX)).collect::<Vec<_>>())
            .field("flags", &self.flags.keys())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Profile(profile) => write!(out, "profile {profile}"),
            Self::File(path, Some(line)) => write!(out, "{}:{line}", path.display()),
            Self::File(path, None) => write!(out, "{}", path.display()),
            Self::Variable(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => write!(out, "flag --set {name}"),
            Self::Arguments => out.write_str("command line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    crate::settings! {
        /// Two settings that the profiles set and one that they do not.
        struct Config {
            /// Size.
            cache_size: u64 = "1000", unit "entries", range "1" to "5000", development "100", production "2000";
            /// Life.
            cache_ttl: String = "1h", unit "duration", development "60s";
            /// Port.
            service_port: u16 = "7101", unit "port";
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn size(sources: &Sources) -> u64 {
        Config::load(sources).unwrap().cache_size
    }

    #[test]
    fn each_source_is_stronger_than_the_one_before() {
        let sources = Sources::none();
        assert_eq!(size(&sources), 1000);
        let sources = sources.with_profile(Profile::Development);
        assert_eq!(size(&sources), 100);
        let sources = sources.with_file("athena.toml", "cache_size = 3");
        assert_eq!(size(&sources), 3);
        let sources = sources.with_env(pairs(&[("ATHENA_CACHE_SIZE", "4")]));
        assert_eq!(size(&sources), 4);
        let sources = sources.with_flags(pairs(&[("cache_size", "5")]));
        assert_eq!(size(&sources), 5);
    }

    #[test]
    fn a_profile_without_a_value_for_a_setting_leaves_its_default() {
        let config = Config::load(&Sources::none().with_profile(Profile::Production)).unwrap();
        assert_eq!((config.cache_size, config.cache_ttl.as_str()), (2000, "1h"));
    }

    #[test]
    fn an_alias_stands_for_a_setting_until_its_own_variable_is_given() {
        let sources = Sources::none().alias("PORT", "service_port").with_env(pairs(&[("PORT", "8080")]));
        assert_eq!(Config::load(&sources).unwrap().service_port, 8080);
        let sources = sources.with_env(pairs(&[("ATHENA_SERVICE_PORT", "9090")]));
        assert_eq!(Config::load(&sources).unwrap().service_port, 9090);
    }

    #[test]
    fn unknown_names_of_every_source_are_reported_with_the_nearest_name() {
        let sources = Sources::none()
            .with_file("athena.toml", "cache_size = 1\n\ncache_sise = 2\n")
            .with_env(pairs(&[("ATHENA_CACHE_TLT", "hunter2"), ("ATHENA_PROFILE", "x"), ("PATH", "/bin")]))
            .with_flags(pairs(&[("weather", "fine")]));
        let expected = "cache_sise (athena.toml:3): no such setting, did you mean cache_size?\n\
             ATHENA_CACHE_TLT (environment variable ATHENA_CACHE_TLT): no such setting, did you mean cache_ttl?\n\
             weather (flag --set weather): no such setting";
        assert_eq!(sources.unknown(&Config::declared()).to_string(), expected);
    }

    #[test]
    fn a_preset_is_stronger_than_the_default_and_weaker_than_what_a_user_gives() {
        let sources = Sources::none().with_presets(pairs(&[("cache_size", "7")]));
        assert_eq!(size(&sources), 7);
        let sources = sources.with_env(pairs(&[("ATHENA_CACHE_SIZE", "8")]));
        assert_eq!(size(&sources), 8);
    }

    #[test]
    fn sources_do_not_print_values() {
        let sources = Sources::none()
            .with_file("athena.toml", "cache_ttl = \"hunter2\"")
            .with_env(pairs(&[("ATHENA_KEY", "hunter2"), ("HOME_KEY", "hunter2")]))
            .with_flags(pairs(&[("llm_api_key", "hunter2")]));
        let printed = format!("{sources:?}");
        assert!(!printed.contains("hunter2") && printed.contains("ATHENA_KEY"), "{printed}");
        assert!(!printed.contains("HOME_KEY"), "{printed}");
    }
}
