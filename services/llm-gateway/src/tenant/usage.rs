//! What one tenant used.

use std::{sync::Arc, time::Duration};

use super::{Limits, bucket::Bucket};

const DAY_SECONDS: u64 = 86_400;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Exceeded {
    /// Too many calls this minute.
    #[error("the tenant's calls to models of this minute are used up")]
    Requests {
        /// When there is room for one.
        retry_after: Duration,
    },
    /// Too many tokens this minute.
    #[error("the tenant's tokens of this minute are used up")]
    Tokens {
        /// When there is room for those of this call.
        retry_after: Duration,
    },
    /// Too much money this day.
    #[error("the tenant's money of this day is used up")]
    Budget {
        /// When the next day begins, on the agent clock.
        retry_after: Duration,
    },
    /// More money than a whole day has: on no day is there room for this call.
    #[error(
        "the call is estimated at {usd} USD and the tenant has {usd_per_day} a day: a smaller `max_tokens` lowers the estimate"
    )]
    Day {
        /// By estimate.
        usd: f64,
        /// What the tenant may use.
        usd_per_day: f64,
    },
}

/// What a tenant used and may use.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantUsage {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Calls that asked an upstream since the start.
    pub calls: u64,
    /// Tokens they used.
    pub tokens: u64,
    /// USD of this day, reservations included.
    pub usd_today: f64,
    /// USD it may use a day.
    pub usd_per_day: Option<f64>,
    /// Calls refused since the start.
    pub refused: u64,
    /// Whether it was warned this day.
    pub is_warned: bool,
}

/// What a call reserved.
#[derive(Debug)]
pub(super) struct Claim {
    tokens: u64,
    usd: f64,
    day: u64,
}

#[derive(Debug)]
pub(super) struct State {
    limits: Arc<Limits>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    day: u64,
    usd: f64,
    is_warned: bool,
    calls: u64,
    used_tokens: u64,
    refused: u64,
}

impl Exceeded {
    /// Returns the stable word used as a metric attribute.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Requests { .. } => "requests",
            Self::Tokens { .. } => "tokens",
            Self::Budget { .. } | Self::Day { .. } => "budget",
        }
    }
}

impl State {
    pub(super) fn new(limits: Arc<Limits>, now: Duration) -> Self {
        let requests = limits.requests_per_minute.map(|size| Bucket::full(f64::from(size), now));
        let tokens = limits.tokens_per_minute.map(|size| Bucket::full(size as f64, now));
        let (day, usd, is_warned) = (day(now), 0.0, false);
        Self { limits, requests, tokens, day, usd, is_warned, calls: 0, used_tokens: 0, refused: 0 }
    }

    /// Reserves a call, and returns whether it is the one to warn at.
    pub(super) fn claim(&mut self, tokens: u64, usd: f64, now: Duration) -> Result<(Claim, bool), Exceeded> {
        self.turn(now);
        if let Some(exceeded) = self.exceeded(tokens, usd, now) {
            self.refused += 1;
            return Err(exceeded);
        }
        self.calls += 1;
        if let Some(bucket) = &mut self.requests {
            bucket.take(1.0);
        }
        // An estimate is what the caller says at most: it holds the tenant up for no longer than the minute that it waits for.
        let held = tokens.min(self.limits.tokens_per_minute.unwrap_or(u64::MAX));
        let claim = Claim { tokens: held, usd, day: self.day };
        self.charge(held as f64, usd);
        self.used_tokens = self.used_tokens.saturating_add(held);
        let is_much = self.limits.usd_per_day.is_some_and(|limit| self.usd > limit * self.limits.warn_at);
        let is_warning = is_much && !self.is_warned;
        self.is_warned |= is_much;
        Ok((claim, is_warning))
    }

    /// Replaces what was reserved by what was used. Money of a day that is over is over with it.
    pub(super) fn settle(&mut self, claim: Claim, tokens: u64, usd: f64) {
        let money = if claim.day == self.day { usd - claim.usd } else { 0.0 };
        self.charge(tokens as f64 - claim.tokens as f64, money);
        self.used_tokens = self.used_tokens.saturating_sub(claim.tokens).saturating_add(tokens);
    }

    pub(super) fn usage(&mut self, tenant: &Arc<str>, now: Duration) -> TenantUsage {
        self.turn(now);
        TenantUsage {
            tenant: tenant.clone(),
            calls: self.calls,
            tokens: self.used_tokens,
            usd_today: self.usd,
            usd_per_day: self.limits.usd_per_day,
            refused: self.refused,
            is_warned: self.is_warned,
        }
    }

    /// Takes note of the time.
    fn turn(&mut self, now: Duration) {
        if day(now) != self.day {
            (self.day, self.usd, self.is_warned) = (day(now), 0.0, false);
        }
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.fill(now);
        }
    }

    fn exceeded(&self, tokens: u64, usd: f64, now: Duration) -> Option<Exceeded> {
        let lacks = |bucket: Option<Bucket>, amount| bucket.and_then(|bucket| bucket.lacks(amount));
        let is_more = |usd: f64, limit: f64| usd > limit * (1.0 + 1e-9);
        if let Some(usd_per_day) = self.limits.usd_per_day.filter(|limit| is_more(self.usd + usd, *limit)) {
            if is_more(usd, usd_per_day) {
                return Some(Exceeded::Day { usd, usd_per_day });
            }
            let retry_after = Duration::from_secs((self.day + 1) * DAY_SECONDS).saturating_sub(now);
            return Some(Exceeded::Budget { retry_after });
        }
        let requests = lacks(self.requests, 1.0).map(|retry_after| Exceeded::Requests { retry_after });
        let tokens = || lacks(self.tokens, tokens as f64).map(|retry_after| Exceeded::Tokens { retry_after });
        requests.or_else(tokens)
    }

    fn charge(&mut self, tokens: f64, usd: f64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens);
        }
        self.usd = (self.usd + usd).max(0.0);
    }
}

fn day(now: Duration) -> u64 {
    now.as_secs() / DAY_SECONDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn money_is_never_promised_twice(
            calls in proptest::collection::vec((0.0_f64..0.5, 0.0_f64..1.0, 0_u8..3), 1..100),
        ) {
            let limits = Limits { usd_per_day: Some(1.0), ..Limits::default() };
            let mut state = State::new(Arc::new(limits), Duration::ZERO);
            let mut spent = 0.0;
            for (estimate, share, end) in calls {
                let Ok((claim, _)) = state.claim(1, estimate, Duration::ZERO) else { continue };
                // No call costs more than its estimate here, so the limit holds to the cent.
                spent += match end {
                    0 => {
                        state.settle(claim, 1, estimate * share);
                        estimate * share
                    }
                    1 => {
                        state.settle(claim, 0, 0.0);
                        0.0
                    }
                    _ => estimate,
                };
                prop_assert!(spent <= 1.0 + 1e-6 && (state.usd - spent).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn an_estimate_holds_the_tenant_up_for_no_longer_than_a_minute() {
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };
        let mut state = State::new(Arc::new(limits), Duration::ZERO);
        for (minute, estimate) in [(0, u64::from(u32::MAX)), (1, u64::MAX)] {
            // As of a caller that leaves: what was reserved is never replaced.
            state.claim(estimate, 0.0, Duration::from_secs(60 * minute)).unwrap();
        }
        assert!(state.claim(1, 0.0, Duration::from_secs(60)).is_err());
        let (claim, _) = state.claim(100, 0.0, Duration::from_secs(120)).unwrap();
        state.settle(claim, u64::MAX, 0.0);
        assert_eq!(state.used_tokens, u64::MAX);
    }
}
