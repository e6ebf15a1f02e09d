//! What arrives at Firestore.

use contracts::storage::{value::Kind, *};

use crate::{
    emulator::Emulator,
    harness::{
        Service, accept, at, buckets, costs, flush, get, integer, map, merge, numbers, record, sample, write,
    },
    project::Firestore,
};

/// Reads through a batcher that has nothing pending: what it says is what Firestore holds.
async fn stored(firestore: &Firestore, id: &str) -> Option<Document> {
    let reader = firestore.batcher().await;
    let found = get(&mut reader.client(), id).await;
    reader.stop().await;
    found
}

#[tokio::test]
async fn sets_merges_and_deletes_arrive_as_they_were_meant() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    let moment = Value { kind: Some(Kind::TimestampValue(at(1))) };
    let list = ArrayValue { values: vec![integer(1), map(&[("x", integer(2))])] };
    let list = Value { kind: Some(Kind::ArrayValue(list)) };
    let bytes = Value { kind: Some(Kind::BytesValue(vec![0, 255])) };
    let double = Value { kind: Some(Kind::DoubleValue(0.1)) };
    let null = Value { kind: Some(Kind::NullValue(true)) };
    let all = [
        ("moment", moment),
        ("list", list),
        ("bytes", bytes),
        ("double", double),
        ("null", null),
        ("0x1", integer(1)),
    ];
    accept(&mut client, vec![write(WriteMode::Set, "a", &all), merge("gone", "n", 1)]).await;
    flush(&mut client).await;

    let nested = map(&[("0xAB", map(&[("a-b", integer(2))])), ("plain", integer(3))]);
    let change = write(WriteMode::Merge, "a", &[("pools", nested), ("0x1", integer(9)), ("empty", map(&[]))]);
    accept(&mut client, vec![change, write(WriteMode::Delete, "gone", &[])]).await;
    let more = write(WriteMode::Merge, "a", &[("pools", map(&[("0xAB", map(&[("c d", integer(4))]))]))]);
    accept(&mut client, vec![more]).await;
    let before = get(&mut client, "a").await.unwrap();
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.folded_writes, flushed.refused.len()), (2, 3, 0));

    let after = stored(&firestore, "a").await.unwrap();
    assert_eq!(after.fields, before.fields, "the overlay told what Firestore then holds");
    assert_eq!(after.fields["0x1"], integer(9));
    let inner = map(&[("a-b", integer(2)), ("c d", integer(4))]);
    assert_eq!(after.fields["pools"], map(&[("0xAB", inner), ("plain", integer(3))]));
    assert_eq!(after.fields["list"], all[1].1);
    assert_eq!(after.fields["empty"], map(&[]));
    assert_eq!(stored(&firestore, "gone").await, None);
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn a_merge_makes_the_document_and_goes_through_a_scalar() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    accept(&mut client, vec![merge("a", "x", 1), write(WriteMode::Merge, "empty", &[])]).await;
    flush(&mut client).await;
    accept(&mut client, vec![write(WriteMode::Merge, "a", &[("x", map(&[("y", integer(2))]))])]).await;
    flush(&mut client).await;
    assert_eq!(stored(&firestore, "a").await.unwrap().fields["x"], map(&[("y", integer(2))]));
    assert!(stored(&firestore, "empty").await.is_some_and(|document| document.fields.is_empty()));
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn listings_and_buckets_are_read_from_firestore_in_pages() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    accept(&mut client, ["a", "b", "c", "d"].map(|id| merge(id, "n", 1)).into()).await;
    record(&mut client, vec![sample(0, 1.0), sample(-900, 3.0)]).await;
    client.flush(FlushRequest { close_open_buckets: true }).await.unwrap();
    accept(&mut client, vec![write(WriteMode::Delete, "b", &[])]).await;
    let request = ListRequest { collection: "pools".into(), page_size: 2, page_token: String::new() };
    let page = client.list(request.clone()).await.unwrap().into_inner();
    let ids =
        |page: &ListResponse| page.documents.iter().map(|it| it.document_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&page), ["a", "c"]);
    let rest = client.list(ListRequest { page_token: page.next_page_token, ..request }).await.unwrap();
    assert_eq!(ids(rest.get_ref()), ["d"]);
    let found = buckets(&mut client).await;
    assert_eq!(
        found.iter().map(|bucket| bucket.aggregates["apr"].last).collect::<Vec<_>>(),
        [Some(3.0), Some(1.0)]
    );
    service.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn tenants_have_their_own_paths_in_one_database() {
    // Documents of the tenant `default` lie at the root of the database: never where others have theirs.
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.host.auth_tokens = config::Secret::new("one=acme:agent,two=default:agent");
    })
    .await;
    let (mut acme, mut default) = (service.client_of("one"), service.client_of("two"));
    accept(&mut acme, vec![merge("a", "n", 1)]).await;
    accept(&mut default, vec![merge("a", "n", 2)]).await;
    flush(&mut acme).await;
    flush(&mut default).await;
    assert_eq!(numbers(get(&mut acme, "a").await), [("n".to_owned(), 1)]);
    assert_eq!(numbers(get(&mut default, "a").await), [("n".to_owned(), 2)]);
    let list = ListRequest { collection: "pools".into(), ..Default::default() };
    assert_eq!(default.list(list).await.unwrap().into_inner().documents.len(), 1);
    assert_eq!(costs(&mut acme).await.written_documents, 1);
    service.stop().await;
    emulator.stop().await;
}
