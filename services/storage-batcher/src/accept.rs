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
//! What looks at samples or dead letters waits until all that came before is shown.

mod draft;
mod letters;
mod reply;
mod samples;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::draft::{Before, Draft};
pub use self::letters::{Fate, Redeemed};
pub(crate) use self::reply::{Lane, Reply, Turn};
use crate::{
    acks::Outcome,
    error::Error,
    shared::Shared,
    store::Growing,
    write::{NewSample, NewWrite},
};

/// Most requests in one commit.
const MOST_COMMANDS: usize = 1_024;

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
    /// What is not shown yet, oldest first; only the last may be open.
    drafts: Vec<Draft>,
    /// Why the last that was refused was.
    refusal: Error,
    /// Samples of buckets that started before this second are gone.
    pruned: i64,
}

/// Runs until it is told to stop or every sender of commands is gone; what was sent before is done.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut accepting = Accepting { shared, drafts: Vec::new(), refusal: Error::NotReady, pruned: i64::MIN };
    let mut waiting = Vec::new();
    let mut is_open = true;
    while is_open {
        let room = accepting.room();
        tokio::select! {
            biased;
            () = accepting.landed() => accepting.land().await,
            count = commands.recv_many(&mut waiting, room), if room > 0 => {
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
    /// Returns how many requests may come now.
    fn room(&self) -> usize {
        MOST_COMMANDS - self.drafts.last().filter(|draft| draft.is_open()).map_or(0, Draft::len)
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Write { answer, .. } if answer.is_behind() => answer.send(Err(Error::Behind)),
            Command::Write { tenant, writes, stored, answer } => {
                if let Err((error, answer)) = self.write((tenant, writes), (answer, stored)) {
                    answer.send(Err(error));
                    // The refused writes are among its sizes.
                    self.stand_still().await;
                }
            }
            Command::Record { tenant, samples, answer } => {
                if self.drafts.iter().any(Draft::is_sent) {
                    self.stand_still().await;
                }
                if self.drafts.is_empty() {
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

    /// Adds writes to the draft that is open, or begins one with them.
    fn write(
        &mut self,
        (tenant, writes): (Arc<str>, Vec<NewWrite>),
        (answer, stored): (Reply, Option<oneshot::Sender<Outcome>>),
    ) -> Result<(), (Error, Reply)> {
        let newest = self.drafts.last().map(|draft| Arc::clone(&draft.growing));
        let open = newest.as_deref().and_then(Growing::open);
        let fresh = open.is_none().then(|| self.begin());
        let open = open.or_else(|| fresh.as_deref()?.open());
        match (open, self.drafts.split_last_mut()) {
            (Some(mut group), Some((draft, drafts))) => {
                let before = Before { shared: &self.shared, drafts };
                draft.write(before, &mut group, (tenant, writes), (answer, stored))
            }
            // What was begun just now is open.
            _ => Err((Error::NotReady, answer)),
        }
    }

    /// Begins the next draft.
    fn begin(&mut self) -> Arc<Growing> {
        let draft = Draft::new(Before { shared: &self.shared, drafts: &self.drafts });
        let growing = Arc::clone(&draft.growing);
        self.drafts.push(draft);
        growing
    }

    /// Sends the newest draft on its way, if somebody waits for it.
    async fn send(&mut self) {
        let Some(draft) = self.drafts.last_mut().filter(|draft| !draft.is_sent()) else { return };
        if draft.len() > 0 {
            draft.send(&self.shared).await;
        } else {
            self.drafts.pop();
        }
    }

    /// Waits until the disk is done with the oldest draft; for ever if there is none.
    async fn landed(&mut self) {
        match self.drafts.first_mut() {
            Some(draft) => draft.landed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the oldest draft.
    async fn land(&mut self) {
        self.landed().await;
        let mut draft = self.drafts.remove(0);
        match draft.outcome() {
            Ok(true) => return draft.show(&self.shared),
            Ok(false) => {}
            Err(error) => self.refusal = error.into(),
        }
        draft.fail(&self.shared, &self.refusal);
    }

    /// Brings all that was accepted to the disk and into memory.
    async fn stand_still(&mut self) {
        self.send().await;
        while !self.drafts.is_empty() {
            self.land().await;
        }
    }
}
