//! What is acknowledged outlives the process.

use std::time::Duration;

use contracts::storage::*;
use rpc::Code;

use crate::harness::{
    START, Service, accept, buckets, costs, get, merge, numbers, record, sample, status, time, until,
};

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1), merge("b", "n", 1)]).await;
    client.flush(FlushRequest::default()).await.unwrap();
    let receipt = accept(&mut client, vec![merge("a", "m", 2), merge("c", "n", 3)]).await;
    record(&mut client, vec![sample(0, 1.0), sample(60, 3.0)]).await;

    let revived = service.after_kill(START + 120, |_| {}).await;
    let mut client = revived.client();
    assert_eq!(numbers(get(&mut client, "a").await), [("m".to_owned(), 2), ("n".to_owned(), 1)]);
    assert_eq!(numbers(get(&mut client, "c").await), [("n".to_owned(), 3)]);
    let found = buckets(&mut client).await;
    assert_eq!((found.len(), found[0].aggregates["apr"].count), (1, Some(2)));
    let recovered = revived.captured.log_lines().into_iter().find(|line| line.contains("journal recovered"));
    let recovered = recovered.unwrap();
    assert!(recovered.contains(r#""records":2"#) && recovered.contains(r#""open_buckets":1"#), "{recovered}");
    let report = status(&mut client).await.recovery.unwrap();
    assert_eq!((report.writes, report.documents, report.samples, report.damaged), (2, 2, 2, 0));
    assert_eq!(report.oldest_write.unwrap().seconds, START.cast_signed());
    assert!(report.bytes > 0 && report.took.is_some_and(|took| took.nanos > 0));
    let text = revived.telemetry.prometheus_text();
    let found = |kind: &str, count: &str| {
        text.lines().any(|line| {
            line.starts_with("athena_storage_recovered{") && line.contains(kind) && line.ends_with(count)
        })
    };
    assert!(found("write", " 2") && found("damaged", " 0") && found("sample", " 2"), "{text}");
    // The interval counts from the first acceptance, and sequences go on where they were.
    let costs = until(&mut client, |costs| costs.written_documents == 4).await;
    assert_eq!((costs.naive_documents, costs.waiting), (6, 2));
    let next = accept(&mut client, vec![merge("d", "n", 1)]).await;
    assert_eq!(next.sequences[0], receipt.sequences[1] + 1);
    revived.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn an_open_bucket_closes_after_the_restart_with_samples_of_both_lives() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample(0, 1.0)]).await;
    let service = service.restart_at(START + 300).await;
    let mut client = service.client();
    record(&mut client, vec![sample(300, 3.0)]).await;
    service.hand.set(time(START + 960));
    while buckets(&mut client).await[0].open {
        tokio::task::yield_now().await;
    }
    let apr = buckets(&mut client).await[0].aggregates["apr"];
    assert_eq!((apr.count, apr.avg), (Some(2), Some(2.0)));
    service.stop().await;
}

#[tokio::test]
async fn a_stop_sends_what_waits_and_the_ledger_stays() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1), merge("a", "n", 2)]).await;
    let service = service.restart_at(START + 120).await;
    let mut client = service.client();
    let costs = costs(&mut client).await;
    assert_eq!((costs.naive_documents, costs.written_documents, costs.waiting), (2, 1, 0));
    assert_eq!(costs.documents_per_minute, Some(0.5));
    assert!(!get(&mut client, "a").await.unwrap().pending);
    service.stop().await;
}

#[tokio::test]
async fn a_full_journal_refuses_and_takes_again_after_a_flush() {
    let service = Service::with(|config| config.journal_max_bytes = config::ByteSize::new(1024)).await;
    let mut client = service.client();
    let mut accepted = 0;
    let refused = loop {
        let request =
            WriteRequest { write: Some(merge(&format!("p{accepted}"), "n", 1)), ..Default::default() };
        match client.write(request).await {
            Ok(_) => accepted += 1,
            Err(status) => break status,
        }
    };
    let told = rpc::Fault::from(&refused);
    assert_eq!((told.code(), told.reason_word()), (Code::ResourceExhausted, Some("JOURNAL_FULL")));
    assert!(refused.message().contains("journal_max_bytes = 1024") && told.retry_delay().is_some());
    assert!((10..100).contains(&accepted), "{accepted}");
    let request = RecordMetricsRequest { samples: vec![sample(0, 1.0); 100], ..Default::default() };
    assert_eq!(client.record_metrics(request).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(costs(&mut client).await.naive_documents, accepted, "nothing of what was refused is there");
    client.flush(FlushRequest::default()).await.unwrap();
    accept(&mut client, vec![merge("again", "n", 1)]).await;
    service.stop().await;
}

#[tokio::test]
async fn a_journal_of_as_many_writes_as_it_may_hold_refuses_and_keeps_what_it_has() {
    let service = Service::with(|config| config.journal_max_writes = 10).await;
    let mut client = service.client();
    accept(&mut client, (0..6).map(|number| merge("one", "n", number)).collect()).await;
    record(&mut client, vec![sample(0, 1.0), sample(1, 1.0), sample(1, 2.0)]).await;
    let two = WriteBatchRequest { writes: vec![merge("a", "n", 1); 2], ..Default::default() };
    let refused = client.write_batch(two.clone()).await.unwrap_err();
    let told = rpc::Fault::from(&refused);
    assert_eq!((told.code(), told.reason_word()), (Code::ResourceExhausted, Some("JOURNAL_FULL")));
    assert!(refused.message().contains("journal_max_writes = 10") && told.retry_delay().is_some());
    accept(&mut client, vec![merge("b", "n", 1)]).await;
    let held = status(&mut client).await.journal.unwrap();
    assert_eq!((held.writes, held.max_writes, held.refusing), (10, 10, String::new()));
    let text = service.telemetry.prometheus_text();
    let writes = text.lines().find(|line| line.starts_with("athena_storage_journal_writes")).unwrap();
    assert!(writes.ends_with(" 10"), "{writes}");
    // Folded into one document, and yet as many records on disk.
    assert_eq!(client.flush(FlushRequest::default()).await.unwrap().into_inner().documents, 2);
    client.write_batch(two).await.unwrap();
    assert_eq!(status(&mut client).await.journal.unwrap().writes, 5, "the samples of the open bucket count");
    service.stop().await;
}

#[tokio::test]
async fn a_bucket_left_open_for_longer_than_a_day_still_closes_from_its_samples() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample(0, 1.0)]).await;
    service.hand.advance(Duration::from_secs(30 * 3600));
    // The bucket is closed from its samples before they go.
    client.flush(FlushRequest::default()).await.unwrap();
    let found = buckets(&mut client).await;
    assert_eq!((found.len(), found[0].open, found[0].aggregates["apr"].count), (1, false, Some(1)));
    service.stop().await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_opened_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("storage.redb"), "no database").unwrap();
    let config = storage_batcher::Config {
        storage_port: 0,
        storage_dir: folder.path().into(),
        ..storage_batcher::Config::defaults()
    };
    let telemetry = telemetry::Telemetry::silent("storage-batcher");
    let bound = storage_batcher::bind(config, telemetry, clock::Clock::system()).await.unwrap();
    let error = bound.run(std::future::pending()).await.unwrap_err();
    assert!(matches!(error, storage_batcher::Error::Open(_)), "{error}");
}
