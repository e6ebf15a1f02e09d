//! Measures acknowledged writes a second for 1 and 128 callers, beside a plain file that is appended to and synced, and what refusals
//! in a batch of 1,024 cost.
//!
//! `cargo run --release -p journal --example commits -- [folder] [rounds]`; a folder on the disk in question.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement says what it measured, or ends")]

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use journal::{Journal, Options};
use redb::TableDefinition;

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const BYTES: usize = 200;
const SPAN: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let rounds: usize = arguments.next().map_or(5, |rounds| rounds.parse().unwrap());
    let folder = Path::new(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for round in 1..=rounds {
        let synced = appends(folder);
        let one = runtime.block_on(acknowledged(folder, 1));
        let many = runtime.block_on(acknowledged(folder, 128));
        println!("round {round}: append+sync {synced:.0}/s, 1 caller {one:.0}/s, 128 callers {many:.0}/s");
        for every in [1024, 16, 2, 1] {
            let took = runtime.block_on(refusals(folder, every));
            println!(
                "round {round}: 1,024 writes, one in {every} refuses: {:.1} ms",
                took.as_secs_f64() * 1e3
            );
        }
    }
}

/// Appends a row and syncs it, one after another: as many as the disk syncs.
fn appends(folder: &Path) -> f64 {
    let path = folder.join("appended");
    let mut file = File::create(&path).unwrap();
    let (start, mut count) = (Instant::now(), 0.0);
    while start.elapsed() < SPAN {
        file.write_all(&[7; BYTES]).unwrap();
        file.sync_data().unwrap();
        count += 1.0;
    }
    std::fs::remove_file(path).unwrap();
    count / start.elapsed().as_secs_f64()
}

fn put(key: u64) -> impl FnMut(&redb::WriteTransaction) -> Result<(), redb::Error> + Send {
    move |transaction| {
        transaction.open_table(ROWS)?.insert(key, [7; BYTES].as_slice())?;
        Ok(())
    }
}

fn open(folder: &Path) -> (Journal, std::path::PathBuf) {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!("commits-{}-{}.redb", std::process::id(), FILES.fetch_add(1, Relaxed)));
    (Journal::open(&path, &Options::default()).unwrap(), path)
}

async fn acknowledged(folder: &Path, callers: usize) -> f64 {
    let (journal, path) = open(folder);
    let keys = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (journal, keys) = (journal.clone(), Arc::clone(&keys));
        tasks.spawn(async move {
            while start.elapsed() < SPAN {
                journal.commit(put(keys.fetch_add(1, Relaxed))).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let rate = keys.load(Relaxed) as f64 / start.elapsed().as_secs_f64();
    drop(journal);
    std::fs::remove_file(path).unwrap();
    rate
}

/// Queues 1,024 writes behind one that waits, and returns how long they took once it went on.
async fn refusals(folder: &Path, every: u64) -> Duration {
    let (journal, path) = open(folder);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let holding = journal.clone();
    let mut tasks = tokio::task::JoinSet::new();
    let hold = move |_: &redb::WriteTransaction| {
        let _ = wait.recv();
        Ok::<_, ()>(())
    };
    tasks.spawn(async move { drop(holding.commit(hold).await) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for key in 0..1024 {
        let (journal, mut put) = (journal.clone(), put(key));
        let write = move |transaction: &redb::WriteTransaction| {
            put(transaction)?;
            if key % every == every - 1 { Err(redb::Error::Corrupted("refused".to_owned())) } else { Ok(()) }
        };
        tasks.spawn(async move { drop(journal.commit(write).await) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    drop(go);
    tasks.join_all().await;
    let took = start.elapsed();
    drop(journal);
    std::fs::remove_file(path).unwrap();
    took
}
