//! A memory service whose disk is filled, made read-only and given room again.

use std::collections::BTreeSet;

use contracts::memory::*;
use rpc::{Channel, Code, Fault};
use testkit::SmallDisk;
use tonic::Status;

use crate::harness::{Service, memory, recalled};

type Client = memory_service_client::MemoryServiceClient<Channel>;

async fn remember(client: &mut Client, id: &str) -> Result<(), Status> {
    let memory = Some(memory(id, &"x".repeat(10_000)));
    client.remember(RememberRequest { memory, ..RememberRequest::default() }).await.map(drop)
}

/// Asks every read about what was acknowledged.
async fn check(client: &mut Client, kept: &BTreeSet<String>) {
    for id in kept {
        client
            .get(GetRequest { id: id.clone(), include_embedding: false, ..GetRequest::default() })
            .await
            .unwrap();
    }
    let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(stats.memories, kept.len() as u64, "nothing else is there");
    let query = Query { limit: 50, ..Query::default() };
    let answer = client
        .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.memories.len(), kept.len().min(50));
    assert!(recalled(&answer).into_iter().all(|id| kept.contains(id)));
}

/// What a program can compare of a refusal.
fn compared(status: &Status) -> (Code, String) {
    let fault = Fault::from(status);
    assert!(fault.retry_delay().is_some(), "{fault:?}");
    (fault.code(), fault.reason_word().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_full_disk_refuses_new_memories_recalls_go_on_and_room_mends_it() {
    let disk = SmallDisk::mount("6m");
    let service = Service::with(|config| config.memory_dir = disk.path().join("memory")).await;
    let mut client = service.client();
    let mut kept = BTreeSet::new();
    let full = (Code::ResourceExhausted, "DISK_FULL".to_owned());
    let refused = loop {
        let id = format!("m{}", kept.len());
        match remember(&mut client, &id).await {
            Ok(()) => assert!(kept.insert(id)),
            Err(status) => break status,
        }
    };
    assert_eq!(compared(&refused), full);
    let ids = vec!["m0".to_owned()];
    let refused = client.forget(ForgetRequest { ids, ..ForgetRequest::default() }).await.unwrap_err();
    assert_eq!(compared(&refused), full, "to forget is to write");
    check(&mut client, &kept).await;
    service.ready().await;

    disk.remount("ro,size=24m");
    let read_only = (Code::Unavailable, "DISK_READ_ONLY".to_owned());
    let mut unretried = service.unretried();
    while compared(&remember(&mut unretried, "refused").await.unwrap_err()) != read_only {
        tokio::task::yield_now().await;
    }
    check(&mut client, &kept).await;

    disk.remount("rw");
    while let Err(status) = remember(&mut unretried, "mended").await {
        assert_eq!(compared(&status), read_only);
        tokio::task::yield_now().await;
    }
    kept.insert("mended".to_owned());
    check(&mut client, &kept).await;
    let service = service.restart().await;
    check(&mut service.client(), &kept).await;
    service.stop().await;
}
