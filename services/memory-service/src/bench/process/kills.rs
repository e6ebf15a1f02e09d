//! `memory.kills`: writers at full speed, and a service that is killed every few seconds.
//!
//! Every writer keeps what it was told. After each restart the store is exported and compared with that: what was acknowledged is there as
//! it was last written, once; what was forgotten is not; of the call that was cut off either all happened or nothing; nothing is there that
//! nobody wrote; and what is searched is what is kept. In the end the last forgettings are undone.

mod told;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};

pub use self::told::Differences;
use self::told::Writer;
use super::{Error, Instance, Round, Server, clients::Client, corpus::Asked};

/// Writers, each with one call on its way.
const WRITERS: u32 = 16;
/// Most forgettings that are undone in the end.
const UNDONE: u32 = 200;
/// After so many kills their times begin anew.
const CYCLE: u32 = 6;

/// When a service is killed, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// It ends after the kill by which so many memories were acknowledged,
    pub memories: u64,
    /// and not before so many kills.
    pub kills: u32,
    /// Time between SERVING and the kill,
    pub pause: Duration,
    /// and how much later each comes than the one before, so that it meets a commit at any point; it begins anew after six.
    pub later: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Killed {
    /// Memories whose writing was acknowledged.
    pub acknowledged: u64,
    /// Ids whose forgetting was.
    pub forgotten: u64,
    /// Memories that came back when forgettings were undone.
    pub restored: u64,
    /// How often the service was killed.
    pub kills: u32,
    /// Memories in the end.
    pub kept: u64,
    /// Where what is there is not what was told.
    pub differences: Differences,
    /// Time from each start after a kill to the first answered recall.
    pub restarts: Vec<Duration>,
    /// Time during which memories were written.
    pub wrote: Duration,
}

/// Plays the story on an empty store.
///
/// # Errors
/// [`Error`] if the service does not start again, or acknowledges nothing between two kills.
pub async fn kills(instance: &mut impl Instance, story: Story) -> Result<Killed, Error> {
    let mut writers: Vec<_> = (0..WRITERS).map(Writer::new).collect();
    let mut killed = Killed::default();
    let mut server = instance.start().await?;
    while killed.kills < story.kills || killed.acknowledged < story.memories {
        let pause = story.pause + story.later * (killed.kills % CYCLE);
        killed.wrote += pause;
        write_until_killed(instance, &server, &mut writers, pause).await?;
        killed.kills += 1;
        let begun = Instant::now();
        server = instance.start().await?;
        let mut client = Client::new(server.address)?;
        let candidates = client.recall(&Asked::default()).await?.candidates;
        killed.restarts.push(begun.elapsed());
        killed.compare(&mut client, &mut writers, candidates).await?;
        let acknowledged = writers.iter().map(|writer| writer.remembered).sum();
        if acknowledged == killed.acknowledged {
            return Err(Error::Idle);
        }
        killed.acknowledged = acknowledged;
    }
    killed.forgotten = writers.iter().map(|writer| writer.forgotten).sum();
    killed.undo(&mut Client::new(server.address)?, &mut writers).await?;
    instance.stop().await?;
    Ok(killed)
}

/// Lets all writers write and kills the service after `pause`.
async fn write_until_killed(
    instance: &mut impl Instance,
    server: &Server,
    writers: &mut [Writer],
    pause: Duration,
) -> Result<(), Error> {
    let client = Client::new(server.address)?;
    let writing = join_all(writers.iter_mut().map(|writer| writer.write_until_gone(client.clone())));
    let killing = async {
        // Real time: the kill has to come at any point of a commit.
        tokio::time::sleep(pause).await;
        instance.kill().await
    };
    Ok(tokio::join!(writing, killing).1?)
}

impl Killed {
    /// Compares what is there with what the writers were told.
    async fn compare(
        &mut self,
        client: &mut Client,
        writers: &mut [Writer],
        candidates: u64,
    ) -> Result<(), Error> {
        let mut found: HashMap<String, Vec<u32>> = HashMap::new();
        // A content that is no number was written by nobody.
        let each = |id, content: &str| found.entry(id).or_default().push(content.parse().unwrap_or(u32::MAX));
        client.export(each).await?;
        let kept = found.values().map(|contents| contents.len() as u64).sum();
        self.kept = kept;
        for writer in writers {
            writer.compare(&mut found, &mut self.differences);
        }
        self.differences.nobodys(&found);
        let counted = client.counts().await?.memories;
        self.differences.counted("recalled", candidates, kept);
        self.differences.counted("counted", counted, kept);
        Ok(())
    }

    /// Undoes the last forgettings: of each all that it took comes back, but for what was written again.
    async fn undo(&mut self, client: &mut Client, writers: &mut [Writer]) -> Result<(), Error> {
        let (before, undone) = (self.kept, client.undo(UNDONE).await?);
        self.restored = undone.restored;
        writers.iter_mut().for_each(Writer::may_be_back);
        let candidates = client.recall(&Asked::default()).await?.candidates;
        self.compare(client, writers, candidates).await?;
        self.differences.counted("back or stayed", undone.restored + undone.stayed, undone.forgotten);
        self.differences.counted("kept after that", self.kept, before + undone.restored);
        Ok(())
    }

    /// Returns the longest time of a restart.
    fn slowest(&self) -> Duration {
        self.restarts.iter().max().copied().unwrap_or_default()
    }
}

impl From<Killed> for Round {
    /// The value is what was lost, doubled or torn. Details: `acknowledged`, `forgotten`, `restored` (by undoing), `kills`, `lost`, `doubled`, `torn`, `memories` (in
    /// the end), `acknowledged_per_s`, `restart_s` (after each kill), `restart_max_s`, and `wrong` (the first differences in words).
    fn from(killed: Killed) -> Self {
        let Differences { lost, doubled, torn, ref wrong } = killed.differences;
        let seconds: Vec<Value> = killed.restarts.iter().map(|took| json!(took.as_secs_f64())).collect();
        Self {
            value: (lost + doubled + torn) as f64,
            details: json!({
                "acknowledged": killed.acknowledged,
                "forgotten": killed.forgotten,
                "restored": killed.restored,
                "kills": killed.kills,
                "lost": lost,
                "doubled": doubled,
                "torn": torn,
                "memories": killed.kept,
                "acknowledged_per_s": killed.acknowledged as f64 / killed.wrote.as_secs_f64(),
                "restart_s": seconds,
                "restart_max_s": killed.slowest().as_secs_f64(),
                "wrong": wrong,
            }),
        }
    }
}
