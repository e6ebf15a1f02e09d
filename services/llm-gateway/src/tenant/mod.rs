//! What a tenant may use of upstreams: calls and tokens a minute, USD a day.
//!
//! 1. Limits count calls that ask an upstream. What a pattern, the cache or a call in flight answers is free, and never refused here.
//! 2. A call reserves its estimate before it is made and is settled with what it used. One that failed gives its tokens and money back;
//!    one whose caller left keeps its estimate, since the upstream may charge it.
//! 3. Minutes and days are event time, on the agent clock; a day begins at midnight UTC.
//! 4. Everything is kept in memory, in this process: N replicas have N budgets, and a restart begins a new one.

mod bucket;
mod limits;
mod usage;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clock::Clock;
use dashmap::DashMap;
use parking_lot::Mutex;
use telemetry::{Counter, KeyValue, Telemetry, names};

use self::usage::{Claim, State};
pub use self::{
    limits::Limits,
    usage::{Exceeded, TenantUsage},
};

/// The name of the limits that apply to each tenant without limits of its own.
const EVERYBODY: &str = "*";

/// What all tenants may use and have used.
#[derive(Debug)]
pub struct Tenants {
    limits: HashMap<String, Arc<Limits>>,
    states: DashMap<Arc<str>, Arc<Mutex<State>>>,
    clock: Clock,
    limited: Counter,
}

/// What one call has reserved. Dropped without being settled or released it stays used.
#[derive(Debug, Default)]
#[must_use]
pub struct Reservation(Option<(Arc<Mutex<State>>, Claim)>);

impl Tenants {
    /// Makes the limits of all tenants; nobody has used anything.
    #[must_use]
    pub fn new(limits: Vec<Limits>, clock: Clock, telemetry: &Telemetry) -> Self {
        Self {
            limits: limits.into_iter().map(|limits| (limits.name.clone(), Arc::new(limits))).collect(),
            states: DashMap::new(),
            clock,
            limited: telemetry.counter(names::LLM_TENANT_LIMITED),
        }
    }

    /// Reserves a call of `tenant` that is estimated at so many tokens and USD.
    ///
    /// # Errors
    /// [`Exceeded`] names the limit it would break, and when to come back.
    pub fn reserve(&self, tenant: &Arc<str>, tokens: u64, usd: f64) -> Result<Reservation, Exceeded> {
        let Some(limits) = self.limits.get(&**tenant).or_else(|| self.limits.get(EVERYBODY)) else {
            return Ok(Reservation(None));
        };
        let now = self.now();
        let state = self.states.entry(tenant.clone());
        let state = state.or_insert_with(|| Arc::new(Mutex::new(State::new(limits.clone(), now)))).clone();
        let claim = state.lock().claim(tokens, usd, now);
        match claim {
            Ok((claim, is_warning)) => {
                if is_warning {
                    tracing::warn!(tenant = &**tenant, "the tenant has used most of its money of this day");
                    self.count(tenant, "warned");
                }
                Ok(Reservation(Some((state, claim))))
            }
            Err(exceeded) => {
                tracing::info!(
                    tenant = &**tenant,
                    limit = exceeded.as_str(),
                    "the tenant has reached a limit"
                );
                self.count(tenant, exceeded.as_str());
                Err(exceeded)
            }
        }
    }

    /// Returns what the tenants that have limits used so far, by name.
    #[must_use]
    pub fn usage(&self) -> Vec<TenantUsage> {
        let now = self.now();
        let each = self.states.iter().map(|entry| entry.value().lock().usage(entry.key(), now));
        let mut usage: Vec<_> = each.collect();
        usage.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        usage
    }

    fn count(&self, tenant: &Arc<str>, reason: &'static str) {
        let tenant = KeyValue::new(names::TENANT, tenant.clone());
        self.limited.add(1, &[tenant, KeyValue::new(names::REASON, reason)]);
    }

    /// Returns the time since the epoch: what days and minutes are counted in.
    fn now(&self) -> Duration {
        self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

impl Reservation {
    /// Replaces the estimate by what was used.
    pub fn settle(mut self, tokens: u64, usd: f64) {
        if let Some((state, claim)) = self.0.take() {
            state.lock().settle(claim, tokens, usd);
        }
    }

    /// Gives tokens and money back: the call brought no answer.
    pub fn release(self) {
        self.settle(0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use clock::Hand;

    use super::*;

    fn tenants(limits: Limits) -> (Tenants, Hand) {
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(86_400 * 20_000));
        (Tenants::new(vec![limits], clock, &Telemetry::silent("test")), hand)
    }

    fn limits(name: &str) -> Limits {
        Limits { name: name.into(), ..Limits::default() }
    }

    #[test]
    fn who_has_no_limits_is_never_refused_and_not_counted() {
        let (tenants, _hand) = tenants(Limits { requests_per_minute: Some(1), ..limits("acme") });
        for _ in 0..10 {
            tenants.reserve(&"globex".into(), 1_000_000, 1e6).unwrap().release();
        }
        assert!(tenants.usage().is_empty());
    }

    #[test]
    fn each_tenant_has_the_limits_of_everybody_for_itself() {
        let (tenants, _hand) = tenants(Limits { requests_per_minute: Some(1), ..limits("*") });
        for tenant in ["acme", "globex"] {
            tenants.reserve(&tenant.into(), 1, 0.0).unwrap().settle(1, 0.0);
            let exceeded = tenants.reserve(&tenant.into(), 1, 0.0).unwrap_err();
            assert_eq!(exceeded, Exceeded::Requests { retry_after: Duration::from_secs(60) });
        }
        let usage = tenants.usage();
        assert_eq!(
            usage.iter().map(|usage| (&*usage.tenant, usage.calls, usage.refused)).collect::<Vec<_>>(),
            [("acme", 1, 1), ("globex", 1, 1)]
        );
    }

    #[test]
    fn a_day_of_money_ends_at_midnight_of_the_agent_clock() {
        let (tenants, hand) = tenants(Limits { usd_per_day: Some(1.0), ..limits("acme") });
        let acme: Arc<str> = "acme".into();
        hand.advance(Duration::from_secs(3_600));
        tenants.reserve(&acme, 10, 0.7).unwrap().settle(10, 0.9);
        let exceeded = tenants.reserve(&acme, 10, 0.2).unwrap_err();
        assert_eq!(exceeded, Exceeded::Budget { retry_after: Duration::from_secs(23 * 3_600) });
        tenants.reserve(&acme, 10, 0.1).unwrap().release();
        assert!(tenants.usage()[0].is_warned, "0.9 is more than 80 %");
        hand.advance(Duration::from_secs(23 * 3_600));
        assert!(!tenants.usage()[0].is_warned, "that was yesterday");
        tenants.reserve(&acme, 10, 1.0).unwrap().release();
    }

    #[test]
    fn who_leaves_keeps_what_it_reserved_and_who_fails_gets_it_back() {
        let (tenants, _hand) = tenants(Limits { usd_per_day: Some(1.0), ..limits("acme") });
        let acme: Arc<str> = "acme".into();
        tenants.reserve(&acme, 10, 0.6).unwrap().release();
        drop(tenants.reserve(&acme, 10, 0.6).unwrap());
        assert!(tenants.reserve(&acme, 10, 0.6).is_err());
        assert!((tenants.usage()[0].usd_today - 0.6).abs() < 1e-9);
    }
}
