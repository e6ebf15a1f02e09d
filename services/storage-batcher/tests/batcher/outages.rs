//! How writes are sent to a sink that bears little, or was away.

use contracts::storage::*;

use crate::{
    emulator::{Emulator, Fault},
    harness::{Client, START, Service, accept, costs, flush, get, merge, until, urgent},
};

async fn sending(client: &mut Client) -> FlushStatus {
    client.get_status(GetStatusRequest {}).await.unwrap().into_inner().flush.unwrap()
}

#[tokio::test]
async fn an_urgent_write_does_not_wait_for_a_batch_that_hangs() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.firestore_max_concurrent_writes = 1;
        config.firestore_batch_size = 2;
    })
    .await;
    let mut client = service.client();
    let held = emulator.hold().await;
    accept(&mut client, ["a", "b", "c", "d"].map(|id| merge(id, "n", 1)).into()).await;
    emulator.arrived().await;
    accept(&mut client, vec![urgent(merge("urgent", "n", 1))]).await;
    // The second batch has no place; this is the urgent one.
    emulator.arrived().await;
    let status = sending(&mut client).await;
    assert_eq!((status.concurrency, status.batches, status.documents), (1, 2, 5));
    drop(held);
    until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(emulator.calls().len(), 3);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_overloaded_gets_half_as_many_batches_at_once() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    assert_eq!(sending(&mut client).await.concurrency, 10);
    emulator.inject([Fault::Refuse(10), Fault::Refuse(8)]);
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    flush(&mut client).await;
    assert_eq!(sending(&mut client).await.concurrency, 2);
    for number in 0..6 {
        accept(&mut client, vec![merge("a", "n", number)]).await;
        flush(&mut client).await;
    }
    assert!(sending(&mut client).await.concurrency > 3, "and more again when it bears them");
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn what_gathered_during_an_outage_or_a_stop_is_caught_up_with_at_the_rate_of_the_ramp() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.firestore_batch_size = 1;
        config.firestore_max_concurrent_writes = 1;
        config.firestore_ramp_start = 4.0;
        config.firestore_ramp_outage = std::time::Duration::ZERO;
    })
    .await;
    let mut client = service.client();
    assert_eq!(sending(&mut client).await.ramp_documents_per_second, None);
    emulator.inject([Fault::Refuse(14)]);
    accept(&mut client, ["a", "b", "c", "d"].map(|id| merge(id, "n", 1)).into()).await;
    while sending(&mut client).await.ramp_documents_per_second != Some(4.0) {
        tokio::task::yield_now().await;
    }
    // High priority waits for no turn.
    accept(&mut client, vec![urgent(merge("urgent", "n", 1))]).await;
    while get(&mut client, "urgent").await.unwrap().pending {
        tokio::task::yield_now().await;
    }
    assert!(costs(&mut client).await.waiting > 0);
    until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(sending(&mut client).await.ramp_documents_per_second, None, "caught up");
    accept(&mut client, ["e", "f"].map(|id| merge(id, "n", 1)).into()).await;
    let revived = service.after_kill(START + 1, |config| config.firestore_batch_size = 500).await;
    let status = sending(&mut revived.client()).await;
    assert_eq!(status.ramp_documents_per_second.is_some(), status.documents > 0);
    revived.stop().await;
    service.stop().await;
    emulator.stop().await;
}
