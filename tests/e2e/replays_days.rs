//! Days are replayed one a cycle, and fewer documents are written than one for each write.

use std::time::Duration;

use athena::Service;
use contracts::storage::{
    FlushRequest, GetCostsRequest, storage_batcher_service_client::StorageBatcherServiceClient,
};
use tests::House;

#[tokio::test(flavor = "multi_thread")]
async fn three_days_write_fewer_documents_than_they_hand_over() {
    let house = House::open().await.unwrap();
    let mut dates = Vec::new();
    for _ in 0..3 {
        dates.push(house.cycle().await.unwrap().recorded_date);
        house.hand.advance(Duration::from_secs(5 * 60));
    }
    // A bucket is closed 60 s after its quarter hour.
    house.hand.advance(Duration::from_secs(17 * 60));
    let mut storage: StorageBatcherServiceClient<_> = house.client(Service::StorageBatcher).unwrap();
    storage.flush(FlushRequest { close_open_buckets: false }).await.unwrap();
    let costs = storage.get_costs(GetCostsRequest {}).await.unwrap().into_inner();
    dates.dedup();
    assert_eq!(dates.len(), 3, "{dates:?}");
    assert!(dates.is_sorted(), "{dates:?}");
    assert_eq!(costs.waiting, 0, "{costs:#?}");
    assert!(costs.naive_documents >= 300, "{costs:#?}");
    assert!(0 < costs.written_documents && costs.written_documents < costs.naive_documents, "{costs:#?}");
    let saved = costs.saved_by_folding + costs.saved_by_aggregation;
    assert_eq!(costs.naive_documents, costs.written_documents + saved, "{costs:#?}");
    assert!(costs.cost_usd < costs.naive_cost_usd, "{costs:#?}");
    house.close().await.unwrap();
}
