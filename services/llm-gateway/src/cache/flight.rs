//! Identical calls in flight: one asks, the others wait for its answer.
//!
//! 1. Callers take turns at leading. The leader asks; when it lands an answer everyone aboard gets it.
//! 2. A leader that goes away, or fails for a reason of its own, hands its turn to the next in line.
//! 3. A failure that would meet anyone (the upstream is down) is tried by at most [`MOST_LEADERS`] leaders, then told to all:
//!    a hundred waiting callers must not become a hundred attempts, one after another.
//! 4. Nobody waits longer than it wants to: dropping the future of [`Flights::board`] leaves the flight.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Key;
use crate::provider::Failure;

/// Most leaders of one flight whose upstream call may fail before the failure is told to everyone aboard.
pub const MOST_LEADERS: u32 = 3;

/// The calls in flight, by identity.
#[derive(Debug)]
pub struct Flights<V>(Arc<DashMap<Key, Arc<Flight<V>>>>);

/// How a caller takes part.
#[derive(Debug)]
pub enum Seat<V> {
    /// It asks, and tells the others.
    Lead(Lead<V>),
    /// Another one asked: here is what came of it.
    Landed(Result<V, Failure>),
}

/// The turn to ask. Dropping it without an answer hands it to the next in line.
#[derive(Debug)]
pub struct Lead<V> {
    // Declared first, so that the turn is free before the flight may be taken down.
    _turn: OwnedSemaphorePermit,
    ticket: Ticket<V>,
    promoted: bool,
}

#[derive(Debug)]
struct Flight<V> {
    turn: Arc<Semaphore>,
    landed: OnceLock<Result<V, Failure>>,
    aboard: AtomicUsize,
    failed_leaders: AtomicU32,
}

/// A place aboard; the last one to leave takes the flight down.
#[derive(Debug)]
struct Ticket<V> {
    key: Key,
    flight: Arc<Flight<V>>,
    flights: Arc<DashMap<Key, Arc<Flight<V>>>>,
}

impl<V: Clone> Flights<V> {
    /// Takes part in the call with this identity: waits for its answer, or for the turn to ask.
    pub async fn board(&self, key: &Key) -> Seat<V> {
        let ticket = self.ticket(key);
        if let Ok(turn) = ticket.flight.turn.clone().try_acquire_owned() {
            return Seat::Lead(Lead { _turn: turn, ticket, promoted: false });
        }
        match ticket.flight.turn.clone().acquire_owned().await {
            Ok(turn) => Seat::Lead(Lead { _turn: turn, ticket, promoted: true }),
            // Closed: the outcome was set before.
            Err(_) => match ticket.flight.landed.get() {
                Some(outcome) => Seat::Landed(outcome.clone()),
                None => Seat::Landed(Err(Failure::Malformed)),
            },
        }
    }

    /// Returns how many flights are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn ticket(&self, key: &Key) -> Ticket<V> {
        // Counted under the map's lock, so that a flight found here is not taken down meanwhile.
        let flight = self.0.entry(key.clone()).or_insert_with(|| Arc::new(Flight::new()));
        flight.aboard.fetch_add(1, Ordering::AcqRel);
        let flight = Arc::clone(&flight);
        Ticket { key: key.clone(), flight, flights: self.0.clone() }
    }
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self(Arc::new(DashMap::new()))
    }
}

impl<V> Lead<V> {
    /// Returns whether another one led before.
    #[must_use]
    pub fn promoted(&self) -> bool {
        self.promoted
    }

    /// Gives everyone aboard the answer.
    pub fn land(self, answer: V) {
        self.ticket.end(Ok(answer));
    }

    /// Tells that asking failed: the next in line tries, or, after [`MOST_LEADERS`], everyone aboard gets the failure.
    /// A failure of this caller alone only hands over the turn.
    pub fn fail(self, failure: Failure) {
        if failure.is_own() {
            return;
        }
        let failed = self.ticket.flight.failed_leaders.fetch_add(1, Ordering::AcqRel) + 1;
        if failure.is_final() || failed >= MOST_LEADERS {
            self.ticket.end(Err(failure));
        }
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            landed: OnceLock::new(),
            aboard: AtomicUsize::new(0),
            failed_leaders: AtomicU32::new(0),
        }
    }
}

impl<V> Ticket<V> {
    fn end(&self, outcome: Result<V, Failure>) {
        // Set by the one leader, once: whoever comes later starts another flight.
        let _ = self.flight.landed.set(outcome);
        self.flights.remove_if(&self.key, |_, flight| Arc::ptr_eq(flight, &self.flight));
        self.flight.turn.close();
    }
}

impl<V> Drop for Ticket<V> {
    fn drop(&mut self) {
        let last = |_: &Key, flight: &Arc<Flight<V>>| {
            Arc::ptr_eq(flight, &self.flight) && flight.aboard.fetch_sub(1, Ordering::AcqRel) == 1
        };
        self.flights.remove_if(&self.key, last);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Flights, MOST_LEADERS, Seat};
    use crate::{
        cache::{Key, Keys},
        conversation::Conversation,
        provider::Failure,
    };

    fn key() -> Key {
        Keys::new([1; 32]).conversation(&"t".into(), &"m".into(), &Conversation::default())
    }

    async fn lead(flights: &Flights<u32>) -> super::Lead<u32> {
        match flights.board(&key()).await {
            Seat::Lead(lead) => lead,
            Seat::Landed(outcome) => panic!("expected the turn, got {outcome:?}"),
        }
    }

    /// Boards `count` followers and returns when all wait.
    async fn followers(flights: &Arc<Flights<u32>>, count: usize) -> tokio::task::JoinSet<Seat<u32>> {
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..count {
            let flights = flights.clone();
            set.spawn(async move { flights.board(&key()).await });
        }
        while flights
            .0
            .get(&key())
            .is_none_or(|flight| flight.aboard.load(std::sync::atomic::Ordering::Acquire) < count + 1)
        {
            tokio::task::yield_now().await;
        }
        set
    }

    #[tokio::test]
    async fn everyone_aboard_gets_the_leaders_answer() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights).await;
        let waiting = followers(&flights, 10).await;
        first.land(7);
        for seat in waiting.join_all().await {
            assert!(matches!(seat, Seat::Landed(Ok(7))));
        }
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_is_followed_by_the_next_in_line() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights).await;
        let mut waiting = followers(&flights, 2).await;
        drop(first);
        let Seat::Lead(second) = waiting.join_next().await.unwrap().unwrap() else {
            panic!("nobody was promoted")
        };
        second.land(8);
        assert!(matches!(waiting.join_next().await.unwrap().unwrap(), Seat::Landed(Ok(8))));
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_by_a_follower_and_told_to_all_after_a_few() {
        let flights = Arc::new(Flights::default());
        let mut turn = lead(&flights).await;
        let mut waiting = followers(&flights, 5).await;
        for _ in 1..MOST_LEADERS {
            turn.fail(Failure::Unreachable);
            let Seat::Lead(next) = waiting.join_next().await.unwrap().unwrap() else {
                panic!("nobody was promoted")
            };
            turn = next;
        }
        turn.fail(Failure::Unreachable);
        for seat in waiting.join_all().await {
            assert!(matches!(seat, Seat::Landed(Err(Failure::Unreachable))));
        }
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_follower_that_stops_waiting_leaves_no_flight_behind() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights).await;
        let waiting = followers(&flights, 3).await;
        drop(waiting);
        drop(first);
        while !flights.is_empty() {
            tokio::task::yield_now().await;
        }
        lead(&flights).await.land(1);
    }
}
