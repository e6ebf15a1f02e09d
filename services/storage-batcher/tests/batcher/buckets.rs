//! Samples become one document a bucket.

use std::time::Duration;

use contracts::storage::*;

use crate::harness::{Service, at, buckets, costs, record, sample, until};

async fn document(client: &mut crate::harness::Client, id: &str) -> Option<Document> {
    let request = GetRequest { collection: "pool_metrics".into(), document_id: id.into() };
    client.get(request).await.ok().and_then(|answer| answer.into_inner().document)
}

const ID: &str = "0x1_2026-11-22T10:15Z";

#[tokio::test]
async fn a_bucket_is_open_until_its_end_and_lateness_and_then_one_document() {
    let service = Service::start().await;
    let mut client = service.client();
    service.hand.advance(Duration::from_secs(840));
    let samples = (0..15).map(|minute| sample(minute * 60, f64::from(minute as i32))).collect();
    let receipt = record(&mut client, samples).await;
    assert_eq!((receipt.accepted, receipt.open_buckets), (15, 1));
    let open = buckets(&mut client).await;
    assert_eq!((open.len(), open[0].open, open[0].start_time), (1, true, Some(at(0))));
    let apr = open[0].aggregates["apr"];
    let expected = Aggregate {
        min: Some(0.0),
        max: Some(14.0),
        avg: Some(7.0),
        last: Some(14.0),
        sum: Some(105.0),
        count: Some(15),
        time_weighted_mean: Some(7.0),
    };
    assert_eq!(apr, expected);
    assert_eq!(document(&mut client, ID).await, None);
    // 900 s and the lateness of 60: closed, and a minute of waiting for others later sent.
    service.hand.advance(Duration::from_secs(120));
    until_closed(&mut client).await;
    service.hand.advance(Duration::from_secs(60));
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((costs.naive_documents, costs.written_documents, costs.saved_by_aggregation), (15, 1, 14));
    assert!(!document(&mut client, ID).await.unwrap().pending);
    let closed = buckets(&mut client).await;
    assert_eq!((closed.len(), closed[0].open, closed[0].aggregates["apr"]), (1, false, expected));
    service.stop().await;
}

#[tokio::test]
async fn a_late_sample_rewrites_the_bucket_from_all_its_samples() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample(0, 1.0), sample(60, 3.0)]).await;
    close(&mut client).await;
    assert_eq!(buckets(&mut client).await[0].aggregates["apr"].count, Some(2));
    service.hand.advance(Duration::from_secs(12 * 3600));
    record(&mut client, vec![sample(30, 8.0)]).await;
    let reopened = buckets(&mut client).await;
    assert_eq!(reopened.len(), 1, "the open bucket stands for its document");
    // Its time is long over: the late sample closes it at once.
    close(&mut client).await;
    let rewritten = buckets(&mut client).await;
    let apr = rewritten[0].aggregates["apr"];
    assert_eq!((apr.count, apr.max, apr.last, rewritten[0].open), (Some(3), Some(8.0), Some(3.0), false));
    let costs = costs(&mut client).await;
    assert_eq!((costs.naive_documents, costs.written_documents, costs.waiting), (3, 2, 0));
    service.stop().await;
}

#[tokio::test]
async fn a_sample_of_the_same_time_replaces_the_earlier_one() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample(0, 1.0), sample(0, 2.0)]).await;
    record(&mut client, vec![sample(0, 5.0)]).await;
    let apr = buckets(&mut client).await[0].aggregates["apr"];
    assert_eq!((apr.count, apr.sum), (Some(1), Some(5.0)));
    let costs = costs(&mut client).await;
    assert_eq!((costs.naive_documents, costs.waiting), (3, 3));
    service.stop().await;
}

#[tokio::test]
async fn a_flush_closes_open_buckets_only_if_asked() {
    let service = Service::start().await;
    let mut client = service.client();
    record(&mut client, vec![sample(0, 1.0)]).await;
    let plan = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!(plan.documents, 0);
    let plan = client.plan_flush(PlanFlushRequest { close_open_buckets: true }).await.unwrap().into_inner();
    assert_eq!((plan.documents, plan.writes), (1, 1));
    let flushed = client.flush(FlushRequest::default()).await.unwrap().into_inner();
    assert_eq!(flushed.documents, 0);
    close(&mut client).await;
    assert!(!buckets(&mut client).await[0].open);
    // A sample after the early end finds the bucket again.
    record(&mut client, vec![sample(60, 3.0)]).await;
    let again = buckets(&mut client).await;
    assert_eq!((again[0].open, again[0].aggregates["apr"].count), (true, Some(2)));
    service.stop().await;
}

#[tokio::test]
async fn buckets_are_those_of_the_entity_within_the_span() {
    let service = Service::start().await;
    let mut client = service.client();
    let mut other = sample(0, 9.0);
    // An entity whose ids begin as those of the other do.
    other.entity = "0x1_2026-11-22T10:30Z".into();
    record(&mut client, vec![sample(0, 1.0), sample(-900, 2.0), sample(-1800, 3.0), other]).await;
    close(&mut client).await;
    record(&mut client, vec![sample(900, 4.0)]).await;
    let starts = async |client: &mut crate::harness::Client, from: Option<i64>, to: Option<i64>| {
        let request = GetBucketsRequest {
            entity: "0x1".into(),
            start_time: from.map(at),
            end_time: to.map(at),
            ..Default::default()
        };
        let found = client.get_buckets(request).await.unwrap().into_inner().buckets;
        found.iter().map(|bucket| bucket.start_time.unwrap().seconds - at(0).seconds).collect::<Vec<_>>()
    };
    assert_eq!(starts(&mut client, None, None).await, [-1800, -900, 0, 900]);
    assert_eq!(starts(&mut client, Some(-900), Some(900)).await, [-900, 0]);
    assert_eq!(starts(&mut client, Some(-899), None).await, [0, 900]);
    assert_eq!(starts(&mut client, None, Some(-1800)).await, [0_i64; 0]);
    for end in [-899, -841, -840, 0] {
        assert_eq!(starts(&mut client, None, Some(end)).await, [-1800, -900], "before {end}");
    }
    service.stop().await;
}

async fn close(client: &mut crate::harness::Client) {
    client.flush(FlushRequest { close_open_buckets: true }).await.unwrap();
}

async fn until_closed(client: &mut crate::harness::Client) {
    while buckets(client).await.iter().any(|bucket| bucket.open) {
        tokio::task::yield_now().await;
    }
}
