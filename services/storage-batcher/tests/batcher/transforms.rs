//! Transforms, masks and idempotency keys as callers see them, over the embedded store.

use std::time::Duration;

use contracts::storage::{field_transform::TransformType, value::Kind, *};
use rpc::Code;

use crate::harness::{
    START, Service, accept, at, costs, fault, flush, get, increment, integer, list, map, merge, numbers,
    transform, write,
};

fn server_time() -> TransformType {
    TransformType::SetToServerValue(ServerValue::RequestTime.into())
}

fn moment(seconds: i64) -> Option<Kind> {
    Some(Kind::TimestampValue(at(seconds)))
}

#[tokio::test]
async fn transforms_are_read_at_once_and_applied_once() {
    let service = Service::start().await;
    let mut client = service.client();
    let tags = Value { kind: Some(Kind::ArrayValue(list(&[integer(1), integer(2)]))) };
    accept(&mut client, vec![write(WriteMode::Set, "a", &[("n", integer(5)), ("tags", tags)])]).await;
    flush(&mut client).await;
    let changes = vec![
        ("n", TransformType::Increment(integer(2))),
        ("tags", TransformType::AppendMissingElements(list(&[integer(2), integer(3)]))),
        ("`0x12ab`.`a.b`", TransformType::Maximum(integer(7))),
        ("seen", server_time()),
    ];
    accept(&mut client, vec![transform("a", "one", changes), increment("a", "two", 3)]).await;
    service.hand.advance(Duration::from_secs(5));
    let seen = get(&mut client, "a").await.unwrap();
    let three = Value { kind: Some(Kind::ArrayValue(list(&[integer(1), integer(2), integer(3)]))) };
    assert_eq!((&seen.fields["n"], &seen.fields["tags"], seen.pending), (&integer(10), &three, true));
    assert_eq!(seen.fields["0x12ab"], map(&[("a.b", integer(7))]));
    assert_eq!(seen.fields["seen"].kind, moment(5), "what it would be now");
    service.hand.advance(Duration::from_secs(5));
    assert_eq!(flush(&mut client).await.documents, 1);
    service.hand.advance(Duration::from_secs(5));
    let stored = get(&mut client, "a").await.unwrap();
    assert_eq!((&stored.fields["n"], &stored.fields["tags"], stored.pending), (&integer(10), &three, false));
    assert_eq!(stored.fields["seen"].kind, moment(10), "when it was applied");
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.saved_by_folding, costs.ledger_documents), (2, 1, 0));
    service.stop().await;
}

#[tokio::test]
async fn a_mask_deletes_fields_and_replaces_maps() {
    let service = Service::start().await;
    let mut client = service.client();
    let fields = [("a-b", map(&[("`", integer(1)), ("kept", integer(2))])), ("gone", integer(3))];
    accept(&mut client, vec![write(WriteMode::Set, "a", &fields)]).await;
    flush(&mut client).await;
    let mut masked =
        write(WriteMode::Merge, "a", &[("whole", map(&[("x", integer(4))])), ("ignored", integer(5))]);
    let field_paths = ["`a-b`.`\\``", "gone", "whole"].map(str::to_owned).to_vec();
    masked.update_mask = Some(DocumentMask { field_paths });
    accept(&mut client, vec![merge("a", "whole", 1), masked]).await;
    let expected = [("a-b", map(&[("kept", integer(2))])), ("whole", map(&[("x", integer(4))]))];
    for pending in [true, false] {
        let seen = get(&mut client, "a").await.unwrap();
        let expected = expected.clone().map(|(name, value)| (name.to_owned(), value));
        assert_eq!((seen.fields, seen.pending), (expected.into(), pending));
        flush(&mut client).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn what_no_single_write_does_goes_in_the_next_batch() {
    let service = Service::start().await;
    let mut client = service.client();
    let mut emptied = write(WriteMode::Merge, "a", &[]);
    emptied.update_mask = Some(DocumentMask { field_paths: vec!["m.x".to_owned()] });
    accept(&mut client, vec![write(WriteMode::Merge, "a", &[("m", map(&[("x", integer(1))]))]), emptied])
        .await;
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    let plan = client.plan_flush(PlanFlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((plan.documents, plan.writes), (2, 3));
    let expected = [("m".to_owned(), map(&[])), ("n".to_owned(), integer(1))];
    assert_eq!(get(&mut client, "a").await.unwrap().fields, expected.clone().into());
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.batches, flushed.folded_writes), (2, 2, 3));
    assert_eq!(get(&mut client, "a").await.unwrap().fields, expected.into());
    assert_eq!(costs(&mut client).await.waiting, 0);
    service.stop().await;
}

#[tokio::test]
async fn waiting_transforms_outlive_a_kill() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    flush(&mut client).await;
    accept(&mut client, vec![increment("a", "one", 2), increment("a", "two", -3)]).await;
    let revived = service.after_kill(START + 1, |_| {}).await;
    let mut client = revived.client();
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 0)]);
    assert_eq!(flush(&mut client).await.documents, 1);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 0)]);
    revived.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn a_write_with_a_known_key_is_answered_and_not_applied_again() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("one=acme:agent,two=umbra:agent");
    })
    .await;
    let (mut client, mut other) = (service.client_of("one"), service.client_of("two"));
    let writes = vec![increment("a", "same", 1), merge("b", "n", 1), increment("a", "same", 1)];
    let receipt = accept(&mut client, writes).await;
    assert_eq!(receipt.sequences, [1, 2, 1], "within one request too");
    let receipt = accept(&mut client, vec![merge("b", "n", 2), increment("a", "same", 1)]).await;
    assert_eq!(receipt.sequences, [3, 1]);
    let receipt = accept(&mut other, vec![increment("a", "same", 1)]).await;
    assert_eq!(receipt.sequences, [4], "another tenant's key is another key");
    let one = WriteRequest { write: Some(increment("a", "same", 2)), ..Default::default() };
    let refused = client.write(one).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["write.idempotency_key".to_owned()]));
    let writes = vec![merge("c", "n", 1), increment("a", "same", 2)];
    let refused = client.write_batch(WriteBatchRequest { writes, ..Default::default() }).await.unwrap_err();
    assert_eq!(fault(&refused).1, ["writes[1].idempotency_key"]);
    assert_eq!(get(&mut client, "c").await, None, "all or none");
    let unkeyed = WriteRequest { write: Some(increment("a", "", 1)), ..Default::default() };
    let refused = client.write(unkeyed).await.unwrap_err();
    assert_eq!(fault(&refused).1, ["write.idempotency_key"]);
    flush(&mut client).await;
    let service = service.restart_at(START + 60).await;
    let mut client = service.client_of("one");
    let receipt = accept(&mut client, vec![increment("a", "same", 1)]).await;
    assert_eq!(receipt.sequences, [1], "after a restart and at the sink");
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 1)]);
    assert_eq!(costs(&mut client).await.naive_documents, 3);
    service.stop().await;
}

#[tokio::test]
async fn keys_are_known_for_their_window_and_no_more_of_them_than_allowed() {
    let service = Service::with(|config| {
        config.storage_idempotency_window = Duration::from_secs(60);
        config.storage_idempotency_keys = 2;
    })
    .await;
    let mut client = service.client();
    let keys = ["one", "two", "three"];
    accept(&mut client, keys.map(|key| increment("a", key, 1)).into()).await;
    let again = accept(&mut client, vec![increment("a", "three", 1), increment("a", "one", 1)]).await;
    assert_eq!(again.sequences, [3, 4], "the oldest was pushed out");
    let service = service.restart_at(START + 59).await;
    let mut client = service.client();
    assert_eq!(accept(&mut client, vec![increment("a", "three", 1)]).await.sequences, [3]);
    service.hand.advance(Duration::from_secs(1));
    assert_eq!(accept(&mut client, vec![increment("a", "three", 1)]).await.sequences, [5]);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 5)]);
    service.stop().await;
}

#[tokio::test]
async fn what_changes_nothing_is_not_sent_if_so_wished() {
    let service = Service::with(|config| config.firestore_skip_unchanged = true).await;
    let mut client = service.client();
    let set = || write(WriteMode::Set, "a", &[("n", integer(1))]);
    accept(&mut client, vec![set()]).await;
    assert_eq!(flush(&mut client).await.documents, 1);
    accept(&mut client, vec![set(), merge("a", "n", 1), merge("b", "n", 1)]).await;
    assert_eq!(flush(&mut client).await.documents, 1, "the other one");
    let told = costs(&mut client).await;
    assert_eq!((told.written_documents, told.saved_as_unchanged, told.saved_by_folding), (2, 1, 1));
    assert_eq!((told.naive_documents, told.waiting), (4, 0));
    accept(&mut client, vec![increment("a", "one", 1)]).await;
    assert_eq!(flush(&mut client).await.documents, 1);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 2)]);
    accept(&mut client, vec![set()]).await;
    assert_eq!(flush(&mut client).await.documents, 1, "it is another state by now");
    service.stop().await;
}
