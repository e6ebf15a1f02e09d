//! One branch of a stage: its name, how long it took, and what came of it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// What came of one branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch<T> {
    /// What it was: `recall pool WETH-USDC (aerodrome-slipstream)`, `source gas`.
    pub name: String,
    /// Wall time it took.
    pub duration: Duration,
    /// Its result, or why there is none.
    pub result: Result<T, Problem>,
}

/// Why a branch failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A gRPC code in words, such as `DEADLINE_EXCEEDED`.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl Problem {
    /// Makes a problem.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl<T> Branch<T> {
    /// Returns the branch with its result changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Branch<U> {
        Branch { name: self.name, duration: self.duration, result: self.result.map(change) }
    }
}

/// Runs a branch for at most `limit`; a late one becomes a labelled failure.
pub async fn bounded<T>(
    name: impl Into<String>,
    limit: Duration,
    work: impl Future<Output = Result<T, Problem>>,
) -> Branch<T> {
    let start = Instant::now();
    let result = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Problem::new(
            "DEADLINE_EXCEEDED",
            format!("no answer within its share of {} ms", limit.as_millis()),
        ))
    });
    Branch { name: name.into(), duration: start.elapsed(), result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_branch_is_labelled() {
        let late = std::future::pending::<Result<(), Problem>>();
        let branch = bounded("recall general", Duration::from_millis(40), late).await;
        assert_eq!(branch.name, "recall general");
        assert_eq!(branch.result.unwrap_err().code, "DEADLINE_EXCEEDED");
    }
}
