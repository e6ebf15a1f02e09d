//! When what waits is sent.

use std::time::Duration;

use contracts::storage::*;

use crate::harness::{Service, accept, costs, flush, get, integer, merge, numbers, until, urgent, write};

#[tokio::test]
async fn a_full_batch_goes_out_by_itself_and_does_not_lock_up() {
    let service = Service::start().await;
    let mut client = service.client();
    let writes = (0..500).map(|number| merge(&format!("pool-{number}"), "apr", number)).collect();
    accept(&mut client, writes).await;
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((costs.naive_documents, costs.written_documents), (500, 500));
    // The next write neither waits nor fails.
    accept(&mut client, vec![merge("one more", "apr", 1)]).await;
    assert_eq!(numbers(get(&mut client, "pool-499").await), [("apr".to_owned(), 499)]);
    service.stop().await;
}

#[tokio::test]
async fn writes_to_one_document_do_not_fill_a_batch_and_cost_one() {
    let service = Service::with(|config| config.firestore_batch_size = 3).await;
    let mut client = service.client();
    let writes = (0..100).map(|number| merge("0x1", &format!("n{}", number % 7), number)).collect();
    let receipt = accept(&mut client, writes).await;
    assert_eq!(receipt.pending_documents, 1);
    assert_eq!(receipt.sequences, (1..=100).collect::<Vec<_>>());
    assert_eq!(costs(&mut client).await.waiting, 100);
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.batches, flushed.folded_writes), (1, 1, 100));
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.saved_by_folding, costs.waiting), (1, 99, 0));
    assert!((costs.cost_usd - 0.18 / 100_000.0).abs() < 1e-12);
    assert!((costs.naive_cost_usd - 0.18 / 1_000.0).abs() < 1e-12);
    service.stop().await;
}

#[tokio::test]
async fn the_interval_of_the_agent_clock_sends_the_last_writes_too() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "apr", 1)]).await;
    service.hand.advance(Duration::from_secs(59));
    accept(&mut client, vec![merge("b", "apr", 1)]).await;
    assert!(get(&mut client, "a").await.unwrap().pending);
    service.hand.advance(Duration::from_secs(1));
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(costs.written_documents, 2, "the younger write goes along");
    assert!(!get(&mut client, "a").await.unwrap().pending);
    service.stop().await;
}

#[tokio::test]
async fn a_high_priority_is_sent_at_once_and_does_not_drag_the_rest_along() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "apr", 1)]).await;
    let request = WriteRequest { write: Some(urgent(merge("b", "apr", 2))), ..Default::default() };
    let receipt = client.write(request).await.unwrap().into_inner();
    assert_eq!(receipt.sequence, 2);
    until(&mut client, |costs| costs.written_documents == 1).await;
    assert!(!get(&mut client, "b").await.unwrap().pending);
    assert!(get(&mut client, "a").await.unwrap().pending);
    // An earlier write of the same document goes along: order is kept.
    accept(&mut client, vec![urgent(merge("a", "tvl", 2))]).await;
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((costs.written_documents, costs.saved_by_folding), (2, 1));
    service.stop().await;
}

#[tokio::test]
async fn a_plan_tells_what_the_flush_then_does_and_changes_nothing() {
    let service = Service::with(|config| config.firestore_batch_size = 500).await;
    let mut client = service.client();
    let mut writes: Vec<_> = (0..300).map(|number| merge(&format!("p{number}"), "apr", number)).collect();
    writes.push(merge("p0", "tvl", 1));
    accept(&mut client, writes).await;
    let mut other = write(WriteMode::Set, "x", &[("note", integer(1))]);
    other.collection = "decisions".into();
    accept(&mut client, vec![other]).await;
    let plan = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    let again = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!(plan, again);
    assert_eq!((plan.documents, plan.writes, plan.batches.len()), (301, 302, 1));
    assert_eq!(plan.batches[0].documents["pools"], 300);
    assert_eq!(plan.batches[0].documents["decisions"], 1);
    assert!(plan.batches[0].bytes > 301 * 20);
    assert!((plan.naive_cost_usd - 302.0 * 0.18 / 100_000.0).abs() < 1e-12);
    assert_eq!(costs(&mut client).await.written_documents, 0);
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.batches, flushed.folded_writes), (301, 1, 302));
    let nothing = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((nothing.documents, nothing.batches.len()), (0, 0));
    assert_eq!(flush(&mut client).await, FlushResponse::default());
    service.stop().await;
}

#[tokio::test]
async fn ten_megabytes_are_sent_in_requests_the_sink_can_take() {
    let service = Service::start().await;
    let mut client = service.client();
    let text = Value { kind: Some(value::Kind::StringValue("x".repeat(1_000_000))) };
    // Twelve at once would be full before the plan is asked for; nine wait.
    for number in 0..9 {
        let large = write(WriteMode::Set, &format!("large-{number}"), &[("text", text.clone())]);
        accept(&mut client, vec![large]).await;
    }
    let plan = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((plan.documents, plan.batches.len()), (9, 1));
    let large = write(WriteMode::Set, "large-9", &[("text", text)]);
    accept(&mut client, vec![large]).await;
    let costs = until(&mut client, |costs| costs.written_documents == 9).await;
    assert_eq!(costs.waiting, 1, "the tenth does not fit the request and waits for the next");
    service.stop().await;
}

#[tokio::test]
async fn the_rate_counts_documents_by_the_agent_clock() {
    let service = Service::start().await;
    let mut client = service.client();
    let writes = (0..30).map(|number| merge(&format!("p{number}"), "apr", number)).collect();
    accept(&mut client, writes).await;
    flush(&mut client).await;
    assert_eq!(costs(&mut client).await.documents_per_minute, None);
    service.hand.advance(Duration::from_secs(120));
    assert_eq!(costs(&mut client).await.documents_per_minute, Some(15.0));
    let text = service.telemetry.prometheus_text();
    let line =
        text.lines().find(|line| line.starts_with("firestore_operations_total") && line.contains("write"));
    assert!(line.is_some_and(|line| line.ends_with(" 30")), "{text}");
    service.stop().await;
}
