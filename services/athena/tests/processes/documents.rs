//! kill -9 under writers in front of a Firestore that fails: every acknowledged write arrives, and once. `athena bench storage.faults` is the same at
//! length.

use std::time::Duration;

use athena::Service;
use storage_batcher::bench::{Emulator, Story, faults, outage};

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

/// `athena bench storage.outage` is the same with a journal of its default size.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_full_and_killed_while_firestore_is_away_arrives_when_it_is_back() {
    let firestore = testkit::port_nobody_listens_on();
    let url = format!("firestore_url={}", firestore.address());
    let settings =
        ["firestore_project=demo-athena", "firestore_flush_interval=1s", "journal_max_writes=4000", &url];
    let mut running = Running::new(Service::StorageBatcher, &settings);
    let mut unramped = running.with("firestore_ramp_start=100000");
    let round = outage(&mut running, &mut unramped, firestore, Duration::from_secs(1)).await.unwrap();
    let details = &round.details;
    let waited = |stage: &str| details[stage]["writes"].as_u64().unwrap();
    assert!(waited("full") > 3_900 && waited("restarted") == waited("full"), "{round:?}");
    assert!(
        details["unavailable"].as_u64() > Some(0) && details["documents"].as_u64() > Some(3_500),
        "{round:?}"
    );
    assert_eq!((details["lost"].as_u64(), details["unasked"].as_u64()), (Some(0), Some(0)), "{round:?}");
}
