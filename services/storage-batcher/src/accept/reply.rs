//! Where the outcome of writes goes, and the order that writes of one stream keep when one of them is refused for now.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::oneshot;

use crate::{error::Error, write::Receipt};

/// A stream's way to the accepting task. What is refused for now halts the round it belongs to: all of it that follows is refused too, so that no
/// write overtakes an earlier one. The next round begins with that one again.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Rounds up to this one are halted.
    halted: Arc<AtomicU64>,
    round: u64,
}

/// The place of a write in its lane.
#[derive(Debug)]
pub(crate) struct Turn {
    halted: Arc<AtomicU64>,
    round: u64,
}

/// Who is told what came of writes.
#[derive(Debug)]
pub(crate) struct Reply {
    answer: oneshot::Sender<Result<Receipt, Error>>,
    turn: Option<Turn>,
}

impl Lane {
    /// Makes a lane in its first round.
    pub(crate) fn new() -> Self {
        Self { halted: Arc::default(), round: 1 }
    }

    /// Begins the next round.
    pub(crate) fn go_on(&mut self) {
        self.round += 1;
    }

    /// Returns the round that writes belong to now.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Gives the next write its place.
    pub(crate) fn turn(&self) -> Turn {
        Turn { halted: Arc::clone(&self.halted), round: self.round }
    }
}

impl Turn {
    /// Returns the round it belongs to.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }
}

impl Reply {
    /// Makes a reply to a write that has a place in a lane.
    pub(crate) fn in_turn(answer: oneshot::Sender<Result<Receipt, Error>>, turn: Turn) -> Self {
        Self { answer, turn: Some(turn) }
    }

    /// Returns whether a write before this one was refused for now. Only the accepting task asks and halts; what is not decided yet takes this
    /// one along if it is refused.
    pub(crate) fn is_behind(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.halted.load(Ordering::Relaxed) >= turn.round)
    }

    /// Tells the outcome; whoever left does not need it.
    pub(crate) fn send(self, outcome: Result<Receipt, Error>) {
        if let (Err(error), Some(turn)) = (&outcome, &self.turn)
            && error.is_for_now()
        {
            turn.halted.fetch_max(turn.round, Ordering::Relaxed);
        }
        drop(self.answer.send(outcome));
    }
}

impl From<oneshot::Sender<Result<Receipt, Error>>> for Reply {
    fn from(answer: oneshot::Sender<Result<Receipt, Error>>) -> Self {
        Self { answer, turn: None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::{Lane, Reply};
    use crate::error::Error;

    fn reply(lane: &Lane) -> Reply {
        Reply::in_turn(oneshot::channel().0, lane.turn())
    }

    #[test]
    fn what_is_refused_for_now_halts_its_round_and_no_other() {
        let (mut lane, other) = (Lane::new(), Lane::new());
        let (first, second, third) = (reply(&lane), reply(&lane), reply(&lane));
        first.send(Err(Error::KeyReused { place: 0 }));
        assert!(!second.is_behind(), "what is refused for good is in nobody's way");
        second.send(Err(Error::Full { setting: "journal_max_writes", most: 1 }));
        assert!(third.is_behind() && reply(&lane).is_behind());
        assert!(!reply(&other).is_behind() && !Reply::from(oneshot::channel().0).is_behind());
        lane.go_on();
        let again = reply(&lane);
        third.send(Err(Error::Behind));
        assert!(!again.is_behind(), "a late word of the round before");
    }
}
