//! Reads see acknowledged writes, whatever the sink holds.

use contracts::storage::*;
use rpc::Code;

use crate::harness::{
    Service, accept, fault, flush, get, integer, map, merge, numbers, record, sample, write,
};

#[tokio::test]
async fn pending_writes_lie_over_what_is_stored() {
    let service = Service::start().await;
    let mut client = service.client();
    let stored = write(WriteMode::Set, "a", &[("kept", integer(1)), ("map", map(&[("old", integer(1))]))]);
    accept(&mut client, vec![stored]).await;
    flush(&mut client).await;
    let change = write(WriteMode::Merge, "a", &[("map", map(&[("new", integer(2))])), ("apr", integer(3))]);
    accept(&mut client, vec![change]).await;
    let seen = get(&mut client, "a").await.unwrap();
    assert!(seen.pending);
    assert_eq!(seen.fields["map"], map(&[("old", integer(1)), ("new", integer(2))]));
    flush(&mut client).await;
    let stored = get(&mut client, "a").await.unwrap();
    assert_eq!((stored.fields, stored.pending), (seen.fields, false));
    accept(&mut client, vec![write(WriteMode::Delete, "a", &[])]).await;
    assert_eq!(get(&mut client, "a").await, None);
    flush(&mut client).await;
    assert_eq!(get(&mut client, "a").await, None);
    service.stop().await;
}

#[tokio::test]
async fn a_listing_pages_through_stored_pending_and_deleted_documents() {
    let service = Service::start().await;
    let mut client = service.client();
    let writes = ["b", "d", "f", "h"].map(|id| merge(id, "n", 1)).into();
    accept(&mut client, writes).await;
    flush(&mut client).await;
    let delete = write(WriteMode::Delete, "d", &[]);
    accept(&mut client, vec![merge("a", "n", 2), merge("f", "n", 2), merge("i", "n", 2), delete]).await;
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRequest { collection: "pools".into(), page_size: 2, page_token };
        let page = client.list(request).await.unwrap().into_inner();
        pages.push(
            page.documents
                .iter()
                .map(|it| format!("{}{}", it.document_id, if it.pending { "*" } else { "" }))
                .collect::<Vec<_>>()
                .join(" "),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, ["a* b", "f* h", "i*"]);
    service.stop().await;
}

#[tokio::test]
async fn one_tenant_never_sees_another() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("one=acme:admin,two=umbra:admin");
    })
    .await;
    let (mut acme, mut umbra) = (service.client_of("one"), service.client_of("two"));
    accept(&mut acme, vec![merge("a", "n", 1)]).await;
    record(&mut acme, vec![sample(0, 1.0)]).await;
    for flushed in [false, true] {
        if flushed {
            flush(&mut acme).await;
        }
        assert_eq!(get(&mut umbra, "a").await, None);
        let request = ListRequest { collection: "pools".into(), ..Default::default() };
        assert!(umbra.list(request).await.unwrap().into_inner().documents.is_empty());
        assert!(crate::harness::buckets(&mut umbra).await.is_empty());
        assert_eq!(crate::harness::costs(&mut umbra).await.naive_documents, 0);
        let plan = umbra.plan_flush(PlanFlushRequest { close_open_buckets: true }).await.unwrap();
        assert_eq!(plan.into_inner().documents, 0);
    }
    let receipt = accept(&mut umbra, vec![merge("a", "n", 2)]).await;
    assert_eq!(receipt.pending_documents, 1);
    assert_eq!(numbers(get(&mut acme, "a").await), [("n".to_owned(), 1)]);
    let mut stranger = service.client_of("three");
    let refused = stranger.get_costs(GetCostsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    service.stop().await;
}

#[tokio::test]
async fn bad_input_names_its_field_and_nothing_of_a_batch_is_kept() {
    let service = Service::start().await;
    let mut client = service.client();
    let bad = DocumentWrite { collection: "a/b".into(), ..merge("x", "n", 1) };
    let request = WriteBatchRequest { writes: vec![merge("good", "n", 1), bad], ..Default::default() };
    let refused = client.write_batch(request).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["writes[1].collection".to_owned()]));
    assert_eq!(get(&mut client, "good").await, None);
    let request = WriteBatchRequest { writes: vec![merge("x", "n", 1); 501], ..Default::default() };
    let refused = client.write_batch(request).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["writes".to_owned()]));
    let refused = client.write(WriteRequest::default()).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["write".to_owned()]));
    let request = RecordMetricsRequest { samples: vec![sample(901, 1.0)], ..Default::default() };
    let refused = client.record_metrics(request).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["samples[0].time".to_owned()]));
    let request = GetRequest { collection: "__x__".into(), document_id: "a".into() };
    assert_eq!(fault(&client.get(request).await.unwrap_err()).1, ["collection"]);
    service.stop().await;
}
