//! Bad input, and the field that is named.

use contracts::memory::*;
use rpc::Code;

use crate::harness::{Service, at, fault, memory};

#[tokio::test]
async fn bad_memories_are_refused_by_the_name_of_the_field() {
    let service = Service::start().await;
    let mut client = service.client();
    let good = || memory("id", "content");
    let metadata =
        |entries: u32, bytes: usize| (0..entries).map(|key| (key.to_string(), "x".repeat(bytes))).collect();
    for (field, bad) in [
        ("memory.id", Memory { id: "x".repeat(257), ..good() }),
        ("memory.category", Memory { category: String::new(), ..good() }),
        ("memory.category", Memory { category: "x".repeat(129), ..good() }),
        ("memory.content", Memory { content: String::new(), ..good() }),
        ("memory.content", Memory { content: "x".repeat(65_537), ..good() }),
        ("memory.pools", Memory { pools: vec!["x".into(); 65], ..good() }),
        ("memory.pools[1]", Memory { pools: vec!["x".into(), String::new()], ..good() }),
        ("memory.time", Memory { time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }), ..good() }),
        ("memory.confidence", Memory { confidence: 1.1, ..good() }),
        ("memory.confidence", Memory { confidence: f64::NAN, ..good() }),
        ("memory.metadata", Memory { metadata: metadata(65, 1), ..good() }),
        ("memory.metadata", Memory { metadata: metadata(2, 9000), ..good() }),
        ("memory.embedding", Memory { embedding: vec![1.0; 255], ..good() }),
        ("memory.embedding", Memory { embedding: vec![0.0; 256], ..good() }),
        ("memory.embedding[0]", Memory { embedding: vec![f32::NAN; 256], ..good() }),
        ("memory.embedding", Memory { embedding: vec![f32::MAX; 256], ..good() }),
    ] {
        let refused = client
            .remember(RememberRequest { memory: Some(bad), ..RememberRequest::default() })
            .await
            .unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let refused =
        client.remember(RememberRequest { memory: None, ..RememberRequest::default() }).await.unwrap_err();
    assert_eq!(fault(&refused).1, ["memory"]);
    for count in [0, 1001] {
        let memories = vec![good(); count];
        let refused = client
            .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
            .await
            .unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["memories".to_owned()]));
    }
    let both = Memory { category: String::new(), confidence: -0.1, ..good() };
    let refused = client
        .remember(RememberRequest { memory: Some(both), ..RememberRequest::default() })
        .await
        .unwrap_err();
    assert_eq!(fault(&refused).1, ["memory.category", "memory.confidence"], "all faults are told at once");
    assert_eq!(client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner().memories, 0);
    service.stop().await;
}

#[tokio::test]
async fn bad_queries_are_refused_by_the_name_of_the_field() {
    let service = Service::start().await;
    let mut client = service.client();
    for (field, bad) in [
        ("query.limit", Query { limit: 1001, ..Query::default() }),
        ("query.end_time", Query { start_time: Some(at(2)), end_time: Some(at(1)), ..Query::default() }),
        ("query.end_time", Query { start_time: Some(at(1)), end_time: Some(at(1)), ..Query::default() }),
        (
            "query.start_time",
            Query {
                start_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..Query::default()
            },
        ),
        ("query.categories[0]", Query { categories: vec![String::new()], ..Query::default() }),
        ("query.pools[1]", Query { pools: vec!["a".into(), "x".repeat(257)], ..Query::default() }),
        ("query.categories", Query { categories: vec!["a".into(); 65], ..Query::default() }),
        ("query.pools", Query { pools: vec!["a".into(); 65], ..Query::default() }),
        ("query.text", Query { text: "x".repeat((64 << 10) + 1), ..Query::default() }),
        ("query.min_confidence", Query { min_confidence: f64::NAN, ..Query::default() }),
        ("query.min_confidence", Query { min_confidence: 1.5, ..Query::default() }),
        ("query.embedding", Query { embedding: vec![1.0; 3], ..Query::default() }),
        ("query.embedding", Query { embedding: vec![0.0; 256], ..Query::default() }),
        ("query.embedding[0]", Query { embedding: vec![f32::INFINITY; 256], ..Query::default() }),
    ] {
        let expected = (Code::InvalidArgument, vec![field.to_owned()]);
        let refused = client
            .recall(RecallRequest { query: Some(bad.clone()), ..RecallRequest::default() })
            .await
            .unwrap_err();
        assert_eq!(fault(&refused), expected);
        let refused = client
            .explain(ExplainRequest { query: Some(bad), ..ExplainRequest::default() })
            .await
            .unwrap_err();
        assert_eq!(fault(&refused), expected);
    }
    let refused = client.get(GetRequest::default()).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["id".to_owned()]));
    for (field, ids) in
        [("ids", vec![]), ("ids", vec!["x".to_owned(); 1001]), ("ids[1]", vec!["x".into(), String::new()])]
    {
        let refused = client.forget(ForgetRequest { ids, ..ForgetRequest::default() }).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    service.stop().await;
}
