//! What has not the same effect twice reaches Firestore once, whatever becomes of requests, answers and the service.

use contracts::storage::{field_transform::TransformType, value::Kind, *};

use crate::{
    emulator::{Emulator, Fault},
    harness::{
        START, Service, accept, costs, flush, get, increment, integer, list, merge, numbers, transform,
        until, urgent, write,
    },
    project::Firestore,
};

fn n(number: i64) -> Vec<(String, i64)> {
    vec![("n".to_owned(), number)]
}

#[tokio::test]
async fn an_increment_whose_answer_is_lost_is_applied_once() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 40)]).await;
    flush(&mut client).await;
    let faults = [Fault::LoseReply, Fault::Refuse(14), Fault::LoseReply, Fault::Refuse(10)];
    emulator.inject(faults);
    accept(&mut client, vec![increment("a", "one", 1), increment("a", "two", 1), increment("b", "three", 7)])
        .await;
    // Told that the sink is away, or that it has it: sent all the same.
    drop(client.flush(FlushRequest::default()).await);
    let told = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(emulator.calls()[1..], [&faults.map(Some)[..], &[None]].concat());
    assert_eq!(numbers(get(&mut client, "a").await), n(42));
    assert_eq!(numbers(get(&mut client, "b").await), n(7));
    assert_eq!((told.written_documents, told.ledger_documents, told.saved_by_folding), (4, 1, 1));
    assert_eq!(told.naive_documents, 4);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn an_increment_that_was_applied_before_the_end_is_not_applied_after_the_start() {
    let emulator = Emulator::start().await;
    let service = emulator.hasty_batcher().await;
    let mut client = service.client();
    // Applied, its answer lost; then the sink is away until the end.
    emulator.inject([Fault::LoseReply]);
    emulator.inject(std::iter::repeat_n(Fault::Refuse(14), 100_000));
    accept(&mut client, vec![urgent(increment("a", "one", 1)), urgent(increment("b", "two", 1))]).await;
    while emulator.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    accept(&mut client, vec![increment("a", "three", 10), increment("c", "four", 100)]).await;
    assert!(get(&mut client, "a").await.unwrap().pending);
    let revived = service.after_kill(START + 1, |_| {}).await;
    service.stop().await;
    emulator.calm();
    let mut client = revived.client();
    let resumed = revived.captured.log_lines().into_iter().find(|line| line.contains("journal recovered"));
    assert!(resumed.is_some_and(|line| line.contains(r#""resumed":2"#)));
    until(&mut client, |costs| costs.waiting == 2).await;
    flush(&mut client).await;
    assert_eq!(numbers(get(&mut client, "a").await), n(11));
    assert_eq!(numbers(get(&mut client, "b").await), n(1));
    assert_eq!(numbers(get(&mut client, "c").await), n(100));
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.ledger_documents, costs.waiting), (6, 2, 0));
    revived.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn one_bad_transform_is_refused_by_name_and_the_others_arrive_once() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let half = Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    accept(&mut client, vec![write(WriteMode::Set, "large", &[("one", half.clone())])]).await;
    flush(&mut client).await;
    let union = TransformType::AppendMissingElements(list(&[half]));
    // The whole is refused, then each is asked alone, and one of those answers is lost.
    emulator.inject([Fault::Refuse(3), Fault::LoseReply]);
    let writes = vec![
        increment("a", "one", 1),
        transform("large", "two", vec![("l", union)]),
        increment("b", "three", 2),
    ];
    accept(&mut client, writes).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.refused.len()), (2, 1));
    assert_eq!(flushed.refused[0].document_id, "large");
    assert_eq!(numbers(get(&mut client, "a").await), n(1));
    assert_eq!(numbers(get(&mut client, "b").await), n(2));
    assert!(!get(&mut client, "large").await.unwrap().fields.contains_key("l"));
    service.stop().await;
    emulator.stop().await;
}

/// Sends one state, which Firestore applies only after it was given up, sent again and followed by another one.
async fn applied_late(ledger_always: bool) -> Vec<(String, i64)> {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.firestore_ledger_always = ledger_always;
    })
    .await;
    let mut client = service.client();
    emulator.inject([Fault::Late]);
    for number in 1..=2 {
        accept(&mut client, vec![merge("a", "n", number)]).await;
        flush(&mut client).await;
    }
    emulator.apply_late().await;
    let found = numbers(get(&mut client, "a").await);
    let ledgers = costs(&mut client).await.ledger_documents;
    assert_eq!(ledgers, if ledger_always { 2 } else { 0 });
    service.stop().await;
    emulator.stop().await;
    found
}

#[tokio::test]
async fn a_request_that_is_applied_late_brings_an_old_state_back_unless_every_batch_has_a_ledger_document() {
    assert_eq!(applied_late(true).await, n(2));
    // The limit that the README names.
    assert_eq!(applied_late(false).await, n(1));
}

#[tokio::test]
async fn a_plan_prices_ledger_documents_and_the_requests_that_need_them() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1), increment("b", "one", 1), increment("c", "two", 1)]).await;
    let plan = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((plan.documents, plan.ledger_documents, plan.batches.len()), (3, 1, 2));
    assert!((plan.cost_usd - 4.0 * 0.18 / 100_000.0).abs() < 1e-12);
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.batches), (3, 2));
    let costs = costs(&mut client).await;
    assert!((costs.cost_usd - plan.cost_usd).abs() < 1e-12);
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn what_may_come_twice_needs_no_ledger_document() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let highest = || vec![("n", TransformType::Maximum(integer(7)))];
    emulator.inject([Fault::LoseReply]);
    // An increment of a value that was set with it is a value.
    let mut writes = vec![transform("a", "one", highest()), write(WriteMode::Set, "b", &[("n", integer(1))])];
    writes.push(increment("b", "two", 1));
    accept(&mut client, writes).await;
    assert_eq!(flush(&mut client).await.documents, 2);
    assert_eq!(numbers(get(&mut client, "a").await), n(7));
    assert_eq!(numbers(get(&mut client, "b").await), n(2));
    assert_eq!(costs(&mut client).await.ledger_documents, 0);
    service.stop().await;
    emulator.stop().await;
}
