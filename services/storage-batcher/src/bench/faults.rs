//! `storage.faults`: writers at full speed in front of a Firestore that fails at random, and a service that is killed over and over.
//!
//! Each writer has documents of its own and writes one after the other, so it knows what each must become. A write that was cut off is
//! written again with its key until it is acknowledged. In the end what Firestore holds is compared with what the writers know.

mod writer;

use std::time::Duration;

use futures::future::join_all;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use testkit::{Instance, Round};

use self::writer::{Differences, Writer};
use super::{Emulator, Error, clients::Client};

/// Writers, each with one call on its way.
const WRITERS: u32 = 16;
/// Milliseconds from SERVING to the kill.
const PAUSE_MS: std::ops::Range<u64> = 50..1_500;

/// How long a story goes on: until all of these are reached.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Acknowledged writes.
    pub writes: u64,
    /// Kills.
    pub kills: u32,
    /// Injected faults.
    pub injected: u64,
    /// From which kills and writes are drawn.
    pub seed: u64,
}

/// Plays a story. The value is lost and doubled writes. Details: `writes` (acknowledged), `kills`, `injected`, `lost`, `doubled`, `documents`, `repeated` (writes that a
/// kill cut off and that were written again), and `wrong` (the first differences in words).
///
/// # Errors
/// [`Error`] if the service does not start again or does not store in the end.
pub async fn faults(instance: &mut impl Instance, emulator: &Emulator, story: Story) -> Result<Round, Error> {
    let mut random = StdRng::seed_from_u64(story.seed);
    let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(number, story.seed)).collect();
    let (mut kills, mut address) = (0, instance.start().await?.address);
    let acknowledged = |writers: &[Writer]| writers.iter().map(|writer| writer.acknowledged).sum::<u64>();
    while kills < story.kills || acknowledged(&writers) < story.writes || emulator.injected() < story.injected
    {
        let pause = Duration::from_millis(random.random_range(PAUSE_MS));
        let client = Client::new(address)?;
        let writing = join_all(writers.iter_mut().map(|writer| writer.write_until_gone(client.clone())));
        let killing = async {
            // Real time: the kill has to come at any moment.
            tokio::time::sleep(pause).await;
            instance.kill().await
        };
        tokio::join!(writing, killing).1?;
        kills += 1;
        address = instance.start().await?.address;
    }
    emulator.calm();
    let mut client = Client::new(address)?;
    let mut differences = Differences::default();
    for writer in &mut writers {
        writer.finish(&mut client).await?;
    }
    client.flush().await?;
    for writer in &writers {
        writer.compare(&mut client, &mut differences).await?;
    }
    instance.stop().await?;
    let Differences { lost, doubled, wrong } = differences;
    Ok(Round {
        value: (lost + doubled) as f64,
        details: json!({
            "writes": acknowledged(&writers),
            "kills": kills,
            "injected": emulator.injected(),
            "lost": lost,
            "doubled": doubled,
            "documents": writers.iter().map(Writer::documents).sum::<usize>(),
            "repeated": writers.iter().map(|writer| writer.repeated).sum::<u64>(),
            "wrong": wrong,
        }),
    })
}
