//! The rules of the house that no compiler checks, each a function of plain text with a test that it can fail.
//!
//! What is checked is said in ARCHITECTURE.md. A rule takes a path (relative to the workspace) and a text, or the manifests,
//! and returns one line for each place that breaks it; the test of the rule runs it over the whole workspace.
#![expect(clippy::expect_used, reason = "a workspace that cannot be read fails the test")]

mod dependencies;
mod documents;
mod errors;
mod hygiene;
mod layers;
mod layout;
mod libraries;
mod lints;
mod logging;
mod manifests;
mod metrics;
mod naming;
mod settings;
mod size;
mod source;
mod supply;
mod tables;

/// Fails with one line for each violation.
fn none(rule: &str, violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "{rule}: {} violations\n{}", violations.len(), violations.join("\n"));
}
