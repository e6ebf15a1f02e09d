//! Why a routes file was refused, and why a model.

use std::path::{Path, PathBuf};

/// A model other than `builtin/statistics` is named and no upstream answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model is not `builtin/statistics`, `llm_routes` does not name it and `llm_upstream_url` names no upstream"
)]
pub struct NoUpstream;

/// Why a routes file was refused: the file, the line, the table and its field.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It, or a key file it names, could not be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML of the documented shape.
    #[error("{}, line {line}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A table says what cannot be.
    #[error("{}, line {line}: `{field}` of [[{table}]] {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line on which the table begins, from 1.
        line: usize,
        /// The table.
        table: &'static str,
        /// Its field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// The file being read, for saying where something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn malformed(&self, error: &toml::de::Error) -> FileError {
        let (line, problem) = config::malformed(self.text, error);
        FileError::Malformed { path: self.path.to_owned(), line, problem }
    }

    pub(super) fn wrong(
        &self,
        offset: usize,
        table: &'static str,
        field: &'static str,
        problem: impl Into<String>,
    ) -> FileError {
        FileError::Wrong {
            path: self.path.to_owned(),
            line: config::line_of(self.text, offset),
            table,
            field,
            problem: problem.into(),
        }
    }
}
