//! kill -9 under writers in front of a Firestore that fails: every acknowledged write arrives, and once. `athena bench storage.faults` is the same at
//! length.

use athena::Service;
use storage_batcher::bench::{Emulator, Story, faults};

use crate::running::Running;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_and_a_firestore_that_fails_lose_and_double_no_write() {
    let emulator = Emulator::start(7).await.unwrap();
    let firestore = format!("firestore_url={}", emulator.address());
    let often = ["firestore_batch_size=2", "firestore_flush_interval=1s", "firestore_retry_backoff=1ms"];
    let settings = [&often[..], &["firestore_project=demo-athena", &firestore]].concat();
    let mut running = Running::new(Service::StorageBatcher, &settings);
    let story = Story { writes: 1_000, kills: 6, injected: 300, seed: 7 };
    let round = faults(&mut running, &emulator, story).await.unwrap();
    assert!(round.value == 0.0, "{round:?}");
    let least = [("writes", 1_000), ("kills", 6), ("injected", 300), ("documents", 100)];
    assert!(least.iter().all(|(of, least)| round.details[of].as_u64() >= Some(*least)), "{round:?}");
}
