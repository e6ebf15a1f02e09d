//! kill -9 under writers at full speed: nothing acknowledged is lost, nothing is doubled; and what a start after that finds. `athena bench
//! memory.kills` and `memory.restart` are the same at length.

use std::time::Duration;

use memory_service::bench::process::{DIMENSIONS, Error, Story, fill, kills, restart};

use crate::running::Running;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_full_load_loses_and_doubles_nothing() {
    // Checkpoints as often as can be: a kill has to meet these too.
    let mut running = Running::memories(&["memory_checkpoint_interval=1s", "memory_checkpoint_min=1"]);
    let (pause, later) = (Duration::from_millis(1031), Duration::from_millis(331));
    let story = Story { memories: 1_000, kills: 6, pause, later };
    let killed = kills(&mut running, story).await.unwrap();
    assert_eq!(killed.differences, Default::default());
    assert!(killed.kills == 6 && killed.acknowledged > 1_000 && killed.forgotten > 100, "{killed:?}");
    assert!(killed.kept > 500 && killed.restored > 10, "{killed:?}");
    assert!(killed.restarts.iter().all(|restart| *restart < Duration::from_secs(20)), "{killed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_kill_and_one_after_a_stop_find_every_memory() {
    let settings =
        [format!("memory_embedder=hashing-{DIMENSIONS}"), format!("memory_dimensions={DIMENSIONS}")];
    let mut running = Running::memories(&settings.each_ref().map(String::as_str));
    let folder = running.folder().to_owned();
    // Not a whole number of batches.
    let filled = fill(&mut running, &folder, 1_500).await.unwrap();
    for _ in 0..2 {
        // It fails if a memory is missing, or not found by its own vector.
        let round = restart(&mut running, &filled).await.unwrap();
        assert_eq!(round.details["memories"], 1_500);
        assert!(round.details["bytes_on_disk"].as_u64() > Some(1_500 * 384 * 4), "{round:?}");
    }
}

#[tokio::test]
async fn a_store_that_finds_no_room_is_not_begun() {
    let mut running = Running::memories(&[]);
    let folder = running.folder().to_owned();
    let refused = fill(&mut running, &folder, u64::MAX).await.unwrap_err();
    assert!(matches!(refused, Error::Room { .. }) && !running.is_there(), "{refused}");
}
