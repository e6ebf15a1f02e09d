//! An upstream that does what no server should: no wrong answer, no leak, bounded attempts and time.

use std::time::{Duration, Instant};

use contracts::llm::{self as wire, generate_stream_response::Part};
use llm_gateway::Config;
use proptest::prelude::*;
use serde_json::json;
use testkit::faulty::{Act, Faulty, Request, completion, end, event, head, response};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, MODEL, ask};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Longest an attempt may take here.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Longest a call may take that is to succeed.
const WHOLE: Duration = Duration::from_secs(1);
/// Long enough for whatever is to end.
const LONG: Duration = Duration::from_secs(20);

fn config(upstream: &Faulty) -> Config {
    Config {
        llm_model: MODEL.into(),
        llm_upstream_url: Some(upstream.url()),
        llm_timeout: TIMEOUT,
        llm_max_retries: 1,
        ..Config::defaults()
    }
}

fn sends(bytes: impl Into<Vec<u8>>) -> Vec<Act> {
    vec![Act::Send(bytes.into())]
}

fn answers(request: &Request) -> Vec<Act> {
    let text = format!("about {}", request.words());
    if request.is_streamed() {
        sends([head(EVENTS), event(&text), end()].concat())
    } else {
        sends(response(200, JSON, &[], &completion(&text)))
    }
}

/// Shows that nothing of an earlier call is left: no connection, no call that runs or waits, and the same question is answered.
async fn leaves_nothing(gateway: &Gateway, upstream: &Faulty, name: &str) {
    tokio::time::timeout(LONG, upstream.left())
        .await
        .unwrap_or_else(|_| panic!("{name}: a connection is left"));
    let text = gateway.telemetry.prometheus_text();
    for gauge in ["running", "queued"] {
        let line = format!("athena_llm_upstream_{gauge}{{upstream=\"openai\"}} 0");
        assert!(text.contains(&line), "{name}: {text}");
    }
    upstream.change(answers);
    let answer = gateway.client().generate(ask("gas?")).await.unwrap().into_inner();
    assert_eq!(answer.text, "about gas?", "{name}");
}

async fn read(gateway: &Gateway, words: &str) -> (String, Result<wire::StreamEnd, Status>) {
    let request = wire::GenerateStreamRequest {
        messages: ask(words).messages,
        ..wire::GenerateStreamRequest::default()
    };
    let mut text = String::new();
    let mut stream = match gateway.client().generate_stream(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return (text, Err(status)),
    };
    loop {
        match stream.message().await {
            Err(status) => return (text, Err(status)),
            Ok(None) => panic!("the stream ended without an end"),
            Ok(Some(message)) => match message.part.unwrap() {
                Part::Text(piece) => text.push_str(&piece),
                Part::End(end) => return (text, Ok(*end)),
                _ => panic!("nothing but words was sent"),
            },
        }
    }
}

/// A fault, what the caller is told, and after how many attempts.
type Case = (&'static str, Vec<Act>, Code, u64);

fn whole_faults() -> Vec<Case> {
    let cut = [
        &b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"[..],
        b"{\"choices\"",
    ];
    let half = completion("half").split_at(20).0.to_owned();
    let endless = vec![Act::Send(head(JSON)), Act::Repeat(b" ".to_vec(), TIMEOUT / 10)];
    let throttled = |header: &str| sends(response(429, JSON, &[header], "{}"));
    vec![
        ("hangs", vec![Act::Hang], Code::Unavailable, 2),
        ("closes at once", vec![], Code::Unavailable, 2),
        ("resets before its headers", vec![Act::Reset], Code::Unavailable, 2),
        ("resets after its headers", vec![Act::Send(head(JSON)), Act::Reset], Code::Unavailable, 2),
        ("hangs after its headers", vec![Act::Send(head(JSON)), Act::Hang], Code::Unavailable, 2),
        ("breaks off in the body", sends(cut.concat()), Code::Unavailable, 2),
        ("resets in the body", vec![Act::Send(cut.concat()), Act::Reset], Code::Unavailable, 2),
        ("speaks no HTTP", sends(vec![0_u8, 159, 146, 150, b'\r', b'\n']), Code::Unavailable, 2),
        ("drips", endless, Code::Unavailable, 2),
        ("answers half of the JSON", sends(response(200, JSON, &[], &half)), Code::Internal, 1),
        ("answers a page", sends(response(200, "text/html", &[], "<html>busy</html>")), Code::Internal, 1),
        ("answers nothing", sends(response(200, JSON, &[], "")), Code::Internal, 1),
        ("answers other JSON", sends(response(200, JSON, &[], "{\"choices\": []}")), Code::Internal, 1),
        ("fails", sends(response(500, JSON, &[], "{}")), Code::Unavailable, 2),
        (
            "redirects",
            sends(response(302, JSON, &["location: http://127.0.0.1:1/"], "")),
            Code::Unavailable,
            2,
        ),
        ("throttles for a while", throttled("retry-after-ms: 150"), Code::ResourceExhausted, 2),
        ("throttles for a second", throttled("Retry-After: 1"), Code::ResourceExhausted, 2),
        (
            "throttles for longer than anybody waits",
            throttled("Retry-After: 3600"),
            Code::ResourceExhausted,
            1,
        ),
        (
            "is overloaded",
            sends(response(529, JSON, &["retry-after: 3600"], "{}")),
            Code::ResourceExhausted,
            1,
        ),
    ]
}

#[tokio::test]
async fn every_fault_is_told_by_its_code_within_its_time_and_leaves_nothing() {
    for (name, acts, code, attempts) in whole_faults() {
        let upstream = Faulty::start(move |_| acts.clone());
        let gateway = Gateway::start(config(&upstream)).await;
        let begun = Instant::now();
        let error = gateway.client().generate(ask("gas?")).await.unwrap_err();
        let took = begun.elapsed();
        println!("{name}: {code:?} after {} attempts and {} ms", upstream.requests(), took.as_millis());
        assert_eq!((error.code(), upstream.requests()), (code, attempts), "{name}: {error}");
        // Two attempts, a wait between them of at most 250 ms, or the second that was asked for.
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        if code == Code::ResourceExhausted {
            assert!(error.get_error_details().retry_info().unwrap().retry_delay.is_some(), "{name}");
        }
        leaves_nothing(&gateway, &upstream, name).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_an_upstream_asks_for_is_waited_for() {
    let upstream = Faulty::start(|request| match request.number {
        0 => sends(response(429, JSON, &["Retry-After: 1"], "{}")),
        1 => sends(response(503, JSON, &["retry-after-ms: 300"], "{}")),
        _ => answers(request),
    });
    let gateway = Gateway::start(Config { llm_max_retries: 2, ..config(&upstream) }).await;
    let begun = Instant::now();
    let answer = gateway.client().generate(ask("gas?")).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.served.unwrap().attempts), ("about gas?", 3));
    assert!(begun.elapsed() >= Duration::from_millis(1_300), "{:?}", begun.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let endless = vec![Act::Send(head(JSON)), Act::Repeat(vec![b' '; 1 << 16], Duration::ZERO)];
    let upstream = Faulty::start(move |_| endless.clone());
    let gateway = Gateway::start(Config { llm_timeout: LONG, ..config(&upstream) }).await;
    let error = gateway.client().generate(ask("gas?")).await.unwrap_err();
    assert_eq!((error.code(), upstream.requests()), (Code::Internal, 1), "{error}");
    leaves_nothing(&gateway, &upstream, "is endless").await;
    gateway.stop().await;
}

fn stream_faults() -> Vec<(Case, &'static str)> {
    let begun = || Act::Send([head(EVENTS), event("one ")].concat());
    let broken = |last: &[u8]| sends([&head(EVENTS), &event("one "), last].concat());
    vec![
        (
            ("hangs before the first piece", vec![Act::Send(head(EVENTS)), Act::Hang], Code::Unavailable, 2),
            "",
        ),
        (
            (
                "resets before the first piece",
                vec![Act::Send(head(EVENTS)), Act::Reset],
                Code::Unavailable,
                2,
            ),
            "",
        ),
        (("says nothing", sends(head(EVENTS)), Code::Internal, 1), ""),
        (("answers a page", sends(response(200, "text/html", &[], "<html>")), Code::Internal, 1), ""),
        (("hangs after a piece", vec![begun(), Act::Hang], Code::Unavailable, 1), "one "),
        (("resets after a piece", vec![begun(), Act::Reset], Code::Unavailable, 1), "one "),
        (("ends without a reason", vec![begun()], Code::Internal, 1), "one "),
        (("sends garbage after a piece", broken(b"data: {\"cho\n\n"), Code::Internal, 1), "one "),
        (("fails in mid-stream", broken(b"data: {\"error\": {}}\n\n"), Code::Internal, 1), "one "),
    ]
}

#[tokio::test]
async fn a_cut_stream_fails_is_not_repeated_once_it_was_shown_and_leaves_nothing() {
    for ((name, acts, code, attempts), shown) in stream_faults() {
        let upstream = Faulty::start(move |_| acts.clone());
        let gateway = Gateway::start(config(&upstream)).await;
        let begun = Instant::now();
        let (text, ended) = read(&gateway, "gas?").await;
        println!(
            "{name}: {code:?} after {} attempts and {} ms",
            upstream.requests(),
            begun.elapsed().as_millis()
        );
        assert_eq!((ended.unwrap_err().code(), upstream.requests()), (code, attempts), "{name}");
        // What came with the chunk that broke may or may not have been shown.
        assert!(shown.starts_with(&text), "{name}: {text}");
        assert_eq!(gateway.stats().await.entries, 0, "{name}: nothing is cached");
        leaves_nothing(&gateway, &upstream, name).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_only_keeps_alive_ends_with_the_callers_deadline() {
    let drip = vec![Act::Send(head(EVENTS)), Act::Repeat(b": ping\n\n".to_vec(), TIMEOUT / 10)];
    let upstream = Faulty::start(move |_| drip.clone());
    let gateway = Gateway::start(config(&upstream)).await;
    let deadline = rpc::Deadline::after(3 * TIMEOUT);
    let (text, ended) = deadline.scope(read(&gateway, "gas?")).await;
    let code = ended.unwrap_err().code();
    assert_eq!((text.as_str(), code, upstream.requests()), ("", Code::DeadlineExceeded, 1));
    leaves_nothing(&gateway, &upstream, "keeps alive").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_goes_on_for_longer_than_a_call_may_take_unless_the_caller_says_less() {
    let pieces = vec![Act::Send(head(EVENTS)), Act::Repeat(event("x"), TIMEOUT / 20)];
    let upstream = Faulty::start(move |_| pieces.clone());
    let mut config = config(&upstream);
    (config.host.request_timeout, config.llm_timeout) = (WHOLE, WHOLE);
    let gateway = Gateway::start(config).await;
    let body = json!({"messages": [{"role": "user", "content": "gas?"}], "stream": true});
    let open = async |given: Option<&str>| {
        let request = reqwest::Client::new().post(format!("{}/chat/completions", gateway.chat_url()));
        let request = request.header("x-athena-coalesce", "off").json(&body);
        given.into_iter().fold(request, |request, given| request.header("grpc-timeout", given)).send().await
    };
    let mut response = open(None).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < WHOLE * 3 / 2 {
        let events = response.chunk().await.unwrap().expect("the stream has not ended");
        assert!(!String::from_utf8_lossy(&events).contains("error"));
    }
    drop(response);
    let cut = open(Some("100m")).await.unwrap().text().await.unwrap();
    assert!(cut.contains("error") && !cut.contains("[DONE]"), "{cut}");
    leaves_nothing(&gateway, &upstream, "goes on").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_storm_of_failures_opens_the_breaker_and_a_well_upstream_closes_it() {
    let upstream = Faulty::start(|_| sends(response(500, JSON, &[], "{}")));
    let gateway = Gateway::start(Config { llm_max_retries: 0, ..config(&upstream) }).await;
    let begun = Instant::now();
    for call in 0..50 {
        let error = gateway.client().generate(ask(&format!("gas {call}?"))).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        if call >= 5 && begun.elapsed() < Duration::from_millis(500) {
            let details = error.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "UPSTREAM_RESTING");
            assert!(details.retry_info().unwrap().retry_delay.unwrap() <= Duration::from_millis(1_200));
        }
    }
    // Five to open it, and one to try for each second or so that the calls took.
    let allowed = 5 + begun.elapsed().as_secs() * 2;
    println!("50 calls sent {} requests within {} ms", upstream.requests(), begun.elapsed().as_millis());
    assert!((5..=allowed).contains(&upstream.requests()), "{}", upstream.requests());
    upstream.change(answers);
    let healed = async { while gateway.client().generate(ask("apr?")).await.is_err() {} };
    tokio::time::timeout(LONG, healed).await.unwrap();
    leaves_nothing(&gateway, &upstream, "is well again").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_callers_own_faults_do_not_open_the_breaker() {
    let upstream = Faulty::start(|request| match request.words() {
        "patience" => vec![Act::Hang],
        "key" => sends(response(401, JSON, &[], "{}")),
        "load" => sends(response(429, JSON, &["retry-after: 3600"], "{}")),
        "wrong" => sends(response(400, JSON, &[], "{}")),
        _ => answers(request),
    });
    let gateway = Gateway::start(Config { llm_timeout: LONG, ..config(&upstream) }).await;
    for word in ["key", "load", "wrong", "patience"] {
        for _ in 0..6 {
            gateway.hasty(TIMEOUT).generate(ask(word)).await.unwrap_err();
        }
    }
    leaves_nothing(&gateway, &upstream, "was never at fault").await;
    gateway.stop().await;
}

/// What a faulty upstream does, by a number.
fn fault(kind: u8, request: &Request) -> Vec<Act> {
    let mut answer = answers(request);
    let Some(Act::Send(bytes)) = answer.first_mut() else { return answer };
    match kind {
        0 => return vec![Act::Reset],
        1 => bytes.truncate(bytes.len() / 2),
        2 => {
            bytes.truncate(bytes.len() * 3 / 4);
            answer.push(Act::Reset);
        }
        3 => return sends(response(500, JSON, &[], &completion("about something else"))),
        4 => return sends(response(429, JSON, &["retry-after-ms: 1"], &completion("about something else"))),
        5 => return sends(response(200, "text/html", &[], "about something else")),
        6 => return sends(b"HTTP/9 garbage\r\n\r\n".to_vec()),
        _ => {}
    }
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_what_the_upstream_said_to_this_very_request(
        faults in proptest::collection::vec(0_u8..12, 80),
        questions in proptest::collection::vec((0_u8..12, any::<bool>()), 24),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let kinds = faults.clone();
            let upstream = Faulty::start(move |request| {
                fault(kinds[usize::try_from(request.number).unwrap() % kinds.len()], request)
            });
            let gateway = Gateway::start(Config { llm_breaker_failures: 1_000, ..config(&upstream) }).await;
            let calls = questions.iter().map(|(question, is_streamed)| {
                let (words, gateway) = (format!("question {question}?"), &gateway);
                async move {
                    let answer = if *is_streamed {
                        let (text, ended) = read(gateway, &words).await;
                        ended.is_ok().then_some(text)
                    } else {
                        gateway.client().generate(ask(&words)).await.ok().map(|answer| answer.into_inner().text)
                    };
                    assert!(answer.as_ref().is_none_or(|text| *text == format!("about {words}")), "{words} {answer:?}");
                    answer.is_some()
                }
            });
            let answered = futures::future::join_all(calls).await;
            tokio::time::timeout(LONG, upstream.left()).await.unwrap();
            if faults.iter().all(|kind| *kind > 6) {
                assert!(answered.iter().all(|answered| *answered));
            }
            gateway.stop().await;
        });
    }
}
