//! Reads declared settings from sources, keeping every fault and what was read.

use crate::{Fault, Faults, Origin, Problem, Setting, Sources, Value};

/// A struct of settings; implemented by [`settings!`](crate::settings).
pub trait Settings: Sized {
    /// Returns every setting declared here, those of groups last.
    fn declared() -> Vec<&'static Setting>;

    /// Reads the struct; `None` if a setting has a fault, which the reader then holds.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Reads settings one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    sources: &'a Sources,
    faults: Faults,
    taken: Vec<Taken>,
}

/// A setting that was read, and where its value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The setting.
    pub setting: &'static Setting,
    /// The strongest source that names it.
    pub origin: Origin,
}

impl<'a> Reader<'a> {
    /// Makes a reader that begins with what the sources themselves could not read.
    #[must_use]
    pub fn new(sources: &'a Sources) -> Self {
        Self { sources, faults: sources.faults.clone(), taken: Vec::new() }
    }

    /// Reads one setting; `None`, and a fault is kept, if its value is bad.
    pub fn read<T: Value>(&mut self, setting: &'static Setting) -> Option<T> {
        let (text, origin) = self.sources.value(setting);
        self.taken.push(Taken { setting, origin: origin.clone() });
        let value = T::parse(text.trim()).filter(|value| is_allowed(value, setting));
        if value.is_none() {
            self.faults.merge(Faults(vec![Fault {
                name: setting.name.to_owned(),
                value: (!setting.kind.is_secret()).then_some(text),
                origin,
                problem: Problem::Must(setting.expected()),
            }]));
        }
        value
    }

    /// Returns what was read so far, in the order of reading.
    #[must_use]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Ends the reading.
    #[must_use]
    pub fn into_faults(self) -> Faults {
        self.faults
    }
}

/// Reads `T` from `sources`; its `load` does this.
///
/// # Errors
/// Every fault in the settings `T` declares, and in what the sources themselves could not read.
pub fn load<T: Settings>(sources: &Sources) -> Result<T, Faults> {
    let mut reader = Reader::new(sources);
    match (T::read(&mut reader), reader.into_faults()) {
        (Some(settings), faults) if faults.is_empty() => Ok(settings),
        (_, faults) => Err(faults),
    }
}

/// Reads `T` from `sources` for a program that has no other settings: names that `T` does not declare are faults too.
///
/// # Errors
/// The faults of [`load`], and one for every unknown name.
pub fn load_alone<T: Settings>(sources: &Sources) -> Result<T, Faults> {
    let unknown = sources.unknown(&T::declared());
    match load(sources) {
        Ok(settings) => unknown.or(settings),
        Err(mut faults) => {
            faults.merge(unknown);
            Err(faults)
        }
    }
}

/// Returns `T` with every setting at its default; its `defaults` does this.
///
/// # Panics
/// If a declared default is no value of its own setting, which any test of the declaring crate shows.
#[must_use]
#[expect(clippy::panic, reason = "a bad default is a mistake in the declaration, not in what a user gave")]
pub fn of_defaults<T: Settings>() -> T {
    load(&Sources::none()).unwrap_or_else(|faults| panic!("bad default: {faults}"))
}

fn is_allowed<T: Value>(value: &T, setting: &Setting) -> bool {
    match setting.range.map(|(low, high)| (T::parse(low), T::parse(high))) {
        Some((Some(low), Some(high))) => value.is_within(&low, &high),
        // A range that is no value of the type allows nothing, so that the declaration's own test fails.
        Some(_) => false,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteSize, Profile, Secret};

    crate::settings! {
        /// What two services share.
        struct Host {
            /// Tokens.
            auth_tokens: Vec<Secret> = "", unit "list";
            /// Key of a fixed shape.
            host_pin: Option<u32> = "", unit "digits", range "1000" to "9999";
        }
    }

    crate::settings! {
        /// What one service has.
        struct Config {
            /// Size.
            cache_size: u64 = "1000", unit "entries", range "1" to "5000";
            /// Bytes.
            cache_bytes: ByteSize = "64MiB", unit "bytes", range "1MiB" to "1GiB";
        }
        groups {
            /// The host's.
            host: Host;
        }
    }

    crate::settings! {
        /// A declaration with mistakes.
        struct Wrong {
            /// The default is none.
            wrong_default: u64 = "many", unit "entries";
            /// The range is none.
            wrong_range: u64 = "1", unit "entries", range "few" to "many";
        }
    }

    #[test]
    fn defaults_are_what_is_declared() {
        let config = Config { cache_size: 7, ..Config::defaults() };
        assert_eq!((config.cache_size, config.cache_bytes.bytes()), (7, 64 << 20));
        assert!(config.host.auth_tokens.is_empty() && config.host.host_pin.is_none());
    }

    #[test]
    fn all_faults_are_reported_at_once_each_with_its_source() {
        let sources = Sources::none()
            .with_profile(Profile::Development)
            .with_file("athena.toml", "# ours\ncache_bytes = \"2GiB\"\n")
            .with_env([("ATHENA_CACHE_SIZE".to_owned(), "0".to_owned())])
            .with_flags([("host_pin".to_owned(), "12".to_owned())]);
        let expected = "cache_size = \"0\" (environment variable ATHENA_CACHE_SIZE): must be a whole number from 1 to 5000\n\
             cache_bytes = \"2GiB\" (athena.toml:2): must be a size such as 512KiB, 64MiB or 1GiB from 1MiB to 1GiB\n\
             host_pin = \"12\" (flag --set host_pin): must be empty or a whole number from 1000 to 9999";
        assert_eq!(Config::load(&sources).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_ends_of_a_range_are_allowed() {
        for (size, is_allowed) in [("0", false), ("1", true), ("5000", true), ("5001", false)] {
            let sources = Sources::none().with_flags([("cache_size".to_owned(), size.to_owned())]);
            assert_eq!(Config::load(&sources).is_ok(), is_allowed, "{size}");
        }
    }

    #[test]
    fn a_reader_knows_what_was_read_and_from_where() {
        let sources = Sources::none().with_flags([("cache_size".to_owned(), "5".to_owned())]);
        let mut reader = Reader::new(&sources);
        assert!(Config::read(&mut reader).is_some());
        let taken: Vec<_> =
            reader.taken().iter().map(|taken| (taken.setting.name, taken.origin.to_string())).collect();
        let expected = [
            ("cache_size", "flag --set cache_size".to_owned()),
            ("cache_bytes", "default".to_owned()),
            ("auth_tokens", "default".to_owned()),
            ("host_pin", "default".to_owned()),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_program_with_these_settings_alone_refuses_other_names() {
        let sources = Sources::none().with_flags([("cache_siz".to_owned(), "5".to_owned())]);
        assert!(Config::load(&sources).is_ok());
        let faults = load_alone::<Config>(&sources).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "cache_siz (flag --set cache_siz): no such setting, did you mean cache_size?"
        );
    }

    #[test]
    fn a_mistaken_declaration_is_a_fault() {
        let result = Wrong::load(&Sources::none()).map(|wrong| (wrong.wrong_default, wrong.wrong_range));
        let faults = result.unwrap_err().to_string();
        assert!(faults.contains("wrong_default = \"many\" (default)"), "{faults}");
        assert!(faults.contains("wrong_range = \"1\" (default)"), "{faults}");
        assert!(std::panic::catch_unwind(Wrong::defaults).is_err());
    }
}
