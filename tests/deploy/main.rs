//! What lies in `deploy/`, against what the code has and what the platforms take.
//!
//! A rule takes the path and the text of a file and returns one line for each place that breaks it; one test runs it over what is
//! there, another over a sound file with one thing broken. Kubernetes' own fields are checked against its schemas in CI, since those
//! come as a package; Cloud Run's are checked here, see [`schema`].
#![expect(clippy::expect_used, reason = "a workspace that cannot be read fails the test")]

mod cloud_run;
mod container;
mod firestore;
mod health;
mod image;
mod kubernetes;
mod manifest;
mod schema;
mod settings;
mod start;

/// Lines about a file.
struct Report<'a> {
    path: &'a str,
    lines: Vec<String>,
}

impl<'a> Report<'a> {
    fn of(path: &'a str) -> Self {
        Self { path, lines: Vec::new() }
    }

    /// Adds a line.
    fn fault(&mut self, line: impl std::fmt::Display) {
        self.lines.push(format!("{}: {line}", self.path));
    }

    /// Adds a line where something does not hold.
    fn unless(&mut self, holds: bool, line: impl std::fmt::Display) {
        if !holds {
            self.fault(line);
        }
    }
}

/// Fails with one line for each violation.
fn none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n"));
}

/// Fails unless a rule finds nothing in a sound text, and every change of it: what stands there, what is put in its place, and a part
/// of the line that says so.
fn each_change_is_found(sound: &str, rule: impl Fn(&str) -> Vec<String>, changes: &[(&str, &str, &str)]) {
    none(rule(sound));
    for (from, to, expected) in changes {
        assert!(sound.contains(from), "there is no {from:?} to change");
        let found = rule(&sound.replacen(from, to, 1));
        assert!(found.iter().any(|line| line.contains(expected)), "{from:?} to {to:?}: found {found:?}");
    }
}
