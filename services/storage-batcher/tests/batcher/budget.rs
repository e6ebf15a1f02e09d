//! What the write budget lets through, on the agent clock.

use std::time::Duration;

use contracts::storage::{field_transform::TransformType, value::Kind, *};
use rpc::{Code, Fault};

use crate::{
    emulator::{self, Emulator},
    harness::{
        Client, START, Service, accept, at, costs, flush, get, increment, merge, numbers, status, transform,
        until, urgent, write,
    },
};

async fn of(documents_per_minute: u32) -> Service {
    Service::with(|config| config.firestore_documents_per_minute = documents_per_minute).await
}

/// A batcher that may send ten documents a minute to `emulator`.
async fn ten_to(emulator: &Emulator) -> Service {
    Service::with(|config| {
        emulator.configure(config);
        config.firestore_documents_per_minute = 10;
    })
    .await
}

fn pools(count: i64) -> Vec<DocumentWrite> {
    (0..count).map(|number| merge(&format!("p{number:03}"), "n", number)).collect()
}

async fn budget(client: &mut Client) -> WriteBudget {
    status(client).await.budget.unwrap()
}

async fn plan(client: &mut Client) -> PlanFlushResponse {
    client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner()
}

/// Waits until the sink has taken so many documents in all and none is on its way.
async fn written(client: &mut Client, documents: u64) {
    until(client, |costs| costs.written_documents >= documents).await;
    while status(client).await.flush.unwrap().batches > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(costs(client).await.written_documents, documents);
}

#[tokio::test]
async fn what_a_minute_has_no_room_for_waits_and_folds_and_leaves_as_there_is_room() {
    let service = of(20).await;
    let mut client = service.client();
    accept(&mut client, pools(50)).await;
    let told = plan(&mut client).await;
    assert_eq!((told.documents, told.held_documents), (50, 30));
    // 18 2/3 come back a minute.
    assert_eq!(told.held_until.unwrap().seconds, at(96).seconds);
    service.hand.advance(Duration::from_secs(60));
    written(&mut client, 20).await;
    let stands = budget(&mut client).await;
    assert_eq!((stands.documents_per_minute, stands.documents_per_day), (20.0, 0.0));
    assert_eq!((stands.available_documents, stands.overdrawn_documents), (0, 0));
    assert_eq!((stands.held_documents, stands.held_until.unwrap().seconds), (30, at(156).seconds));
    // In the order of their first writes; one that waits takes more in.
    assert!(!get(&mut client, "p019").await.unwrap().pending);
    accept(&mut client, vec![merge("p049", "n", 1_000)]).await;
    let folded = get(&mut client, "p049").await;
    assert_eq!((numbers(folded.clone()), folded.unwrap().pending), (vec![("n".to_owned(), 1_000)], true));
    service.hand.advance(Duration::from_secs(57));
    assert_eq!(budget(&mut client).await.available_documents, 17);
    written(&mut client, 20).await;
    service.hand.advance(Duration::from_secs(1));
    written(&mut client, 38).await;
    service.hand.advance(Duration::from_secs(60));
    written(&mut client, 50).await;
    let costs = costs(&mut client).await;
    assert_eq!((costs.waiting, costs.saved_by_folding), (0, 1));
    service.stop().await;
}

#[tokio::test]
async fn a_flush_says_that_the_budget_holds_documents_back() {
    let service = of(20).await;
    let mut client = service.client();
    accept(&mut client, pools(20)).await;
    assert_eq!(flush(&mut client).await.documents, 20);
    accept(&mut client, vec![merge("late", "n", 1)]).await;
    let refused = client.flush(FlushRequest::default()).await.unwrap_err();
    let fault = Fault::from(&refused);
    assert_eq!((fault.code(), fault.reason_word()), (Code::ResourceExhausted, Some("WRITE_BUDGET")));
    // One document at 18 2/3 a minute.
    let wait = fault.retry_delay().unwrap();
    assert!(wait > Duration::from_secs(3) && wait < Duration::from_secs(4), "{wait:?}");
    service.hand.advance(wait);
    written(&mut client, 21).await;
    service.stop().await;
}

#[tokio::test]
async fn high_priority_overdraws_and_the_others_wait_until_it_is_paid() {
    let service = of(15).await;
    let mut client = service.client();
    accept(&mut client, pools(25).into_iter().map(urgent).collect()).await;
    written(&mut client, 25).await;
    let stands = budget(&mut client).await;
    assert_eq!(
        (stands.available_documents, stands.overdrawn_documents, stands.overdrawn_in_all),
        (0, 10, 10)
    );
    let text = service.telemetry.prometheus_text();
    let overdrawn = text.lines().find(|line| line.starts_with("athena_storage_overdrawn_total"));
    assert!(overdrawn.is_some_and(|line| line.ends_with(" 10")), "{text}");
    accept(&mut client, vec![merge("patient", "n", 1)]).await;
    drop(client.flush(FlushRequest::default()).await.unwrap_err());
    // 14 come back a minute: ten of debt and one of its own take 47.2 s.
    service.hand.advance(Duration::from_secs(47));
    assert_eq!(budget(&mut client).await.held_documents, 1);
    written(&mut client, 25).await;
    service.hand.advance(Duration::from_secs(1));
    written(&mut client, 26).await;
    let stands = budget(&mut client).await;
    assert_eq!((stands.overdrawn_documents, stands.overdrawn_in_all, stands.held_documents), (0, 10, 0));
    service.stop().await;
}

#[tokio::test]
async fn a_day_costs_no_more_than_its_money() {
    let service = Service::with(|config| {
        // 240 documents: ten at once, and 230 come back in a day.
        config.firestore_usd_per_day = 240.0 * 0.18 / 100_000.0;
    })
    .await;
    let mut client = service.client();
    accept(&mut client, pools(300)).await;
    drop(client.flush(FlushRequest::default()).await.unwrap_err());
    written(&mut client, 10).await;
    assert!((budget(&mut client).await.documents_per_day - 240.0).abs() < 1e-6);
    for hour in 1..=24 {
        for _ in 0..30 {
            service.hand.advance(Duration::from_secs(120));
            tokio::task::yield_now().await;
        }
        let most = 10 + 230 * hour / 24;
        let told = until(&mut client, |costs| costs.written_documents + 3 >= most).await;
        assert!(told.written_documents <= most, "{told:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_restart_gives_no_fresh_budget_and_a_stop_does_not_wait_for_one() {
    let service = of(15).await;
    let mut client = service.client();
    accept(&mut client, pools(25).into_iter().map(urgent).collect()).await;
    written(&mut client, 25).await;
    accept(&mut client, vec![merge("patient", "n", 1)]).await;
    drop(client.flush(FlushRequest::default()).await.unwrap_err());
    let begun = std::time::Instant::now();
    let service = service.restart_at(START + 20).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "nothing could be sent");
    let mut client = service.client();
    let stands = budget(&mut client).await;
    // They count as sent now, in the minute that is not over.
    assert_eq!((stands.overdrawn_documents, stands.available_documents), (10, 0));
    assert!(get(&mut client, "patient").await.unwrap().pending);
    service.hand.advance(Duration::from_secs(60));
    written(&mut client, 26).await;
    service.stop().await;
}

#[tokio::test]
async fn ledger_documents_and_lost_answers_are_paid_for() {
    let emulator = Emulator::start().await;
    let service = ten_to(&emulator).await;
    let mut client = service.client();
    accept(&mut client, vec![increment("a", "one", 1), increment("b", "two", 1)]).await;
    flush(&mut client).await;
    assert_eq!(budget(&mut client).await.available_documents, 7, "two and their ledger document");
    emulator.inject([emulator::Fault::LoseReply]);
    accept(&mut client, pools(3)).await;
    flush(&mut client).await;
    // Sent twice, and perhaps billed twice.
    assert_eq!(budget(&mut client).await.available_documents, 1);
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.ledger_documents), (9, 1));
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_batch_that_must_be_divided_and_fills_the_budget_waits_for_no_place_of_its_own() {
    let emulator = Emulator::start().await;
    let service = ten_to(&emulator).await;
    let mut client = service.client();
    let half = Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    accept(&mut client, vec![write(WriteMode::Set, "large", &[("one", half.clone())])]).await;
    flush(&mut client).await;
    service.hand.advance(Duration::from_secs(60));
    assert_eq!(budget(&mut client).await.available_documents, 10);
    // Nine and their ledger document; divided, they need two.
    let union = TransformType::AppendMissingElements(ArrayValue { values: vec![half] });
    let mut writes = vec![transform("large", "bad", vec![("l", union)])];
    writes.extend((1..9).map(|number| increment(&format!("p{number}"), &format!("key {number}"), number)));
    accept(&mut client, writes).await;
    service.hand.advance(Duration::from_secs(60));
    let told = loop {
        let told = costs(&mut client).await;
        if told.waiting == 0 {
            break told;
        }
        service.hand.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    };
    assert_eq!((told.written_documents - told.ledger_documents, emulator.calls().len() > 3), (9, true));
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_flush_is_told_of_a_batch_that_has_no_room_to_be_sent_again() {
    let emulator = Emulator::start().await;
    let service = ten_to(&emulator).await;
    let mut client = service.client();
    emulator.inject([emulator::Fault::LoseReply]);
    accept(&mut client, pools(9)).await;
    // Told when the batch finds no room, and when it waits for some already.
    for _ in 0..2 {
        let refused = client.flush(FlushRequest::default()).await.unwrap_err();
        let fault = Fault::from(&refused);
        assert_eq!((fault.code(), fault.reason_word()), (Code::ResourceExhausted, Some("WRITE_BUDGET")));
        // One is left and 9 1/3 come back a minute: eight of them take 51.4 s.
        let wait = fault.retry_delay().unwrap();
        assert!(wait > Duration::from_secs(51) && wait < Duration::from_secs(52), "{wait:?}");
    }
    service.hand.advance(Duration::from_secs(52));
    until(&mut client, |costs| costs.waiting == 0).await;
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn what_was_urgent_and_on_its_way_asks_no_budget_after_a_kill() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.firestore_documents_per_minute = 10;
        config.storage_drain_timeout = Duration::ZERO;
    })
    .await;
    let mut client = service.client();
    accept(&mut client, pools(20).into_iter().map(urgent).collect()).await;
    written(&mut client, 20).await;
    let calls = emulator.calls().len();
    emulator.inject(std::iter::repeat_n(emulator::Fault::Refuse(14), 100_000));
    accept(&mut client, vec![urgent(increment("a", "one", 1))]).await;
    while emulator.calls().len() == calls {
        tokio::task::yield_now().await;
    }
    let revived = service.after_kill(START + 1, |_| {}).await;
    service.stop().await;
    emulator.calm();
    let mut client = revived.client();
    let told = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((told.written_documents, told.ledger_documents), (22, 1));
    assert_eq!(budget(&mut client).await.available_documents, 0);
    revived.stop().await;
    emulator.stop().await;
}
