//! `memory.restart`: how long a service over a large store takes from the start of its process to its first answer.
//!
//! The store is filled once, through `RememberBatch`. A round starts the service twice: after a stop, and after a kill, which is the value. Before
//! the kill some memories are written again, so that what the service wrote down when it stopped is no longer all. The store's file lies
//! in the system's page cache: its size is that of a machine that goes on.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Error, Instance, Round, Server, check, clients::Client, corpus::Corpus, store};

/// Bytes of disk that a memory may need while the store is filled: its vector, its words and its rows, and pages that a commit replaces.
const NEEDED: u64 = 4_000;

/// Memories that are written again before a kill.
const AGAIN: u64 = 10_000;

/// A store that was filled.
#[derive(Clone, Debug)]
pub struct Filled {
    folder: PathBuf,
    corpus: Corpus,
    memories: u64,
    /// Time in which it was filled.
    took: Duration,
    /// Time of the first start after that.
    after_fill: Duration,
}

/// Fills a store with so many memories, kills the service at once, starts it again, and stops it. Its files are in `folder`.
///
/// # Errors
/// [`Error::Room`] if the disk has too little room for that; otherwise if a call fails.
pub async fn fill(instance: &mut impl Instance, folder: &Path, memories: u64) -> Result<Filled, Error> {
    let (needed, free) = (memories.saturating_mul(NEEDED), testkit::free_bytes(folder)?);
    if free < needed {
        return Err(Error::Room { memories, needed_mb: needed >> 20, free_mb: free >> 20 });
    }
    let corpus = Corpus::new(memories);
    let server = instance.start().await?;
    let took = store(server.address, &corpus, memories).await?.took;
    instance.kill().await?;
    let mut filled = Filled { folder: folder.to_owned(), corpus, memories, took, after_fill: Duration::ZERO };
    (filled.after_fill, _) = start(instance, &filled).await?;
    instance.stop().await?;
    Ok(filled)
}

/// Measures one round on a service that was stopped, and leaves one that was.
///
/// Details: `after_stop_s` (the same after a stop), `after_fill_s` (after a kill at the end of the filling), `memories`, `written_again` (before the
/// kill), `bytes_on_disk`, `resident_bytes` (after the first answer), `stop_s` (how long a stop takes), `fill_s` (how long the filling took).
///
/// # Errors
/// [`Error`] if the service does not start, or does not find what was written.
pub async fn restart(instance: &mut impl Instance, filled: &Filled) -> Result<Round, Error> {
    let (after_stop, server) = start(instance, filled).await?;
    let again = AGAIN.min(filled.memories);
    store(server.address, &filled.corpus, again).await?;
    instance.kill().await?;
    let (after_kill, server) = start(instance, filled).await?;
    let resident = server.process.resident()?;
    let stopping = Instant::now();
    instance.stop().await?;
    let stop = stopping.elapsed();
    Ok(Round {
        value: after_kill.as_secs_f64(),
        details: json!({
            "after_stop_s": after_stop.as_secs_f64(),
            "after_fill_s": filled.after_fill.as_secs_f64(),
            "memories": filled.memories,
            "written_again": again,
            "bytes_on_disk": size(&filled.folder)?,
            "resident_bytes": resident,
            "stop_s": stop.as_secs_f64(),
            "fill_s": filled.took.as_secs_f64(),
        }),
    })
}

/// Starts the service; returns how long its first answer took, which is looked at afterwards.
async fn start(instance: &mut impl Instance, filled: &Filled) -> Result<(Duration, Server), Error> {
    let Filled { corpus, memories, .. } = filled;
    let last = memories.saturating_sub(1);
    let begun = Instant::now();
    let server = instance.start().await?;
    let mut client = Client::new(server.address)?;
    client.recall(&corpus.twin(last)).await?;
    let took = begun.elapsed();
    check(&mut client, corpus, *memories, last).await?;
    Ok((took, server))
}

/// Returns the bytes of disk that the files in `folder` and the folders below take.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size(&entry.path())? } else { about.blocks() * 512 };
    }
    Ok(bytes)
}
