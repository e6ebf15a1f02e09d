//! Conversations answered piece by piece.

use std::time::Duration;

use contracts::llm::{self as wire, generate_stream_response::Part};
use rpc::Channel;
use testkit::upstream::{Reply, Script, Upstream};
use tonic::{Code, Status};

use crate::harness::{Gateway, ask, by};

type Client = wire::llm_gateway_service_client::LlmGatewayServiceClient<Channel>;

fn ask_streaming(words: &str) -> wire::GenerateStreamRequest {
    wire::GenerateStreamRequest { messages: ask(words).messages, ..wire::GenerateStreamRequest::default() }
}

async fn read(mut client: Client, words: &str) -> Result<(Vec<String>, wire::StreamEnd), Status> {
    let mut stream = client.generate_stream(ask_streaming(words)).await?.into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.part.unwrap() {
            Part::Text(text) => pieces.push(text),
            Part::ToolCall(_) | Part::Extra(_) => panic!("nothing but words was sent"),
            Part::End(end) => {
                assert!(stream.message().await?.is_none(), "the end is the last message");
                return Ok((pieces, *end));
            }
        }
    }
    panic!("the stream ended without an end")
}

#[tokio::test]
async fn pieces_come_as_the_upstream_sends_them_and_the_end_says_how() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let gateway = Gateway::before(&upstream).await;
    let (pieces, end) = read(gateway.client(), "?").await.unwrap();
    assert_eq!(pieces, ["gas ", "is ", "low"]);
    assert_eq!(end.finish_reason(), wire::FinishReason::Stop);
    let served = end.served.unwrap();
    assert_eq!(served.by(), wire::ServedBy::Upstream);
    assert!(!served.usage.unwrap().estimated);
    gateway.stop().await;
}

#[tokio::test]
async fn a_streamed_answer_is_replayed_from_the_cache() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let gateway = Gateway::before(&upstream).await;
    read(gateway.client(), "?").await.unwrap();
    let (pieces, end) = read(gateway.client(), "?").await.unwrap();
    assert_eq!(pieces, ["gas is low"]);
    assert_eq!(by(end.served.as_ref()), wire::ServedBy::Exact);
    let whole = gateway.client().generate(ask("?")).await.unwrap().into_inner();
    assert_eq!((whole.text.as_str(), by(whole.served.as_ref())), ("gas is low", wire::ServedBy::Exact));
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_broken_stream_fails_and_is_not_cached() {
    let upstream = Upstream::start(Script::function(|_| Reply {
        cut_after: Some(2),
        ..Reply::text("one two three four")
    }));
    let gateway = Gateway::before(&upstream).await;
    assert_eq!(read(gateway.client(), "?").await.unwrap_err().code(), Code::Unavailable);
    upstream.change(Script::Fixed("whole".into()));
    let (pieces, end) = read(gateway.client(), "?").await.unwrap();
    assert_eq!((pieces, by(end.served.as_ref())), (vec!["whole".to_owned()], wire::ServedBy::Upstream));
    assert_eq!(gateway.stats().await.refused, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_its_reader_leaves_is_taken_over_by_who_waits() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let mut client = gateway.client();
    let leaving = client.generate_stream(ask_streaming("gas?")).await.unwrap();
    upstream.arrived(1).await;
    let mut following = gateway.client();
    let follower = gateway.telemetry.spawn(async move { following.generate(ask("gas?")).await });
    drop(leaving);
    upstream.arrived(2).await;
    drop(hold);
    assert_eq!(follower.await.unwrap().unwrap().into_inner().text, "gas?");
    gateway.stop().await;
}

#[tokio::test]
async fn streams_of_one_question_share_one_upstream_call() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = gateway.client();
        reading.spawn(async move { read(client, "?").await.unwrap().0.concat() });
    }
    upstream.arrived(1).await;
    drop(hold);
    assert!(reading.join_all().await.iter().all(|text| text == "gas is low"));
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_without_deadline_left_fails_with_its_code() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let _hold = upstream.hold();
    let deadline = rpc::Deadline::after(Duration::from_millis(100));
    let error = deadline.scope(read(gateway.client(), "?")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    gateway.stop().await;
}
