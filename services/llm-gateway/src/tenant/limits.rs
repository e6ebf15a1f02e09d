//! The limits of one tenant.

use serde::Deserialize;

/// What a tenant may use; a limit that is `None` does not apply.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The tenant, or `*`: each one without limits of its own.
    pub name: String,
    /// Calls to upstreams a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens read and written a minute.
    pub tokens_per_minute: Option<u64>,
    /// USD a day.
    pub usd_per_day: Option<f64>,
    /// Share of `usd_per_day`, 0 to 1, from which a warning is logged and counted, once a day. Default 0.8.
    #[serde(default = "most")]
    pub warn_at: f64,
}

fn most() -> f64 {
    0.8
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            name: "*".into(),
            requests_per_minute: None,
            tokens_per_minute: None,
            usd_per_day: None,
            warn_at: most(),
        }
    }
}

impl Limits {
    /// Returns the first field that cannot be, and what it must be.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.name.is_empty() {
            Some(("name", "must be a tenant, or `*`"))
        } else if self.requests_per_minute == Some(0) {
            Some(("requests_per_minute", "must be at least 1"))
        } else if self.tokens_per_minute == Some(0) {
            Some(("tokens_per_minute", "must be at least 1"))
        } else if self.usd_per_day.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
            Some(("usd_per_day", "must be at least 0"))
        } else if !(0.0..=1.0).contains(&self.warn_at) {
            Some(("warn_at", "must be 0 to 1"))
        } else {
            None
        }
    }
}
