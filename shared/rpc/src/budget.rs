//! What all callers of a server may repeat together.

use std::{fmt, time::Duration};

use tower::retry::budget::{Budget as _, TpsBudget};

/// A share of the calls, and some a second (Finagle's and linkerd's budget): repetitions never multiply what a server that fails gets.
pub struct Budget(TpsBudget);

/// How long a call counts for the share.
const REMEMBERED: Duration = Duration::from_secs(10);

impl Budget {
    /// Allows `percent` (0 to 100) of the calls of the last 10 s to be repeated, and `per_second` (up to 10,000) whatever their number.
    #[must_use]
    pub fn new(percent: u32, per_second: u32) -> Self {
        // Within what the budget takes, whatever is asked for.
        let (share, per_second) = (percent.min(100) as f32 / 100.0, per_second.min(10_000));
        Self(TpsBudget::new(REMEMBERED, per_second, share))
    }

    /// Counts a call.
    pub fn called(&self) {
        self.0.deposit();
    }

    /// Takes a repetition out of the budget; returns whether there was one.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.0.withdraw()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
