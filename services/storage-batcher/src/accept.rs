//! Accepting: one task gives sequences, writes what waits in one commit, and only then shows it to the rest of the service.
//!
//! Being the only one, it keeps memory in the order of the disk, and a caller that leaves does not leave the two apart. It drafts commits, one
//! after the other, and the disk takes a draft when it is free for it:
//!
//! | a draft is | until | then it is |
//! |---|---|---|
//! | open: writes are added | all that came by now is in it | on its way: writes are added still |
//! | on its way | the disk takes it | closed: writes begin the next draft, as what follows this one |
//! | closed | it is on disk | shown, and all that wait for it are told |
//! | on its way or closed | it cannot be written, or what it follows was not | refused, and all that wait for it are told |
//!
//! What looks at samples or dead letters waits until what came before and matters to it is shown.

mod draft;
mod letters;
mod reply;
mod samples;
mod sequenced;

use std::sync::Arc;

use parking_lot::MappedMutexGuard;
use tokio::sync::{mpsc, oneshot};

use self::draft::{Before, Draft};
pub use self::letters::{Fate, Redeemed};
pub(crate) use self::reply::{Lane, Reply, Turn};
use crate::{
    acks::Outcome,
    error::Error,
    shared::Shared,
    write::{NewSample, NewWrite},
};

/// Most requests that are drafted before it is looked whether one of the drafts is on disk.
const AT_ONCE: usize = 64;
/// Most drafts while the last is full.
const MOST_DRAFTS: usize = 3;

/// What the accepting task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept writes of one tenant, all or none; `stored` is told what comes of them at the sink.
    Write { tenant: Arc<str>, writes: Vec<NewWrite>, stored: Option<oneshot::Sender<Outcome>>, answer: Reply },
    /// Do with dead letters of one tenant as `fate` says; answered with those that were there.
    Letters {
        tenant: Arc<str>,
        caller: Arc<str>,
        sequences: Vec<u64>,
        fate: Fate,
        answer: oneshot::Sender<Result<Vec<Redeemed>, Error>>,
    },
    /// Accept samples of one tenant, all or none; answered with its open buckets.
    Record { tenant: Arc<str>, samples: Vec<NewSample>, answer: oneshot::Sender<Result<u64, Error>> },
    /// Close the buckets whose time is over, and all of one tenant if it is named.
    Close { tenant: Option<Arc<str>>, answer: oneshot::Sender<Result<(), Error>> },
    /// Finish what was asked before and end.
    Stop,
}

struct Accepting {
    shared: Arc<Shared>,
    /// What is not shown yet, oldest first; only to the last is added.
    drafts: Vec<Draft>,
    /// Why the last that was refused was.
    refusal: Error,
    /// Samples of buckets that started before this second are gone.
    pruned: i64,
}

/// Runs until it is told to stop or every sender of commands is gone; what was sent before is done.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut accepting = Accepting::new(shared);
    let mut waiting = Vec::new();
    let mut is_open = true;
    while is_open {
        tokio::select! {
            biased;
            () = accepting.landed() => accepting.land().await,
            count = commands.recv_many(&mut waiting, AT_ONCE), if accepting.has_room() => {
                is_open = count > 0;
                for command in waiting.drain(..) {
                    is_open &= !matches!(command, Command::Stop);
                    // Whoever asks after that is told that nobody is there.
                    if is_open {
                        accepting.obey(command).await;
                    }
                }
                accepting.send().await;
            }
        }
    }
    accepting.stand_still().await;
}

impl Accepting {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, drafts: Vec::new(), refusal: Error::NotReady, pruned: i64::MIN }
    }

    /// Returns whether requests may come.
    fn has_room(&self) -> bool {
        self.drafts.len() < MOST_DRAFTS || self.drafts.last().is_some_and(|draft| !draft.is_full())
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Write { answer, .. } if answer.is_behind() => answer.send(Err(Error::Behind)),
            Command::Write { tenant, writes, stored, answer } => {
                // Nothing on the disk tells whether samples or repeats alone were written, so nothing can follow them.
                if self.drafts.iter().any(|draft| draft.is_sent() && draft.writes().is_empty()) {
                    self.stand_still().await;
                }
                self.write((tenant, writes), (answer, stored));
            }
            Command::Record { tenant, samples, answer } => {
                // What a bucket holds is read from memory and from the disk: samples must be in both, or in this draft.
                while self.drafts.iter().any(|draft| draft.is_sent() && !draft.samples.is_empty()) {
                    self.land().await;
                }
                if self.drafts.last().is_none_or(Draft::is_sent) {
                    self.begin();
                }
                let Some(draft) = self.drafts.last_mut() else { return };
                match draft.record(&self.shared, samples).await {
                    Ok(()) => draft.answer(tenant, answer),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Command::Close { tenant, answer } => {
                // A bucket closes with every sample accepted before: they must be in memory first.
                self.stand_still().await;
                let closed = samples::close(&self.shared, tenant.as_deref(), &mut self.pruned).await;
                drop(answer.send(closed));
            }
            Command::Letters { tenant, caller, sequences, fate, answer } => {
                self.stand_still().await;
                let redeemed = letters::redeem(&self.shared, (&tenant, &caller), sequences, fate).await;
                drop(answer.send(redeemed));
            }
            Command::Stop => {}
        }
    }

    /// Adds writes to the newest draft, or to the next if the disk took that one or it is full.
    fn write(
        &mut self,
        (tenant, writes): (Arc<str>, Vec<NewWrite>),
        (answer, stored): (Reply, Option<oneshot::Sender<Outcome>>),
    ) {
        loop {
            if self.drafts.last().is_none_or(|draft| draft.is_full() || !draft.is_open()) {
                self.begin();
            }
            let Some((draft, drafts)) = self.drafts.split_last_mut() else { continue };
            let growing = Arc::clone(&draft.growing);
            // It may have been taken just now.
            let Some(mut group) = growing.open() else { continue };
            let before = Before { shared: &self.shared, drafts };
            draft.write(before, &mut group, (tenant, writes), (answer, stored));
            return MappedMutexGuard::unlock_fair(group);
        }
    }

    /// Begins the next draft.
    fn begin(&mut self) {
        self.drafts.push(Draft::new(Before { shared: &self.shared, drafts: &self.drafts }));
    }

    /// Sends what was drafted on its way, where somebody waits for it.
    async fn send(&mut self) {
        self.drafts.retain(|draft| draft.is_sent() || draft.is_awaited());
        for draft in self.drafts.iter_mut().filter(|draft| !draft.is_sent()) {
            draft.send(&self.shared).await;
        }
    }

    /// Waits until the disk is done with the oldest draft; for ever if there is none.
    async fn landed(&mut self) {
        match self.drafts.first_mut() {
            Some(draft) => draft.landed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the oldest draft, and if it failed all of them, as they follow it.
    async fn land(&mut self) {
        if !self.end().await {
            self.stand_still().await;
        }
    }

    /// Ends the oldest draft; returns whether it was written.
    async fn end(&mut self) -> bool {
        self.landed().await;
        let mut draft = self.drafts.remove(0);
        match draft.outcome() {
            Ok(true) => {
                draft.show(&self.shared);
                return true;
            }
            Ok(false) => {}
            Err(error) => self.refusal = error.into(),
        }
        draft.fail(&self.shared, &self.refusal);
        false
    }

    /// Brings all that was accepted to the disk and into memory.
    async fn stand_still(&mut self) {
        self.send().await;
        while !self.drafts.is_empty() {
            self.end().await;
        }
    }
}

#[cfg(test)]
mod tests;
