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
