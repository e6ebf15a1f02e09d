//! Tells the agent's time: the system's, or one that a replay or a test moves by hand.
//!
//! Event time (expiry, flush intervals, buckets, windows, rates) is read here. A latency is wall time and measured with
//! [`std::time::Instant`]. Clones of a clock, in any number of services of one process, share one time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

/// A source of event time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(watch::Receiver<SystemTime>),
}

/// Moves a manual [`Clock`]; time never goes back.
#[derive(Clone, Debug)]
pub struct Hand(Arc<watch::Sender<SystemTime>>);

impl Clock {
    /// Returns the system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Returns a clock that stands at `start` until its hand moves it.
    #[must_use]
    pub fn manual(start: SystemTime) -> (Self, Hand) {
        let (sender, receiver) = watch::channel(start);
        (Self(Source::Manual(receiver)), Hand(Arc::new(sender)))
    }

    /// Returns the present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's time")]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(time) => *time.borrow(),
        }
    }

    /// Returns whether a hand moves this clock.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Waits until `duration` has passed on this clock, counted from the call and not from the first poll.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.sleep_until(self.now() + duration)
    }

    /// Waits until this clock shows `moment` or later; for ever if the hand of a manual clock is gone before.
    pub async fn sleep_until(&self, moment: SystemTime) {
        match &self.0 {
            Source::System => {
                // The system's clock may be set back while we wait: look again instead of trusting one timer.
                while let Ok(left) = moment.duration_since(self.now()) {
                    if left.is_zero() {
                        break;
                    }
                    tokio::time::sleep(left).await;
                }
            }
            Source::Manual(time) => {
                if time.clone().wait_for(|now| *now >= moment).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Hand {
    /// Moves the clock forward by `duration` and wakes whoever waits for a moment up to then.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|now| *now += duration);
    }

    /// Moves the clock to `moment`; a moment before the present one changes nothing.
    pub fn set(&self, moment: SystemTime) {
        self.0.send_modify(|now| *now = moment.max(*now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Clock;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hand_passes_its_moment() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let sleeper = clock.clone();
        let mut sleep = std::pin::pin!(sleeper.sleep(Duration::from_secs(60)));
        hand.advance(Duration::from_secs(59));
        assert!(poll_once(sleep.as_mut()).await.is_pending());
        hand.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(60));
    }

    #[test]
    fn time_never_goes_back() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(5));
        hand.set(UNIX_EPOCH);
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(5));
    }

    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
    }
}
