//! An embedder as a word: in a setting, or on a command line.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use crate::{Embedder, Error, Hashing, Remote, Settings};

/// Components of a vector where the word names no number.
const DEFAULT: usize = 512;
/// Fewest and most components allowed. Below, unrelated words meet in most components; above, nothing is gained.
const ALLOWED: std::ops::RangeInclusive<usize> = 16..=16_384;
/// Hexadecimal digits of the hash of a model's files.
const DIGEST: usize = 64;

/// Which embedder to use.
///
/// | word | embedder |
/// |---|---|
/// | `hashing`, `hashing-256` | [`Hashing`] with 512 components, or 16 to 16,384 |
/// | `./minilm`, `/models/minilm@HASH` | an encoder from that folder (`Encoder`, with the feature `minilm`), its files as expected if their hash is given; a word with a `/` in it is a folder |
/// | `https://api.openai.com/v1#text-embedding-3-small`, `http://localhost:11434/v1#nomic-embed-text@256` | [`Remote`]: base address, model, and how many components it is asked for |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// [`Hashing`] with this many components.
    Hashing(usize),
    /// An encoder from a folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What its files have to hash to: 64 hexadecimal digits, as its name states them.
        digest: Option<String>,
    },
    /// A model behind a URL.
    Remote {
        /// Base address; `/embeddings` is added to it.
        url: String,
        /// The model as the server names it.
        model: String,
        /// How many components it is asked for.
        dimensions: Option<usize>,
    },
}

/// The word is no embedder, or none of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It has none of the forms.
    #[error(
        "no embedder is called {0:?}, known are hashing, hashing-N with N from 16 to 16384, a folder such as ./minilm, and \
         URL#MODEL"
    )]
    Word(String),
    /// It names a folder, and this program was built without the encoder.
    #[error("{0:?} is a folder, which needs a program built with the feature minilm")]
    Folder(String),
    /// What is said behind the folder is no hash.
    #[error("what follows the last @ of {0:?} has to be a hash of 64 lower-case hexadecimal digits")]
    Digest(String),
    /// It is a URL without a model, or with a part that is not taken.
    #[error(
        "{0:?} has to be written URL#MODEL or URL#MODEL@COMPONENTS, the URL without a user, a query or a key"
    )]
    Url(String),
}

impl Choice {
    /// Makes the embedder. `expected` is the number of components that a model behind a URL is taken to have where the word does not
    /// say it; without it, the model is asked. A folder is read off the async threads.
    ///
    /// # Errors
    /// [`Error::Model`] if a folder, an address or a key cannot be used, and what a model fails with that was asked.
    pub async fn embedder(
        &self,
        settings: &Settings,
        expected: Option<usize>,
    ) -> Result<Arc<dyn Embedder>, Error> {
        match self {
            Self::Hashing(dimensions) => Ok(Arc::new(Hashing::new(*dimensions))),
            Self::Folder { path, digest } => folder(path.clone(), digest.clone(), settings).await,
            Self::Remote { url, model, dimensions } => {
                Ok(Arc::new(Remote::new(url, model, *dimensions, expected, settings).await?))
            }
        }
    }

    /// Returns the number of components of its vectors where the word says it.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        match self {
            Self::Hashing(dimensions) => Some(*dimensions),
            Self::Folder { .. } => None,
            Self::Remote { dimensions, .. } => *dimensions,
        }
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self::Hashing(DEFAULT)
    }
}

impl FromStr for Choice {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        if word.starts_with("http://") || word.starts_with("https://") {
            return remote(word).ok_or_else(|| Unknown::Url(shown(word)));
        }
        if word.contains('/') {
            return if cfg!(feature = "minilm") {
                in_folder(word)
            } else {
                Err(Unknown::Folder(word.to_owned()))
            };
        }
        let dimensions = match word.strip_prefix("hashing") {
            Some("") => Some(DEFAULT),
            Some(rest) => rest.strip_prefix('-').and_then(|number| number.parse().ok()),
            None => None,
        };
        let allowed = dimensions.filter(|dimensions| ALLOWED.contains(dimensions));
        allowed.map(Self::Hashing).ok_or_else(|| Unknown::Word(word.to_owned()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashing(dimensions) => write!(out, "hashing-{dimensions}"),
            Self::Folder { path, digest: None } => write!(out, "{}", path.display()),
            Self::Folder { path, digest: Some(digest) } => write!(out, "{}@{digest}", path.display()),
            Self::Remote { url, model, dimensions: None } => write!(out, "{url}#{model}"),
            Self::Remote { url, model, dimensions: Some(number) } => write!(out, "{url}#{model}@{number}"),
        }
    }
}

#[cfg(feature = "minilm")]
async fn folder(
    path: PathBuf,
    digest: Option<String>,
    settings: &Settings,
) -> Result<Arc<dyn Embedder>, Error> {
    let threads = settings.embedder_threads;
    let load = move || crate::Encoder::load(&path, digest.as_deref(), threads);
    let loaded = tokio::task::spawn_blocking(load).await;
    Ok(Arc::new(loaded.map_err(|error| Error::Encoder(error.to_string()))??))
}

#[cfg(not(feature = "minilm"))]
#[expect(clippy::unused_async, reason = "with the feature it waits")]
async fn folder(path: PathBuf, _: Option<String>, _: &Settings) -> Result<Arc<dyn Embedder>, Error> {
    Err(Error::Model(Unknown::Folder(path.display().to_string()).to_string()))
}

fn in_folder(word: &str) -> Result<Choice, Unknown> {
    // A path may have an @ in it, but not behind its last /.
    let Some((path, digest)) = word.rsplit_once('@').filter(|(_, digest)| !digest.contains('/')) else {
        return Ok(Choice::Folder { path: word.into(), digest: None });
    };
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if digest.len() != DIGEST || !digest.bytes().all(is_digit) {
        return Err(Unknown::Digest(word.to_owned()));
    }
    Ok(Choice::Folder { path: path.into(), digest: Some(digest.to_owned()) })
}

fn remote(word: &str) -> Option<Choice> {
    let (url, model) = word.split_once('#')?;
    let parsed = reqwest::Url::parse(url).ok()?;
    let (model, dimensions) = match model.rsplit_once('@') {
        None => (model, None),
        Some((model, number)) => (model, Some(number.parse().ok().filter(|number| *number > 0)?)),
    };
    let is_plain = parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none();
    (is_plain && !model.is_empty()).then(|| Choice::Remote {
        url: url.to_owned(),
        model: model.to_owned(),
        dimensions,
    })
}

/// Returns a URL up to where a secret may begin.
fn shown(word: &str) -> String {
    let end = word.find('?').unwrap_or(word.len());
    match word[..end].rsplit_once('@') {
        Some((before, _)) if before.contains("//") && !before.contains('#') => "http…".to_owned(),
        _ => word[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_word_names_an_embedder_and_its_size() {
        for (word, dimensions) in [("hashing", 512), ("hashing-256", 256), ("hashing-16", 16)] {
            let choice: Choice = word.parse().unwrap();
            let embedder = choice.embedder(&Settings::defaults(), None).await.unwrap();
            assert_eq!((embedder.dimensions(), choice.dimensions()), (dimensions, Some(dimensions)));
            assert_eq!(embedder.name(), choice.to_string());
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn a_url_names_a_model_and_what_is_asked_of_it() {
        for (word, model, dimensions) in [
            ("https://a.example/v1#text-embedding-3-small", "text-embedding-3-small", None),
            ("http://localhost:11434/v1#org/name:latest@256", "org/name:latest", Some(256)),
        ] {
            let choice: Choice = word.parse().unwrap();
            assert_eq!(choice.dimensions(), dimensions);
            assert_eq!(choice.to_string(), word);
            assert!(matches!(choice, Choice::Remote { model: named, .. } if named == model));
        }
    }

    #[test]
    fn a_url_with_more_or_less_is_refused_and_no_secret_of_it_is_shown() {
        for word in [
            "http://a",
            "http://a#",
            "http://a#m@",
            "http://a#m@0",
            "http://u:secret@a#m",
            "https://a?key=secret#m",
        ] {
            let refused = word.parse::<Choice>().unwrap_err();
            assert!(matches!(refused, Unknown::Url(_)), "{word}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for word in
            ["", "hash", "hashing-", "hashing-15", "hashing-16385", "hashing256", "minilm", "hashing--16"]
        {
            assert_eq!(word.parse::<Choice>(), Err(Unknown::Word(word.to_owned())), "{word}");
        }
    }

    #[cfg(not(feature = "minilm"))]
    #[test]
    fn a_folder_is_refused_by_a_build_that_cannot_read_it() {
        let refused = "./minilm".parse::<Choice>().unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#""./minilm" is a folder, which needs a program built with the feature minilm"#
        );
    }

    #[cfg(feature = "minilm")]
    #[test]
    fn a_folder_may_say_what_its_files_hash_to() {
        let digest = "0123456789abcdef".repeat(4);
        for (word, path, pinned) in [
            ("./minilm".to_owned(), "./minilm", None),
            ("/a@b/c".to_owned(), "/a@b/c", None),
            (format!("/models/minilm@{digest}"), "/models/minilm", Some(digest)),
        ] {
            let choice: Choice = word.parse().unwrap();
            assert_eq!(choice, Choice::Folder { path: path.into(), digest: pinned });
            assert_eq!(choice.to_string(), word);
        }
        assert!(matches!("./minilm@abc".parse::<Choice>(), Err(Unknown::Digest(_))));
    }
}
