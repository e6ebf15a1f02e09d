//! What the sink refuses for good is kept, told, sent again or dropped.

use contracts::storage::{field_transform::TransformType, value::Kind, *};
use rpc::Code;

use crate::{
    emulator::{Emulator, Fault},
    harness::{
        Client, START, accept, costs, fault, flush, get, increment, integer, merge, numbers, transform, write,
    },
    project::Firestore,
};

async fn letters(client: &mut Client) -> Vec<DeadLetter> {
    let request = ListDeadLettersRequest::default();
    client.list_dead_letters(request).await.unwrap().into_inner().letters
}

async fn redrive(client: &mut Client, sequences: &[u64]) -> Vec<RedrivenLetter> {
    let request = RedriveDeadLettersRequest { sequences: sequences.to_vec() };
    client.redrive_dead_letters(request).await.unwrap().into_inner().redriven
}

async fn journal(client: &mut Client) -> JournalStatus {
    client.get_status(GetStatusRequest {}).await.unwrap().into_inner().journal.unwrap()
}

#[tokio::test]
async fn a_refused_write_is_kept_with_its_reason_over_a_kill_and_arrives_when_redriven() {
    let firestore = Firestore::open().await;
    let service = firestore.batcher().await;
    let mut client = service.client();
    let half = || Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    accept(&mut client, vec![write(WriteMode::Merge, "large", &[("one", half())])]).await;
    flush(&mut client).await;
    // With what the sink has by then, these are more than a document may hold.
    let grows = write(WriteMode::Merge, "large", &[("two", half()), ("0x1", integer(1))]);
    accept(&mut client, vec![merge("good", "n", 1), grows, merge("large", "three", 3)]).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.refused.len()), (1, 1));

    let found = letters(&mut client).await;
    assert_eq!(found.len(), 1);
    let letter = &found[0];
    assert_eq!((letter.sequence, &*letter.document_id, letter.writes), (3, "large", 2));
    assert_eq!(letter.field_paths, ["`0x1`", "three", "two"]);
    assert!(!letter.reason.is_empty() && letter.mode() == WriteMode::Merge);
    assert_eq!(letter.accept_time.unwrap().seconds, START.cast_signed());
    let held = journal(&mut client).await;
    assert_eq!((held.writes, held.dead_letters, held.bytes), (1, 1, held.dead_letter_bytes));
    let text = service.telemetry.prometheus_text();
    assert!(text.lines().any(|line| line.starts_with("athena_storage_dead_letters") && line.ends_with(" 1")));

    let revived = service.after_kill(START + 1, |_| {}).await;
    service.stop().await;
    let mut client = revived.client();
    assert_eq!(letters(&mut client).await, found);
    accept(&mut client, vec![write(WriteMode::Set, "large", &[("n", integer(7))])]).await;
    let redriven = redrive(&mut client, &[3, 3, 99]).await;
    assert_eq!(redriven, [RedrivenLetter { dead_letter_sequence: 3, sequence: 6 }]);
    assert!(redrive(&mut client, &[3]).await.is_empty(), "safe to retry");
    assert!(letters(&mut client).await.is_empty());
    assert_eq!(flush(&mut client).await.refused, []);
    // After what was written meanwhile.
    let large = get(&mut client, "large").await;
    assert!(large.as_ref().is_some_and(|large| large.fields.contains_key("two") && !large.pending));
    let arrived = [("0x1", 1), ("n", 7), ("three", 3)].map(|(name, number)| (name.to_owned(), number));
    assert_eq!(numbers(large), arrived);
    assert_eq!(journal(&mut client).await.writes, 0);
    revived.stop().await;
    firestore.stop().await;
}

#[tokio::test]
async fn a_discarded_letter_is_gone_and_only_an_admin_discards() {
    let emulator = Emulator::start().await;
    let service = crate::harness::Service::with(|config| {
        emulator.configure(config);
        config.host.auth_tokens = config::Secret::new("one=acme:admin,two=acme:agent,three=umbra:admin");
    })
    .await;
    let (mut admin, mut agent, mut other) =
        (service.client_of("one"), service.client_of("two"), service.client_of("three"));
    emulator.inject([Fault::Refuse(3)]);
    accept(&mut agent, vec![merge("a", "n", 1)]).await;
    assert_eq!(flush(&mut agent).await.refused.len(), 1);
    assert_eq!((letters(&mut agent).await.len(), letters(&mut other).await.len()), (1, 0));
    let request = || DiscardDeadLettersRequest { sequences: vec![1] };
    let refused = agent.discard_dead_letters(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(other.discard_dead_letters(request()).await.unwrap().into_inner().discarded.is_empty());
    assert!(redrive(&mut other, &[1]).await.is_empty());
    assert_eq!(admin.discard_dead_letters(request()).await.unwrap().into_inner().discarded, [1]);
    assert!(letters(&mut agent).await.is_empty());
    assert_eq!(costs(&mut agent).await.waiting, 0);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn letters_are_paged_and_hold_the_room_of_the_journal_until_they_go() {
    let emulator = Emulator::start().await;
    let service = crate::harness::Service::with(|config| {
        emulator.configure(config);
        config.journal_max_writes = 3;
        config.firestore_batch_size = 1;
    })
    .await;
    let mut client = service.client();
    emulator.inject([Fault::Refuse(3); 3]);
    accept(&mut client, ["a", "b", "c"].map(|id| merge(id, "n", 1)).into()).await;
    // Batches of one leave by themselves: of how many a flush still hears is chance.
    flush(&mut client).await;
    let one = WriteRequest { write: Some(merge("d", "n", 1)), ..Default::default() };
    let refused = client.write(one.clone()).await.unwrap_err();
    assert_eq!(fault(&refused).0, Code::ResourceExhausted, "what was acknowledged is not dropped for it");
    let mut page = ListDeadLettersRequest { page_size: 2, after_sequence: 0 };
    let mut sequences = Vec::new();
    loop {
        let answer = client.list_dead_letters(page).await.unwrap().into_inner();
        sequences.extend(answer.letters.into_iter().map(|letter| letter.sequence));
        if answer.next_after_sequence == 0 {
            break;
        }
        page.after_sequence = answer.next_after_sequence;
    }
    assert_eq!(sequences, [1, 2, 3]);
    redrive(&mut client, &sequences).await;
    flush(&mut client).await;
    let costs = costs(&mut client).await;
    assert_eq!((costs.written_documents, costs.waiting), (3, 0));
    client.write(one).await.unwrap();
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_commit_refused_as_a_whole_is_halved_until_the_guilty_write_is_alone() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let half = Value { kind: Some(Kind::StringValue("x".repeat(600_000))) };
    accept(&mut client, vec![write(WriteMode::Set, "large", &[("one", half.clone())])]).await;
    flush(&mut client).await;
    let union = TransformType::AppendMissingElements(ArrayValue { values: vec![half] });
    let mut writes = vec![transform("large", "bad", vec![("l", union)])];
    writes.extend((1..8).map(|number| increment(&format!("p{number}"), &format!("key {number}"), number)));
    accept(&mut client, writes).await;
    let flushed = flush(&mut client).await;
    assert_eq!((flushed.documents, flushed.refused.len()), (7, 1));
    // All eight; four and four; two and two; one and one.
    assert_eq!(emulator.calls().len() - 1, 7);
    for number in 1..8 {
        let found = numbers(get(&mut client, &format!("p{number}")).await);
        assert_eq!(found, [("n".to_owned(), number)]);
    }
    assert_eq!(costs(&mut client).await.ledger_documents, 3);
    assert_eq!(letters(&mut client).await[0].document_id, "large");
    service.stop().await;
    emulator.stop().await;
}
