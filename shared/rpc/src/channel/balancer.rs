//! The addresses behind a channel, and which of them takes a call.
//!
//! Nothing here runs by itself: a call looks a name up again when the last lookup is old, and has a connection made where
//! one is wanted. Calls that find none ready wait for the first that becomes so. A dead address costs no call as long as
//! another one lives.

use std::{
    collections::HashSet,
    error::Error as StdError,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};
use tonic::Code;

use super::{
    dial::Dialer,
    endpoint::{Endpoint, Lease, Standing},
    target::Target,
    watching,
};
use crate::{Fault, breaker::BreakerOptions, chance::Chance};

/// Least time between two lookups of a name, however much a server that is gone asks for one.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Balancer {
    own: Weak<Self>,
    targets: Vec<Arc<Target>>,
    dialer: Dialer,
    breaker: BreakerOptions,
    /// How old a lookup may be.
    resolve_interval: Duration,
    pub(super) chance: Arc<Chance>,
    endpoints: RwLock<Arc<[Arc<Endpoint>]>>,
    lookup: Mutex<Lookup>,
    /// When an endpoint last took a call.
    was_ready: Mutex<Option<Instant>>,
    /// Wakes waiting calls, in their order, when something has changed that they wait for.
    changes: Notify,
}

/// The state of the names' lookup.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    is_running: bool,
    /// When the last one ended.
    last: Option<Instant>,
}

/// Why no connection could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No name has an address.
    Unknown,
    /// No address can be reached before then.
    Down(Instant),
    /// The breakers are open until then.
    Open(Instant),
}

/// What a call does next.
enum Choice {
    Take(Lease),
    Wait,
    GiveUp(Refusal),
}

impl Balancer {
    pub(super) fn new(
        targets: Vec<Arc<Target>>,
        dialer: Dialer,
        breaker: BreakerOptions,
        resolve_interval: Duration,
        chance: Arc<Chance>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            targets,
            dialer,
            breaker,
            resolve_interval,
            chance,
            endpoints: RwLock::new(Arc::new([])),
            lookup: Mutex::new(Lookup { is_running: false, last: None }),
            was_ready: Mutex::new(None),
            changes: Notify::new(),
        })
    }

    /// Returns a connection for one call, at another address than those of `avoided` if there is one.
    pub(super) async fn lease(&self, avoided: &[SocketAddr]) -> Result<Lease, Refusal> {
        self.refresh(self.resolve_interval);
        loop {
            let mut change = pin!(self.changes.notified());
            // Before the look, so that no change between look and wait is missed.
            change.as_mut().enable();
            match self.choose(avoided) {
                Choice::Take(lease) => return Ok(lease),
                Choice::GiveUp(refusal) => return Err(refusal),
                Choice::Wait => change.await,
            }
        }
    }

    fn choose(&self, avoided: &[SocketAddr]) -> Choice {
        let endpoints = self.endpoints.read().clone();
        if endpoints.is_empty() {
            let is_running = self.lookup.lock().is_running;
            return if is_running { Choice::Wait } else { Choice::GiveUp(Refusal::Unknown) };
        }
        let now = Instant::now();
        let (mut ready, mut draining, mut coming) = (Vec::new(), Vec::new(), false);
        let (mut down, mut open) = (None, None);
        for endpoint in endpoints.iter() {
            match endpoint.standing(now) {
                Standing::Ready => ready.push(endpoint),
                Standing::NotServing => draining.push(endpoint),
                // Also while another one is ready: so the set heals at no call's cost.
                Standing::Idle => coming |= self.dial(endpoint),
                Standing::Dialling => coming = true,
                Standing::Down(until) => down = earliest(down, until),
                Standing::Open(until) => open = earliest(open, until),
            }
        }
        if let Some(lease) = self.one_of(ready, avoided) {
            return Choice::Take(lease);
        }
        if coming {
            return Choice::Wait;
        }
        // All that is left says that it does not serve: a server that drains still does.
        if let Some(lease) = self.one_of(draining, avoided) {
            return Choice::Take(lease);
        }
        if self.hurry(&endpoints) {
            return Choice::Wait;
        }
        match (down, open) {
            (Some(until), _) => Choice::GiveUp(Refusal::Down(until)),
            (None, Some(until)) => Choice::GiveUp(Refusal::Open(until)),
            // A connection broke, or a breaker opened, between two looks.
            (None, None) => Choice::GiveUp(Refusal::Down(now)),
        }
    }

    /// Takes the less busy of two chosen by chance (power of two choices: Mitzenmacher 2001).
    fn one_of(&self, mut from: Vec<&Arc<Endpoint>>, avoided: &[SocketAddr]) -> Option<Lease> {
        if from.iter().any(|endpoint| !avoided.contains(&endpoint.address)) {
            from.retain(|endpoint| !avoided.contains(&endpoint.address));
        }
        while !from.is_empty() {
            let first = self.chance.index(from.len());
            let second = (first + 1 + self.chance.index(from.len() - 1)) % from.len();
            let at = if from[second].load() < from[first].load() { second } else { first };
            if let Some(lease) = from.swap_remove(at).lease() {
                *self.was_ready.lock() = Some(Instant::now());
                return Some(lease);
            }
        }
        None
    }

    /// The last endpoint that took calls is gone: those that were tried before that are tried once more at once, since one of
    /// them may have come back meanwhile, as in a rolling restart. Returns whether there are any.
    fn hurry(&self, endpoints: &[Arc<Endpoint>]) -> bool {
        let Some(since) = *self.was_ready.lock() else { return false };
        endpoints.iter().filter(|endpoint| endpoint.hurry(since) && self.dial(endpoint)).count() > 0
    }

    /// Has a connection made; returns whether one is on its way.
    fn dial(&self, endpoint: &Arc<Endpoint>) -> bool {
        let Some(number) = endpoint.dialling() else { return true };
        let Some(balancer) = self.own.upgrade() else { return false };
        let endpoint = endpoint.clone();
        self.dialer.telemetry.spawn_apart(async move { balancer.connect(endpoint, number).await });
        true
    }

    async fn connect(self: Arc<Self>, endpoint: Arc<Endpoint>, number: u64) {
        let (balancer, ended) = (self.own.clone(), Arc::downgrade(&endpoint));
        let lost = move || {
            if let Some(endpoint) = ended.upgrade() {
                endpoint.lost(number);
            }
            if let Some(balancer) = balancer.upgrade() {
                balancer.changed();
            }
        };
        match self.dialer.dial(&endpoint.target, endpoint.address, lost).await {
            Ok(sender) if self.is_alone() => endpoint.connected(number, sender, true, false),
            // Among several the server is asked first: one that does not serve is passed over from the beginning.
            Ok(sender) => {
                let asking = watching::ask(sender.clone(), &endpoint.target);
                let (serving, rest) =
                    tokio::time::timeout(self.dialer.timeout, asking).await.unwrap_or((true, None));
                endpoint.connected(number, sender, serving, true);
                self.follow(&endpoint, number, rest);
            }
            Err(error) => {
                let wait = endpoint.unreachable();
                let (address, error) = (endpoint.address, error.as_ref() as &dyn StdError);
                tracing::debug!(%address, error, wait_ms = wait.as_secs_f64() * 1e3, "no connection");
                self.refresh(LOOKUP_PAUSE);
            }
        }
        self.changed();
    }

    /// Whether there is nothing to choose from. Then the health of the server is not watched: it would bring nothing, and
    /// where each open stream is paid for (Cloud Run) it would cost.
    fn is_alone(&self) -> bool {
        self.endpoints.read().len() < 2
    }

    fn follow(&self, endpoint: &Arc<Endpoint>, number: u64, states: Option<watching::States>) {
        let (Some(states), balancer) = (states, self.own.clone()) else { return };
        let (weak, alive) = (Arc::downgrade(endpoint), endpoint.alive());
        let follow = watching::follow(states, alive, move |serving| {
            let is_news = weak.upgrade().is_some_and(|endpoint| endpoint.says(number, serving));
            if let (true, Some(balancer)) = (is_news, balancer.upgrade()) {
                balancer.changed();
            }
        });
        self.dialer.telemetry.spawn_apart(follow);
    }

    fn changed(&self) {
        self.changes.notify_waiters();
    }

    /// Looks the names up again if the last lookup is older than `age`, beside the calls. The first one is waited for.
    fn refresh(&self, age: Duration) {
        let mut lookup = self.lookup.lock();
        let is_fresh = lookup.last.is_some_and(|last| {
            last.elapsed() < age.max(LOOKUP_PAUSE) || self.targets.iter().all(|target| target.is_address)
        });
        if lookup.is_running || is_fresh {
            return;
        }
        lookup.is_running = true;
        drop(lookup);
        if let Some(balancer) = self.own.upgrade() {
            self.dialer.telemetry.spawn_apart(async move { balancer.resolve().await });
        }
    }

    async fn resolve(&self) {
        let mut found = Vec::new();
        for target in &self.targets {
            let looking = self.dialer.network.resolve(&target.host, target.port);
            match tokio::time::timeout(self.dialer.timeout, looking).await {
                Ok(Ok(addresses)) => {
                    found.extend(addresses.into_iter().map(|address| (target.clone(), address)));
                }
                Ok(Err(error)) => {
                    tracing::warn!(host = target.host, error = &error as &dyn StdError, "name not found");
                    found.extend(self.known(target));
                }
                Err(_) => found.extend(self.known(target)),
            }
        }
        self.replace(found);
        *self.lookup.lock() = Lookup { is_running: false, last: Some(Instant::now()) };
        self.changed();
    }

    /// What a name stood for: a resolver that fails takes nothing away.
    fn known(&self, target: &Arc<Target>) -> Vec<(Arc<Target>, SocketAddr)> {
        let endpoints = self.endpoints.read().clone();
        let own = endpoints.iter().filter(|endpoint| Arc::ptr_eq(&endpoint.target, target));
        own.map(|endpoint| (target.clone(), endpoint.address)).collect()
    }

    /// Keeps the endpoints that are still there, with their connections. Calls on those that are not finish.
    fn replace(&self, found: Vec<(Arc<Target>, SocketAddr)>) {
        let old = self.endpoints.read().clone();
        let mut seen = HashSet::new();
        let new: Arc<[Arc<Endpoint>]> = found
            .into_iter()
            .filter(|(_, address)| seen.insert(*address))
            .map(|(target, address)| {
                let kept = old.iter().find(|one| one.address == address && one.target == target);
                kept.cloned().unwrap_or_else(|| {
                    Arc::new(Endpoint::new(target, address, &self.breaker, self.chance.clone()))
                })
            })
            .collect();
        *self.endpoints.write() = new.clone();
        if !self.is_alone() {
            // A connection of the time when there was only one is not watched yet.
            for endpoint in new.iter() {
                self.watch(endpoint);
            }
        }
    }

    fn watch(&self, endpoint: &Arc<Endpoint>) {
        let (Some((number, sender)), Some(balancer)) = (endpoint.unwatched(), self.own.upgrade()) else {
            return;
        };
        let endpoint = endpoint.clone();
        self.dialer.telemetry.spawn_apart(async move {
            let (serving, rest) = watching::ask(sender, &endpoint.target).await;
            if endpoint.says(number, serving) {
                balancer.changed();
            }
            balancer.follow(&endpoint, number, rest);
        });
    }
}

fn earliest(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}

impl Refusal {
    /// Returns the fault of a call that got no connection.
    pub(super) fn fault(self) -> Fault {
        let unavailable = |message, reason| Fault::new(Code::Unavailable, message).reason(reason);
        let wait = |until: Instant| until.saturating_duration_since(Instant::now());
        match self {
            Self::Unknown => unavailable("the name of the server has no address", "NO_ADDRESS"),
            Self::Down(until) => unavailable("no connection to the server could be made", "NO_CONNECTION")
                .retry_after(wait(until)),
            Self::Open(until) => {
                unavailable("the server failed too often and is left alone for a while", "CIRCUIT_OPEN")
                    .retry_after(wait(until))
            }
        }
    }
}
