//! Writes as a stream: each answered for itself, in order, within a credit, and an end that says how far it came.

use std::time::Duration;

use contracts::storage::*;
use rpc::{Code, Fault as Told};
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming};

use crate::{
    emulator::{Emulator, Fault},
    harness::{Client, Service, accept, costs, fault, flush, get, increment, merge, numbers, until, urgent},
};

/// A stream as a client without any library has it.
struct Raw {
    requests: mpsc::Sender<WriteStreamRequest>,
    answers: Streaming<WriteStreamResponse>,
    credit: StreamCredit,
}

impl Raw {
    async fn open(client: &mut Client) -> Self {
        Self::within(client, None).await.unwrap()
    }

    async fn within(client: &mut Client, time: Option<Duration>) -> Result<Self, Status> {
        let (requests, mut queued) = mpsc::channel(1);
        let mut request = Request::new(futures::stream::poll_fn(move |context| queued.poll_recv(context)));
        if let Some(time) = time {
            request.set_timeout(time);
        }
        let mut answers = client.write_stream(request).await?.into_inner();
        let credit = answers.message().await?.unwrap().credit.unwrap();
        Ok(Self { requests, answers, credit })
    }

    async fn send(&self, number: u64, write: DocumentWrite) {
        self.ask(number, write, WriteLevel::Durable).await;
    }

    async fn ask(&self, number: u64, write: DocumentWrite, level: WriteLevel) {
        let request = WriteStreamRequest { number, write: Some(write), level: level.into() };
        self.requests.send(request).await.unwrap();
    }

    /// So many outcomes, by number.
    async fn outcomes(&mut self, count: usize) -> Vec<WriteOutcome> {
        let mut outcomes = Vec::new();
        while outcomes.len() < count {
            outcomes.extend(self.answers.message().await.unwrap().unwrap().outcomes);
        }
        assert_eq!(outcomes.len(), count);
        outcomes.sort_by_key(|outcome| outcome.number);
        outcomes
    }

    /// What is answered until the end, how far the stream came, and its status if it failed.
    async fn end(mut self) -> (Vec<WriteOutcome>, Option<u64>, Option<Status>) {
        drop(self.requests);
        let (mut outcomes, mut end) = (Vec::new(), None);
        loop {
            match self.answers.message().await {
                Ok(Some(answer)) => {
                    assert!(end.is_none(), "the last message says how far it came");
                    outcomes.extend(answer.outcomes);
                    end = answer.end.map(|end| end.last_number);
                }
                Ok(None) => return (outcomes, end, None),
                Err(status) => return (outcomes, end, Some(status)),
            }
        }
    }
}

/// Number and refusal of each outcome, by code and reason.
fn told(outcomes: &[WriteOutcome]) -> Vec<(u64, &str, &str)> {
    let mut told = Vec::new();
    for WriteOutcome { number, refusal, .. } in outcomes {
        told.push(match refusal {
            Some(refusal) => (*number, &*refusal.code, &*refusal.reason),
            None => (*number, "OK", ""),
        });
    }
    told
}

#[tokio::test]
async fn each_write_is_answered_by_its_number_and_a_bad_one_ends_nothing_but_itself() {
    let service = Service::start().await;
    let mut client = service.client();
    let raw = Raw::open(&mut client).await;
    assert_eq!((raw.credit.max_unanswered_writes, raw.credit.max_unanswered_bytes), (1_024, 4 << 20));
    raw.send(1, increment("a", "key", 1)).await;
    raw.send(5, DocumentWrite { mode: 0, ..merge("a", "n", 2) }).await;
    raw.send(7, increment("a", "key", 5)).await;
    raw.send(8, increment("a", "key", 1)).await;
    raw.send(9, merge("b", "n", 3)).await;
    let (mut outcomes, last, status) = raw.end().await;
    outcomes.sort_by_key(|outcome| outcome.number);
    let expected = [
        (1, "OK", ""),
        (5, "INVALID_ARGUMENT", ""),
        (7, "INVALID_ARGUMENT", ""),
        (8, "OK", ""),
        (9, "OK", ""),
    ];
    assert_eq!(told(&outcomes), expected);
    let field = |place: usize| outcomes[place].refusal.as_ref().unwrap().fields[0].field.clone();
    assert_eq!((field(1), field(2)), ("write.mode".to_owned(), "write.idempotency_key".to_owned()));
    assert!(!outcomes[1].refusal.as_ref().unwrap().for_now);
    assert_eq!(outcomes[0].sequence, outcomes[3].sequence, "one key, one write");
    assert_eq!((last, status.map(|status| status.code())), (Some(9), None));
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 1)]);
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 3)]);
    service.stop().await;
}

#[tokio::test]
async fn a_write_of_a_stream_is_that_of_its_caller() {
    let token = config::Secret::new("one=acme:agent:night");
    let service = Service::with(|config| config.host.auth_tokens = token).await;
    let mut client = service.client_of("one");
    let raw = Raw::open(&mut client).await;
    raw.send(1, merge("a", "n", 1)).await;
    assert_eq!(raw.end().await.1, Some(1));
    let costs = costs(&mut client).await;
    let callers: Vec<_> = costs.callers.iter().map(|costs| (&*costs.caller, costs.naive_documents)).collect();
    assert_eq!(callers, [("night", 1)]);
    service.stop().await;
}

#[tokio::test]
async fn writes_to_a_document_are_applied_in_the_order_of_the_stream() {
    let service = Service::start().await;
    let mut client = service.client();
    let raw = Raw::open(&mut client).await;
    for number in 1..=300 {
        raw.send(number, merge("a", "n", number.cast_signed())).await;
    }
    let (mut outcomes, last, _) = raw.end().await;
    outcomes.sort_by_key(|outcome| outcome.number);
    let sequences: Vec<_> = outcomes.iter().map(|outcome| outcome.sequence).collect();
    assert!(sequences.is_sorted() && sequences.len() == 300);
    assert_eq!((last, numbers(get(&mut client, "a").await)), (Some(300), vec![("n".to_owned(), 300)]));
    assert_eq!(costs(&mut client).await.naive_documents, 300);
    service.stop().await;
}

#[tokio::test]
async fn a_stored_write_is_answered_after_the_sink_took_it_and_holds_up_no_other() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    let mut raw = Raw::open(&mut client).await;
    raw.ask(1, merge("a", "n", 1), WriteLevel::Stored).await;
    emulator.arrived().await;
    raw.send(2, merge("b", "n", 1)).await;
    assert_eq!(told(&raw.outcomes(1).await), [(2, "OK", "")]);
    drop(held);
    assert_eq!(told(&raw.outcomes(1).await), [(1, "OK", "")]);
    assert!(!get(&mut client, "a").await.unwrap().pending);
    emulator.inject([Fault::Refuse(3)]);
    raw.ask(3, merge("c", "n", 1), WriteLevel::Stored).await;
    assert_eq!(told(&raw.outcomes(1).await), [(3, "FAILED_PRECONDITION", "DEAD_LETTER")]);
    raw.ask(4, merge("d", "n", 1), WriteLevel::Stored).await;
    assert_eq!(told(&raw.outcomes(1).await), [(4, "OK", "")]);
    drop(raw);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_full_journal_refuses_a_write_and_all_behind_it_until_it_comes_again() {
    let service = Service::with(|config| config.journal_max_writes = 3).await;
    let mut client = service.client();
    let mut raw = Raw::open(&mut client).await;
    for number in 1..=5 {
        raw.send(number, merge("a", "n", number.cast_signed())).await;
    }
    let outcomes = raw.outcomes(5).await;
    let refused = [(4, "RESOURCE_EXHAUSTED", "JOURNAL_FULL"), (5, "ABORTED", "BEHIND")];
    assert_eq!(told(&outcomes)[3..], refused);
    let full = outcomes[3].refusal.clone().unwrap();
    assert!(full.for_now && full.retry_delay.is_some() && full.message.contains("journal_max_writes = 3"));
    flush(&mut client).await;
    // There is room, and yet nothing overtakes the fourth.
    raw.send(6, merge("a", "n", 6)).await;
    assert_eq!(told(&raw.outcomes(1).await), [(6, "ABORTED", "BEHIND")]);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 3)]);
    for number in 4..=6 {
        raw.send(number, merge("a", "n", number.cast_signed())).await;
    }
    assert_eq!(told(&raw.outcomes(3).await), [(4, "OK", ""), (5, "OK", ""), (6, "OK", "")]);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 6)]);
    service.stop().await;
}

#[tokio::test]
async fn a_number_that_does_not_grow_ends_the_stream_when_what_came_is_answered() {
    let service = Service::start().await;
    let mut client = service.client();
    let raw = Raw::open(&mut client).await;
    raw.send(3, merge("a", "n", 3)).await;
    raw.send(3, merge("a", "n", 4)).await;
    let (outcomes, last, status) = raw.end().await;
    assert_eq!((told(&outcomes), last), (vec![(3, "OK", "")], Some(3)));
    assert_eq!(fault(&status.unwrap()), (Code::InvalidArgument, vec!["number".to_owned()]));
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 3)]);
    service.stop().await;
}

#[tokio::test]
async fn what_is_beyond_the_credit_is_not_read_and_not_lost() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.storage_stream_writes = 4;
    })
    .await;
    let mut client = service.client();
    let held = emulator.hold().await;
    let mut raw = Raw::open(&mut client).await;
    assert_eq!(raw.credit.max_unanswered_writes, 4);
    for number in 1..=10 {
        raw.ask(number, merge(&format!("p{number}"), "n", 1), WriteLevel::Stored).await;
    }
    until(&mut client, |costs| costs.naive_documents == 4).await;
    // This goes the same way, behind what was sent.
    accept(&mut client, vec![urgent(merge("other", "n", 1))]).await;
    assert_eq!(costs(&mut client).await.naive_documents, 5);
    drop(held);
    let expected: Vec<_> = (1..=10).map(|number| (number, "OK", "")).collect();
    assert_eq!(told(&raw.outcomes(10).await), expected);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_paused_and_every_write_is_answered_when_it_does() {
    const WRITES: u64 = 40_000;
    let service = Service::with(|config| config.storage_stream_writes = 16).await;
    let mut client = service.client();
    let Raw { requests, mut answers, .. } = Raw::open(&mut client).await;
    // A refusal says much of little.
    let long = "x".repeat(1_000);
    let bad = move |number| WriteStreamRequest {
        number,
        write: Some(DocumentWrite { collection: long.clone() + "/", ..DocumentWrite::default() }),
        level: 0,
    };
    let (sent, mut progress) = tokio::sync::watch::channel(0);
    service.telemetry.spawn(async move {
        for number in 1..=WRITES {
            requests.send(bad(number)).await.unwrap();
            sent.send_replace(number);
        }
    });
    // Real time: that nothing moves any more shows only in time.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(300), progress.changed()).await {}
    assert!(*progress.borrow() < WRITES, "it is not paused");
    let mut next = 1;
    while let Some(answer) = answers.message().await.unwrap() {
        for outcome in answer.outcomes {
            assert_eq!(outcome.number, next);
            next += 1;
        }
    }
    assert_eq!(next, WRITES + 1);
    service.stop().await;
}

#[tokio::test]
async fn a_server_that_drains_answers_what_it_took_and_says_how_far_it_came() {
    let service = Service::start().await;
    let mut client = service.client();
    let mut raw = Raw::open(&mut client).await;
    raw.send(1, merge("a", "n", 1)).await;
    assert_eq!(told(&raw.outcomes(1).await), [(1, "OK", "")]);
    // The sink takes it because of the stop.
    raw.ask(2, merge("a", "n", 2), WriteLevel::Stored).await;
    raw.send(3, merge("a", "n", 3)).await;
    until(&mut client, |costs| costs.naive_documents == 3).await;
    let requests = raw.requests.clone();
    let (_, (mut outcomes, last, status)) = tokio::join!(service.stop(), raw.end());
    outcomes.sort_by_key(|outcome| outcome.number);
    assert_eq!((told(&outcomes), last), (vec![(2, "OK", ""), (3, "OK", "")], Some(3)));
    let told = Told::from(&status.unwrap());
    assert_eq!((told.code(), told.reason_word()), (Code::Unavailable, Some("DRAINING")));
    drop(requests);
}

#[tokio::test]
async fn a_stream_ends_with_its_connection_and_before_its_deadline_and_says_how_far_it_came() {
    let service = Service::with(|config| config.host.max_connection_age = Duration::from_millis(500)).await;
    let raw = Raw::open(&mut service.client()).await;
    raw.send(1, merge("a", "n", 1)).await;
    let requests = raw.requests.clone();
    let (outcomes, last, status) = raw.end().await;
    assert_eq!((told(&outcomes), last), (vec![(1, "OK", "")], Some(1)));
    assert_eq!(Told::from(&status.unwrap()).reason_word(), Some("DRAINING"));
    drop(requests);
    service.stop().await;
    let service = Service::start().await;
    let raw = Raw::within(&mut service.client(), Some(Duration::from_secs(1))).await.unwrap();
    raw.send(4, merge("a", "n", 1)).await;
    let requests = raw.requests.clone();
    let (outcomes, last, status) = raw.end().await;
    assert_eq!((told(&outcomes), last), (vec![(4, "OK", "")], Some(4)));
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    drop(requests);
    service.stop().await;
}

#[tokio::test]
async fn a_stream_that_has_to_end_says_of_what_the_sink_has_not_taken_that_it_is_durable() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let mut client = service.client();
    let held = emulator.hold().await;
    let raw = Raw::within(&mut client, Some(Duration::from_secs(1))).await.unwrap();
    raw.ask(1, increment("a", "key", 1), WriteLevel::Stored).await;
    let requests = raw.requests.clone();
    let (outcomes, last, status) = raw.end().await;
    assert_eq!((told(&outcomes), last), (vec![(1, "DEADLINE_EXCEEDED", "DURABLE")], Some(1)));
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    drop((requests, held));
    let raw = Raw::open(&mut client).await;
    raw.ask(1, increment("a", "key", 1), WriteLevel::Stored).await;
    let (outcomes, ..) = raw.end().await;
    assert_eq!((outcomes[0].sequence, numbers(get(&mut client, "a").await)), (1, vec![("n".to_owned(), 1)]));
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn no_more_streams_are_taken_than_there_may_be() {
    let service = Service::with(|config| config.storage_streams = 1).await;
    let mut client = service.client();
    let raw = Raw::open(&mut client).await;
    let refused = Raw::within(&mut service.client(), None).await.err().unwrap();
    let told = Told::from(&refused);
    assert_eq!((told.code(), told.reason_word()), (Code::ResourceExhausted, Some("OVERLOADED")));
    assert!(told.retry_delay().is_some());
    let (_, last, status) = raw.end().await;
    assert_eq!((last, status.map(|status| status.code())), (Some(0), None));
    Raw::open(&mut client).await;
    service.stop().await;
}
