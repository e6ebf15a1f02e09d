//! A sink that fails loses nothing.

use contracts::storage::{value::Kind, *};
use rpc::{Code, Serving};

use crate::{
    emulator::{Emulator, Fault},
    harness::{START, accept, costs, fault, flush, get, integer, merge, numbers, until, urgent, write},
    project::Firestore,
};

#[tokio::test]
async fn a_busy_sink_is_asked_again_and_nothing_is_lost() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    emulator.inject([Fault::Refuse(10), Fault::Refuse(8)]);
    accept(&mut client, vec![merge("a", "n", 1), merge("b", "n", 2)]).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.batches), (2, 3));
    assert_eq!(emulator.calls(), [Some(Fault::Refuse(10)), Some(Fault::Refuse(8)), None]);
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.waiting), (2, 0), "what was refused was not billed");
    assert!(!get(&mut client, "a").await.unwrap().pending);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_with_the_same_effect_and_counted_twice() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    emulator.inject([Fault::LoseReply]);
    accept(&mut client, vec![merge("a", "n", 1), merge("a", "m", 2)]).await;
    flush(&mut client).await;
    assert_eq!(numbers(get(&mut client, "a").await), [("m".to_owned(), 2), ("n".to_owned(), 1)]);
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.saved_by_folding, costs.waiting), (2, 1, 0));
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn writes_that_arrive_during_a_slow_flush_are_kept_and_stay_in_order() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    accept(&mut client, vec![urgent(merge("a", "n", 1))]).await;
    emulator.arrived().await;
    // The first state is on its way; two more of the same document and another one arrive.
    accept(&mut client, vec![merge("a", "n", 2), urgent(merge("b", "n", 1))]).await;
    emulator.arrived().await;
    accept(&mut client, vec![urgent(merge("a", "n", 3))]).await;
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 3)]);
    assert!(emulator.calls().is_empty());
    drop(held);
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!((costs.naive_documents, costs.written_documents), (4, 3));
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 3)]);
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 1)]);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn one_bad_document_is_refused_by_name_and_the_others_arrive() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    let half = Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    // Each write is small enough; with what the sink has by then, the second is more than a document may hold.
    accept(&mut client, vec![write(WriteMode::Merge, "large", &[("one", half.clone())])]).await;
    assert_eq!(flush(&mut client).await.documents, 1);
    accept(&mut client, vec![write(WriteMode::Merge, "large", &[("two", half)])]).await;
    accept(&mut client, vec![merge("a", "n", 1), merge("b", "n", 2)]).await;
    let flushed = flush(&mut client).await;
    assert_eq!(flushed.documents, 2);
    assert_eq!(flushed.refused.len(), 1);
    assert_eq!((&*flushed.refused[0].collection, &*flushed.refused[0].document_id), ("pools", "large"));
    assert!(!flushed.refused[0].reason.is_empty());
    let large = get(&mut client, "large").await.unwrap();
    assert!(!large.pending && large.fields.contains_key("one") && !large.fields.contains_key("two"));
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 2)]);
    assert_eq!(costs(&mut client).await.waiting, 0);
    assert!(service.telemetry.prometheus_text().contains("athena_storage_refused_total"));
    assert!(service.captured.log_lines().iter().any(|line| line.contains("refused for good")));
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn a_merge_that_would_take_waiting_writes_down_with_it_is_refused_first() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    let half = Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    let merge_of = |name: &str| write(WriteMode::Merge, "large", &[(name, half.clone())]);
    accept(&mut client, vec![merge_of("one")]).await;
    let one = WriteRequest { write: Some(merge_of("two")), ..Default::default() };
    let refused = client.write(one).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["write.fields".to_owned()]));
    let batch = WriteBatchRequest { writes: vec![merge("a", "n", 1), merge_of("two")], ..Default::default() };
    let refused = client.write_batch(batch).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["writes[1].fields".to_owned()]));
    // All or none, and what was acknowledged before arrives.
    assert_eq!(get(&mut client, "a").await, None);
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.folded_writes, flushed.refused.len()), (1, 1, 0));
    assert!(get(&mut client, "large").await.unwrap().fields.contains_key("one"));
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn a_request_refused_as_a_whole_is_halved_until_the_guilty_write_is_alone() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    // The whole, then its first half, then the first of that half.
    emulator.inject([Fault::Refuse(3), Fault::Refuse(3), Fault::Refuse(3)]);
    accept(&mut client, ["a", "b", "c", "d"].map(|id| merge(id, "n", 1)).into()).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.refused.len()), (3, 1));
    assert_eq!(flushed.refused[0].document_id, "a");
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_sink_that_refuses_every_write_of_a_batch_for_its_content_is_asked_again() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    // The whole and both of its halves.
    emulator.inject([Fault::Refuse(3), Fault::Refuse(3), Fault::Refuse(3)]);
    accept(&mut client, ["a", "b"].map(|id| merge(id, "n", 1)).into()).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.refused.len()), (2, 0));
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_away_costs_no_write_and_a_flush_says_so() {
    let emulator = Emulator::start().await;
    let service = emulator.hasty_batcher().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    flush(&mut client).await;
    emulator.stop().await;
    accept(&mut client, vec![merge("a", "m", 2), write(WriteMode::Set, "b", &[("n", integer(1))])]).await;
    let refused = client.flush(FlushRequest::default()).await.unwrap_err();
    assert_eq!(fault(&refused).0, Code::Unavailable);
    // A pending set decides its document; a merge needs the sink.
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 1)]);
    let request = GetRequest { collection: "pools".into(), document_id: "a".into() };
    assert_eq!(client.get(request).await.unwrap_err().code(), Code::Unavailable);

    let revived = service.after_kill(START + 1, |config| config.firestore_project = None).await;
    let mut client = revived.client();
    assert_eq!(flush(&mut client).await.documents, 2, "the journal kept them, for whatever sink comes");
    revived.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_away_is_told_and_takes_nothing_down() {
    const SERVICE: &str = "athena.storage.v1.StorageBatcherService";
    const SINK: &str = "athena.storage.v1.StorageBatcherService/firestore";
    let emulator = Emulator::start().await;
    let service = emulator.hasty_batcher().await;
    let states = async || {
        let states = rpc::states(&service.channel(None)).await.unwrap();
        (states[SERVICE], states[SINK])
    };
    assert_eq!(states().await, (Serving::Yes, Serving::Unknown), "asking for nothing would cost money");
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    flush(&mut client).await;
    assert_eq!(states().await, (Serving::Yes, Serving::Yes));
    emulator.stop().await;
    accept(&mut client, vec![merge("a", "m", 2)]).await;
    client.flush(FlushRequest::default()).await.unwrap_err();
    assert_eq!(states().await, (Serving::Yes, Serving::No));
    service.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_sink_for_ever() {
    let emulator = Emulator::start().await;
    let service = emulator.hasty_batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    accept(&mut client, vec![urgent(merge("a", "n", 1))]).await;
    emulator.arrived().await;
    let service = service.restart_at(START + 1).await;
    drop(held);
    let mut client = service.client();
    let costs = until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(costs.naive_documents, 1);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 1)]);
    service.stop().await;
    emulator.stop().await;
}
