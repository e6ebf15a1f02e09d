//! Benchmarks of the gateway, run by `athena bench`.

mod templates;

use serde_json::Value;

pub use self::templates::{Error as TemplatesError, templates};

/// What one round measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The benchmark's value.
    pub value: f64,
    /// Every further quantity, by its documented key.
    pub details: Value,
}
