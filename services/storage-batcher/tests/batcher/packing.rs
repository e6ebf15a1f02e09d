//! Buckets of many entities share documents, by rules of a file.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use contracts::storage::*;
use storage_batcher::{Config, Error, bind};
use telemetry::Telemetry;

use crate::{
    emulator::Emulator,
    harness::{Client, START, Service, at, buckets_of, costs, record, status, until},
};

/// Three pools a document.
const THREE: &str = r#"
[[rule]]
collection = "pool_metrics"
fields.apr = ["min", "max", "avg", "last", "count", "time_weighted_mean"]
packing.entities = 3
"#;

fn rules_of(config: &Config) -> PathBuf {
    config.storage_dir.with_file_name("rules.toml")
}

/// Lets a service aggregate by `rules`.
fn by(rules: &str) -> impl FnOnce(&mut Config) {
    move |config| {
        let path = rules_of(config);
        std::fs::write(&path, rules).unwrap();
        config.storage_rules = Some(path);
    }
}

fn sample(entity: &str, seconds: i64, apr: f64) -> MetricSample {
    let values = HashMap::from([("apr".to_owned(), apr), ("other".to_owned(), 1.0)]);
    MetricSample { entity: entity.to_owned(), time: Some(at(seconds)), values }
}

async fn close(client: &mut Client) -> FlushResponse {
    client.flush(FlushRequest { close_open_buckets: true }).await.unwrap().into_inner()
}

/// The counts of an entity's buckets, by seconds after the agent clock's start.
async fn counts(client: &mut Client, entity: &str) -> Vec<(i64, u64)> {
    let count = |bucket: Bucket| {
        let start = bucket.start_time.unwrap().seconds - START.cast_signed();
        (start, bucket.aggregates["apr"].count.unwrap())
    };
    buckets_of(client, entity).await.into_iter().map(count).collect()
}

async fn documents(client: &mut Client) -> Vec<Document> {
    let request = ListRequest { collection: "pool_metrics".into(), ..Default::default() };
    client.list(request).await.unwrap().into_inner().documents
}

/// Documents read from the sink since the service started.
fn reads(service: &Service) -> u64 {
    let text = service.telemetry.prometheus_text();
    let is_read = |line: &&str| line.starts_with("firestore_operations_total") && line.contains("\"read\"");
    let line = text.lines().find(is_read);
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn pools_share_documents_and_the_bucket_of_one_is_one_read() {
    let service = Service::with(by(THREE)).await;
    let mut client = service.client();
    let pools: Vec<String> = (0..7).map(|pool| format!("0x{pool}")).collect();
    for minute in 0..15 {
        record(&mut client, pools.iter().map(|pool| sample(pool, minute * 60, 1.0)).collect()).await;
        service.hand.advance(Duration::from_secs(60));
    }
    let plan = client.plan_flush(PlanFlushRequest { close_open_buckets: true }).await.unwrap().into_inner();
    assert_eq!((plan.documents, plan.writes, plan.ledger_documents), (3, 105, 0));
    // The window and its lateness, and a minute of waiting for others.
    service.hand.advance(Duration::from_secs(60));
    until(&mut client, |costs| costs.naive_documents == 105).await;
    while status(&mut client).await.flush.unwrap().documents == 0 {
        tokio::task::yield_now().await;
    }
    service.hand.advance(Duration::from_secs(60));
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((costs.written_documents, costs.saved_by_packing), (3, 4));
    assert_eq!((costs.saved_by_aggregation, costs.saved_by_folding), (98, 0));
    let saved = costs.saved.unwrap();
    assert!((saved.packing_usd - 4.0 * 0.18 / 100_000.0).abs() < 1e-12, "{saved:?}");
    for pool in &pools {
        let before = reads(&service);
        assert_eq!(counts(&mut client, pool).await, [(0, 15)]);
        assert_eq!(reads(&service) - before, 1, "{pool}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_late_sample_writes_one_document_and_leaves_the_other_pools_of_it() {
    let service = Service::with(by(THREE)).await;
    let mut client = service.client();
    record(&mut client, ["a", "b", "c", "d"].map(|pool| sample(pool, 0, 1.0)).into()).await;
    assert_eq!(close(&mut client).await.documents, 2);
    // The places are on disk.
    let service = service.restart_at(START + 3_600).await;
    let mut client = service.client();
    record(&mut client, vec![sample("b", 60, 3.0)]).await;
    assert_eq!(counts(&mut client, "b").await, [(0, 2)], "the open bucket stands for the written one");
    assert_eq!(close(&mut client).await.documents, 1);
    for (pool, samples) in [("a", 1), ("b", 2), ("c", 1), ("d", 1)] {
        assert_eq!(counts(&mut client, pool).await, [(0, samples)], "{pool}");
    }
    assert_eq!(documents(&mut client).await.len(), 2);
    assert_eq!(costs(&mut client).await.waiting, 0);
    service.stop().await;
}

#[tokio::test]
async fn buckets_from_before_and_after_a_change_of_the_rules_are_all_found() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample("a", 0, 1.0), sample("b", 0, 1.0)]).await;
    close(&mut client).await;
    let (mut config, folder) = service.stop().await;
    by(THREE)(&mut config);
    let service = Service::open(config, folder, START + 60).await;
    let mut client = service.client();
    // Of the window that was open when the rules changed, and of one that nobody had recorded yet.
    record(&mut client, vec![sample("a", 60, 1.0), sample("c", 60, 1.0)]).await;
    service.hand.advance(Duration::from_secs(3_600));
    record(&mut client, vec![sample("a", 3_600, 1.0), sample("c", 3_600, 1.0)]).await;
    close(&mut client).await;
    assert_eq!(counts(&mut client, "a").await, [(0, 2), (3_600, 1)]);
    assert_eq!(counts(&mut client, "b").await, [(0, 1)]);
    assert_eq!(counts(&mut client, "c").await, [(0, 1), (3_600, 1)]);
    // Three of their own, and one that is shared.
    assert_eq!(documents(&mut client).await.len(), 4);
    let (mut config, folder) = service.stop().await;
    config.storage_rules = None;
    let service = Service::open(config, folder, START + 2 * 3_600).await;
    let mut client = service.client();
    service.hand.advance(Duration::from_secs(3_600));
    record(&mut client, vec![sample("a", 3_660, 1.0), sample("a", 3 * 3_600, 1.0)]).await;
    service.hand.advance(Duration::from_secs(1_800));
    record(&mut client, vec![sample("a", 3 * 3_600 + 1_800, 1.0)]).await;
    close(&mut client).await;
    let expected = [(0, 2), (3_600, 2), (3 * 3_600, 1), (3 * 3_600 + 1_800, 1)];
    assert_eq!(counts(&mut client, "a").await, expected);
    service.stop().await;
}

#[tokio::test]
async fn firestore_takes_shared_documents_whatever_the_pools_are_called() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        by(THREE)(config);
    })
    .await;
    let mut client = service.client();
    let pools = ["0x1", "a.b", "tick`\\", "__x__", "a/b", "%2F", "é", "_"];
    record(&mut client, pools.map(|pool| sample(pool, 0, 1.0)).into()).await;
    assert_eq!(close(&mut client).await.documents, 3);
    record(&mut client, vec![sample("a.b", 30, 1.0), sample("__x__", 30, 1.0)]).await;
    assert_eq!(close(&mut client).await.documents, 2);
    for pool in pools {
        let samples = if ["a.b", "__x__"].contains(&pool) { 2 } else { 1 };
        let before = reads(&service);
        assert_eq!(counts(&mut client, pool).await, [(0, samples)], "{pool}");
        assert_eq!(reads(&service) - before, 1, "{pool}");
    }
    assert_eq!(costs(&mut client).await.ledger_documents, 0);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn windows_of_any_length_are_kept_apart() {
    let hour = "[[rule]]\ncollection = \"pool_metrics\"\nwindow = \"1h\"\nlateness = \"0s\"";
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample("a", -900, 1.0)]).await;
    close(&mut client).await;
    let (mut config, folder) = service.stop().await;
    by(hour)(&mut config);
    let service = Service::open(config, folder, START + 60).await;
    let mut client = service.client();
    record(&mut client, vec![sample("a", 0, 1.0), sample("a", 60, 1.0)]).await;
    close(&mut client).await;
    let found = buckets_of(&mut client, "a").await;
    let seconds: Vec<_> = found.iter().map(|bucket| bucket.length.unwrap().seconds).collect();
    assert_eq!(seconds, [900, 3_600]);
    // Both begin at ten o'clock.
    assert_eq!(counts(&mut client, "a").await, [(-900, 1), (-900, 2)]);
    service.stop().await;
}

#[tokio::test]
async fn rules_that_cannot_be_end_the_start_with_the_rule_and_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let mut config =
        Config { storage_port: 0, storage_dir: folder.path().join("made"), ..Config::defaults() };
    by("[[rule]]\nname = \"pools\"\ncollection = \"pool_metrics\"\nwindow = \"7m\"")(&mut config);
    let (clock, _hand) = clock::Clock::manual(crate::harness::time(START));
    let bound = bind(config, Telemetry::silent("storage-batcher"), clock).await.unwrap();
    let error = bound.run(std::future::pending()).await.unwrap_err();
    let Error::Rules(cause) = error else { panic!("{error}") };
    let text = cause.to_string();
    assert!(text.contains("rules.toml: `window` of rule \"pools\" must be whole minutes"), "{text}");
}
