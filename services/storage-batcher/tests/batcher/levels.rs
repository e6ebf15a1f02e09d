//! When a write is acknowledged: on disk here, or at the sink.

use std::time::Duration;

use contracts::storage::*;
use rpc::{Code, Fault as Told};
use tonic::{Request, Status};

use crate::{
    emulator::{Emulator, Fault},
    harness::{Client, Service, accept, costs, flush, get, increment, merge, numbers, until},
};

fn stored(write: DocumentWrite) -> WriteRequest {
    WriteRequest { write: Some(write), level: WriteLevel::Stored.into() }
}

fn word(status: &Status) -> (Code, String) {
    let fault = Told::from(status);
    (fault.code(), fault.reason_word().unwrap_or_default().to_owned())
}

/// Asks for a write to be stored within two seconds of real time.
async fn within(client: &mut Client, write: DocumentWrite) -> Result<WriteResponse, Status> {
    let mut request = Request::new(stored(write));
    request.set_timeout(Duration::from_secs(2));
    client.write(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_stored_write_is_answered_after_the_sink_took_it_and_a_durable_one_before() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    accept(&mut client, vec![merge("waits", "n", 1)]).await;
    let mut other = service.client();
    let mut call = std::pin::pin!(other.write(stored(merge("a", "n", 1))));
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        () = emulator.arrived() => {}
    }
    assert!(get(&mut client, "a").await.unwrap().pending, "durable, and read before it is answered");
    drop(held);
    assert_eq!(call.await.unwrap().into_inner().sequence, 2);
    assert!(!get(&mut client, "a").await.unwrap().pending);
    assert!(get(&mut client, "waits").await.unwrap().pending, "nobody waits for this one");
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_stored_batch_is_answered_when_the_last_of_it_is_at_the_embedded_store() {
    let service = Service::with(|config| config.firestore_batch_size = 2).await;
    let mut client = service.client();
    let writes = (0..7).map(|number| merge(&format!("p{number}"), "n", number)).collect();
    let request = WriteBatchRequest { writes, level: WriteLevel::Stored.into() };
    let answer = client.write_batch(request).await.unwrap().into_inner();
    assert_eq!((answer.sequences.len(), answer.pending_documents), (7, 7));
    assert_eq!(costs(&mut client).await.waiting, 0);
    service.stop().await;
}

#[tokio::test]
async fn a_deadline_that_passes_says_that_the_write_is_durable_and_it_is_stored_once() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    let late = within(&mut client, increment("a", "key", 1)).await.unwrap_err();
    assert_eq!(word(&late), (Code::DeadlineExceeded, "DURABLE".to_owned()));
    assert!(late.message().contains("is durable and will be stored"), "{late}");
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 1)]);
    drop(held);
    // Asked again with its key it is waited for, and known when it has arrived.
    for _ in 0..2 {
        assert_eq!(within(&mut client, increment("a", "key", 1)).await.unwrap().sequence, 1);
    }
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 1)]);
    assert_eq!(costs(&mut client).await.naive_documents, 1);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn one_who_comes_to_wait_for_a_write_that_waits_sends_it() {
    let service = Service::start().await;
    let mut client = service.client();
    accept(&mut client, vec![increment("a", "key", 1), merge("b", "n", 1)]).await;
    assert_eq!(within(&mut client, increment("a", "key", 1)).await.unwrap().sequence, 1);
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.waiting), (1, 1));
    service.stop().await;
}

#[tokio::test]
async fn a_stored_write_that_the_sink_refuses_is_told_as_a_dead_letter_again_and_again() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    emulator.inject([Fault::Refuse(3)]);
    for _ in 0..2 {
        let refused = within(&mut client, increment("a", "key", 1)).await.unwrap_err();
        assert_eq!(word(&refused), (Code::FailedPrecondition, "DEAD_LETTER".to_owned()));
        assert!(refused.message().contains("pools/a") && refused.message().contains("injected"), "{refused}");
    }
    assert_eq!(flush(&mut client).await.documents, 0);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_sink_is_answered_when_the_service_stops() {
    let service = Service::start().await;
    let mut client = service.client();
    let mut other = service.client();
    accept(&mut client, vec![merge("a", "n", 1)]).await;
    let asked = service.telemetry.spawn(async move { other.write(stored(merge("b", "n", 1))).await });
    until(&mut client, |costs| costs.naive_documents == 2).await;
    service.stop().await;
    assert_eq!(asked.await.unwrap().unwrap().into_inner().sequence, 2);
}
