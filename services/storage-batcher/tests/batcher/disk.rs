//! A batcher whose disk, the journal's and the embedded store's, is filled, made read-only and given room again.

use std::time::Duration;

use contracts::storage::{value::Kind, *};
use rpc::{Code, Fault};
use testkit::SmallDisk;
use tonic::Status;

use crate::{
    emulator::Emulator,
    harness::{Client, START, Service, buckets, flush, get, sample, status, until, write},
};

async fn set(client: &mut Client, id: &str) -> Result<(), Status> {
    let text = Value { kind: Some(Kind::StringValue(format!("{id} {}", "x".repeat(20_000)))) };
    let write = write(WriteMode::Set, id, &[("text", text)]);
    client.write(WriteRequest { write: Some(write), ..Default::default() }).await.map(drop)
}

/// Reads every acknowledged document, and that there are no others.
async fn check(client: &mut Client, kept: &[String]) {
    for id in kept {
        let document = get(client, id).await.unwrap();
        let Some(Kind::StringValue(text)) = &document.fields["text"].kind else { panic!("{document:?}") };
        assert!(text.starts_with(&format!("{id} ")));
    }
    let mut listed = 0;
    let mut page_token = String::new();
    loop {
        let request = ListRequest { collection: "pools".into(), page_token, ..ListRequest::default() };
        let page = client.list(request).await.unwrap().into_inner();
        listed += page.documents.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, kept.len(), "nothing else is there");
}

/// What a program can compare of a refusal.
fn compared(status: &Status) -> (Code, String) {
    let fault = Fault::from(status);
    assert!(fault.retry_delay().is_some(), "{fault:?}");
    (fault.code(), fault.reason_word().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn on_a_full_disk_what_waits_is_sent_on_to_firestore_and_settled_once_there_is_room() {
    let emulator = Emulator::start().await;
    let disk = SmallDisk::mount("6m");
    let service = Service::with(|config| {
        emulator.configure(config);
        config.storage_dir = disk.path().join("storage");
        config.firestore_batch_size = 10;
        config.firestore_max_concurrent_writes = 1;
    })
    .await;
    let mut client = service.client();
    let held = emulator.hold().await;
    let mut kept = Vec::new();
    let refused = loop {
        let id = format!("doc{}", kept.len());
        match set(&mut client, &id).await {
            Ok(()) => kept.push(id),
            Err(status) => break status,
        }
    };
    assert_eq!(compared(&refused), (Code::ResourceExhausted, "DISK_FULL".to_owned()));
    assert!(kept.len() > 20, "more than the one batch on its way");
    drop(held);
    service.hand.advance(Duration::from_secs(60));
    let reader = emulator.batcher().await;
    let mut beside = reader.client();
    for id in &kept {
        while get(&mut beside, id).await.is_none() {
            tokio::task::yield_now().await;
        }
    }
    let sent = emulator.calls().len();
    let journal = status(&mut client).await.journal.unwrap();
    assert_eq!((journal.refusing, journal.writes), ("DISK_FULL".to_owned(), kept.len() as u64));
    disk.remount("size=32m");
    until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(emulator.calls().len(), sent, "what the sink has is not sent again");
    set(&mut client, "mended").await.unwrap();
    kept.push("mended".to_owned());
    check(&mut client, &kept).await;
    reader.stop().await;
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_reads_go_on_and_room_mends_it() {
    let disk = SmallDisk::mount("6m");
    let service = Service::with(|config| config.storage_dir = disk.path().join("storage")).await;
    let mut client = service.client();
    let mut kept: Vec<String> = (0..20).map(|number| format!("sent{number}")).collect();
    for id in &kept {
        set(&mut client, id).await.unwrap();
    }
    // These are the embedded store's by now, the later ones wait in the journal.
    assert_eq!(flush(&mut client).await.documents, 20);
    let full = (Code::ResourceExhausted, "DISK_FULL".to_owned());
    let refused = loop {
        let id = format!("waiting{}", kept.len());
        match set(&mut client, &id).await {
            Ok(()) => kept.push(id),
            Err(status) => break status,
        }
    };
    assert_eq!(compared(&refused), full);
    let samples = vec![sample(0, 1.0)];
    let record = RecordMetricsRequest { collection: String::new(), samples };
    assert_eq!(compared(&client.record_metrics(record.clone()).await.unwrap_err()), full);
    assert!(client.flush(FlushRequest::default()).await.is_err(), "told, and sent once it can be");
    assert!(buckets(&mut client).await.is_empty());
    check(&mut client, &kept).await;
    service.ready().await;

    disk.remount("ro,size=32m");
    let read_only = (Code::Unavailable, "DISK_READ_ONLY".to_owned());
    while compared(&set(&mut client, "refused").await.unwrap_err()) != read_only {
        tokio::task::yield_now().await;
    }
    check(&mut client, &kept).await;

    disk.remount("rw");
    while let Err(status) = set(&mut client, "mended").await {
        assert_eq!(compared(&status), read_only);
        tokio::task::yield_now().await;
    }
    kept.push("mended".to_owned());
    client.record_metrics(record).await.unwrap();
    assert!(flush(&mut client).await.refused.is_empty());
    check(&mut client, &kept).await;
    let service = service.restart_at(START + 1).await;
    let mut client = service.client();
    check(&mut client, &kept).await;
    assert_eq!(buckets(&mut client).await.len(), 1);
    service.stop().await;
}
