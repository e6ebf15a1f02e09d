//! Where the templates come from: the file that is read again when it changes, or those that come with the gateway.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{library::Library, template::Error};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The templates that come with the gateway.
const BUILT_IN: &str = include_str!("patterns.toml");

/// The file of the templates.
#[derive(Debug)]
pub struct Source {
    path: Option<PathBuf>,
    /// What stands for the file where there is none.
    text: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was read last, whether it could be used or not.
    read: Option<Result<String, String>>,
    status: Standing,
}

/// How the file of the templates does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The file; empty for the templates that come with the gateway.
    pub path: String,
    /// How often the templates were taken from it, the start included.
    pub loads: u64,
    /// Why the file as it is now cannot be used, and the templates before it are still in force; empty if it is in use.
    pub broken: String,
}

impl Source {
    /// Names the file; `None` for the templates that come with the gateway.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        let status = Standing {
            path: path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            ..Standing::default()
        };
        Self { path, text: BUILT_IN.into(), state: Mutex::new(State { status, ..State::default() }) }
    }

    /// Takes the text of a file.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::new(None) }
    }

    /// Reads the templates for the first time; blocks.
    pub(super) fn first(&self, points: usize) -> Result<Library, Error> {
        let text = match &self.path {
            None => self.text.clone(),
            Some(path) => {
                read(path).map_err(|source| Error::Read { path: path.display().to_string(), source })?
            }
        };
        let library = Library::parse(&text, points).map_err(|error| match &self.path {
            None => error,
            Some(path) => Error::File { path: path.display().to_string(), source: Box::new(error) },
        })?;
        let mut state = self.state.lock();
        state.read = Some(Ok(text));
        state.status.loads = 1;
        Ok(library)
    }

    /// Reads the file and returns its templates if it is another one than before and can be used; blocks.
    pub(super) fn changed(&self, points: usize) -> Option<Library> {
        let path = self.path.as_ref()?;
        let text = read(path).map_err(|error| format!("cannot be read: {error}"));
        let mut state = self.state.lock();
        if state.read.as_ref() == Some(&text) {
            return None;
        }
        let parsed =
            text.clone().and_then(|text| Library::parse(&text, points).map_err(|error| error.to_string()));
        state.read = Some(text);
        match parsed {
            Ok(library) => {
                state.status.loads += 1;
                state.status.broken.clear();
                tracing::info!(templates = library.entries().len(), "templates replaced");
                Some(library)
            }
            Err(problem) => {
                tracing::error!(
                    problem,
                    "the pattern file cannot be used, the templates before it stay in force"
                );
                state.status.broken = problem;
                None
            }
        }
    }

    pub(super) fn status(&self) -> Standing {
        self.state.lock().status.clone()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
