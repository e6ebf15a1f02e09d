//! `memory.restart`: how long a service over a large store takes from the start of its process to its first answer.
//!
//! The store is filled once, through `RememberBatch`. A round starts the service twice: after a kill, which is the value, and after a stop.
//! Before the next kill some memories are written again, so that whatever the service wrote while it stopped is no longer all. The store's
//! file lies in the system's page cache: its size is that of a machine that goes on.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{BATCH, Error, Instance, Round, Server, check, clients::Client, corpus::Corpus, store};

/// Bytes of disk that a memory may need while the store is filled: its vector, its words and its rows, and pages that a commit replaces.
const NEEDED: u64 = 4_000;

/// A store that was filled.
#[derive(Clone, Debug)]
pub struct Filled {
    folder: PathBuf,
    corpus: Corpus,
    memories: u64,
    took: Duration,
}

/// Fills a store with so many memories and kills the service. Its files are in `folder`.
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
    Ok(Filled { folder: folder.to_owned(), corpus, memories, took })
}

/// Measures one round on a service that was killed, and leaves one that was.
///
/// Details: `after_stop_s` (the same after a stop), `memories`, `bytes_on_disk`, `resident_bytes` (after the first answer), `fill_s` (the time in
/// which the store was filled).
///
/// # Errors
/// [`Error`] if the service does not start, or does not find what was written.
pub async fn restart(instance: &mut impl Instance, filled: &Filled) -> Result<Round, Error> {
    let (after_kill, server) = start(instance, filled).await?;
    let resident = server.process.resident()?;
    instance.stop().await?;
    let (after_stop, server) = start(instance, filled).await?;
    store(server.address, &filled.corpus, BATCH.min(filled.memories)).await?;
    instance.kill().await?;
    Ok(Round {
        value: after_kill.as_secs_f64(),
        details: json!({
            "after_stop_s": after_stop.as_secs_f64(),
            "memories": filled.memories,
            "bytes_on_disk": size(&filled.folder)?,
            "resident_bytes": resident,
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
