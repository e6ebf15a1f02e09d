//! An orchestrator whose disk is filled, made read-only and given room again.

use rpc::{Code, Fault};
use testkit::SmallDisk;
use tonic::Status;

use crate::{Agent, fakes::World, high};

/// What a program can compare of a refusal.
fn compared(status: &Status) -> (Code, String) {
    let fault = Fault::from(status);
    assert!(fault.retry_delay().is_some(), "{fault:?}");
    (fault.code(), fault.reason_word().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_full_disk_begins_no_cycle_lists_the_kept_ones_and_room_mends_it() {
    let disk = SmallDisk::mount("4m");
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let place = |config: &mut orchestrator::Config| config.agent_dir = disk.path().join("agent");
    let agent = Agent::start_in(folder, &world, high(31, 100), place).await;
    let mut kept = vec![agent.run().await.unwrap().number];
    disk.fill();
    let full = (Code::ResourceExhausted, "DISK_FULL".to_owned());
    let refused = loop {
        match agent.run().await {
            Ok(cycle) => kept.insert(0, cycle.number),
            Err(status) => break status,
        }
    };
    assert_eq!(compared(&refused), full);
    let asked = world.analyses.lock().len();
    assert_eq!(compared(&agent.run().await.unwrap_err()), full);
    assert_eq!(world.analyses.lock().len(), asked, "nobody is asked for a cycle that cannot be kept");
    assert_eq!(agent.listed().await, kept);

    disk.remount("ro,size=16m");
    let read_only = (Code::Unavailable, "DISK_READ_ONLY".to_owned());
    while compared(&agent.run().await.unwrap_err()) != read_only {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.listed().await, kept);

    disk.remount("rw");
    let mended = loop {
        match agent.run().await {
            Ok(cycle) => break cycle,
            Err(status) => assert_eq!(compared(&status), read_only),
        }
    };
    assert_eq!(mended.number, kept[0] + 1, "a cycle that was not kept takes no number");
    kept.insert(0, mended.number);
    let folder = agent.end().await;
    let agent = Agent::start_in(folder, &world, high(31, 100), place).await;
    assert_eq!(agent.listed().await, kept);
    agent.end().await;
}
