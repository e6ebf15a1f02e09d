//! Streams of writes: what of one is on its way, and how far it came.
//!
//! Numbers grow, so that an answer has one meaning; after a write was refused for now the stream goes back to it. The writes themselves wait in
//! the accepting task, in their order: what is here is counts.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::{
    accept::{Command, Lane, Reply, Turn},
    batcher::Batcher,
    error::Error,
    write::{Level, NewWrite, Receipt},
};

/// How much of a stream may be on its way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most streams at a time.
    pub streams: usize,
    /// Most writes of one stream that are not answered.
    pub writes: u64,
    /// Bytes of them from which on no further one is taken.
    pub bytes: u64,
}

/// A number that is not greater than the one before, nor that of the first write refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfOrder {
    /// The last one taken.
    pub(crate) last: u64,
}

/// How far a stream came.
#[derive(Debug)]
pub(crate) struct Progress {
    limits: Limits,
    lane: Lane,
    /// The number taken last.
    last: u64,
    /// The least number of this round that was refused for now.
    back: Option<u64>,
    writes: u64,
    bytes: u64,
}

impl Progress {
    /// Begins a stream.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, lane: Lane::new(), last: 0, back: None, writes: 0, bytes: 0 }
    }

    /// Returns whether another write is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.writes < self.limits.writes && self.bytes < self.limits.bytes
    }

    /// Returns the number taken last.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Takes the write of `number`, whose message has so many bytes.
    pub(crate) fn take(&mut self, number: u64, bytes: u64) -> Result<Turn, OutOfOrder> {
        if self.back == Some(number) {
            self.back = None;
            self.lane.go_on();
        } else if number <= self.last {
            return Err(OutOfOrder { last: self.last });
        }
        self.last = number;
        self.writes += 1;
        self.bytes += bytes;
        Ok(self.lane.turn())
    }

    /// Notes that a write is answered, and in which round it was refused for now, if it was.
    pub(crate) fn answer(&mut self, number: u64, bytes: u64, refused_in: Option<u64>) {
        self.writes -= 1;
        self.bytes -= bytes;
        // Who went back before all was answered hears of the round before.
        if refused_in == Some(self.lane.round()) {
            self.back = Some(self.back.map_or(number, |back| back.min(number)));
        }
    }
}

impl Batcher {
    /// Hands a write over in its turn; returns what becomes of it, which does not depend on whether somebody waits. A write that must be stored is
    /// answered when the sink has taken it.
    ///
    /// # Errors
    /// As [`Batcher::write_through`], its time being over with `hurry`; [`Error::Behind`] if a write before it was refused for now.
    pub(crate) async fn submit(
        &self,
        tenant: Arc<str>,
        write: NewWrite,
        level: Level,
        turn: Turn,
        mut hurry: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let (done, stored) = oneshot::channel();
        let is_stored = level == Level::Stored;
        let command = Command::Write {
            tenant,
            writes: vec![write],
            stored: is_stored.then_some(done),
            answer: Reply::in_turn(answer, turn),
        };
        // If nobody takes commands any more, nobody answers.
        drop(self.commands.send(command).await);
        async move {
            let receipt = answered.await.unwrap_or(Err(Error::NotReady))?;
            if !is_stored {
                return Ok(receipt);
            }
            let outcome = tokio::select! {
                biased;
                outcome = stored => outcome.ok(),
                // An error means that the stream is gone, and nobody hears this.
                _ = hurry.wait_for(|hurry| *hurry) => None,
            };
            match outcome {
                Some(Ok(())) => Ok(receipt),
                Some(Err(rejected)) => Err(Error::Rejected(rejected)),
                None => {
                    Err(Error::Durable { sequence: receipt.sequences.last().copied().unwrap_or_default() })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, OutOfOrder, Progress};

    fn progress() -> Progress {
        Progress::new(Limits { streams: 1, writes: 3, bytes: 100 })
    }

    #[test]
    fn a_stream_takes_as_much_as_it_may_and_one_large_write_by_itself() {
        let mut progress = progress();
        for number in [1, 2, 9] {
            assert!(progress.has_room());
            progress.take(number, 10).unwrap();
        }
        assert!(!progress.has_room());
        progress.answer(2, 10, None);
        assert!(progress.has_room());
        progress.take(10, 1_000).unwrap();
        progress.answer(1, 10, None);
        assert!(!progress.has_room(), "the bytes are used up");
        progress.answer(10, 1_000, None);
        assert!(progress.has_room());
        assert_eq!(progress.last(), 10);
    }

    #[test]
    fn numbers_grow_but_for_the_first_that_was_refused_for_now() {
        let mut progress = progress();
        assert_eq!(progress.take(0, 1).unwrap_err(), OutOfOrder { last: 0 });
        for number in 5..=7 {
            progress.take(number, 1).unwrap();
        }
        assert_eq!(progress.take(7, 1).unwrap_err(), OutOfOrder { last: 7 });
        progress.answer(7, 1, Some(1));
        progress.answer(6, 1, Some(1));
        progress.answer(5, 1, None);
        assert!(progress.take(7, 1).is_err() && progress.take(5, 1).is_err());
        progress.take(6, 1).unwrap();
        assert!(progress.take(6, 1).is_err(), "once");
        progress.answer(6, 1, Some(1));
        assert!(progress.take(6, 1).is_err(), "a word of the round before");
        progress.take(7, 1).unwrap();
    }
}
