//! Questions that ask the same in other words.

use contracts::llm as wire;
use llm_gateway::{Config, semantic::Mode};
use testkit::upstream::{Reply, Script, Upstream};

use crate::harness::{Gateway, ask, by, config_for};

const STORED: &str = "What is the best way to learn to play the piano?";
const SAME: &str = "What is the best way to learn to play piano?";
const OTHER: &str = "What is the best way to learn to play the guitar?";

async fn before(upstream: &Upstream, change: impl FnOnce(&mut Config)) -> Gateway {
    let mut config = config_for(upstream);
    config.llm_semantic = Mode::On;
    change(&mut config);
    Gateway::start(config).await
}

async fn answered(gateway: &Gateway, request: wire::GenerateRequest) -> (String, wire::Served) {
    let answer = gateway.client().generate(request).await.unwrap().into_inner();
    (answer.text, answer.served.unwrap())
}

/// An upstream that answers each call by its number.
fn counting() -> Script {
    let calls = std::sync::atomic::AtomicU32::new(0);
    Script::function(move |_| {
        Reply::text(format!("answer {}", calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    })
}

#[tokio::test]
async fn an_answer_serves_whoever_asks_the_same_and_says_so() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |_| {}).await;
    let (first, served) = answered(&gateway, ask(STORED)).await;
    assert_eq!(by(Some(&served)), wire::ServedBy::Upstream);
    let (again, served_again) = answered(&gateway, ask(SAME)).await;
    assert_eq!((again, by(Some(&served_again))), (first, wire::ServedBy::Semantic));
    let nearest = served_again.nearest.unwrap();
    assert!(nearest.served && nearest.similarity > 0.8 && nearest.score.unwrap() >= nearest.threshold);
    assert_eq!((nearest.answer_id, &served_again.answer_id), (served.answer_id.clone(), &served.answer_id));
    assert!(served_again.saved_usd > 0.0 && served_again.cost_usd == 0.0);
    assert!(served_again.phases.unwrap().semantic.is_some());
    assert_eq!((upstream.calls(), gateway.stats().await.served.unwrap().semantic), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_miss_says_what_stood_in_the_way() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |_| {}).await;
    answered(&gateway, ask("Is an APR of 25 normal for a pool?")).await;
    let (_, served) = answered(&gateway, ask("Is an APR of 250 normal for a pool?")).await;
    let nearest = served.nearest.unwrap();
    assert_eq!(
        (served.by, nearest.served, nearest.guard.as_str()),
        (wire::ServedBy::Upstream.into(), false, "number")
    );
    assert_eq!((nearest.stored.as_str(), nearest.asked.as_str()), ("25", "250"));
    answered(&gateway, ask(STORED)).await;
    let (_, served) = answered(&gateway, ask(OTHER)).await;
    assert_eq!(by(Some(&served)), wire::ServedBy::Upstream);
    gateway.stop().await;
}

#[tokio::test]
async fn whatever_else_differs_keeps_questions_apart() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |_| {}).await;
    answered(&gateway, ask(STORED)).await;
    let turn = |role: wire::Role, words: &str| wire::Message {
        role: role.into(),
        content: words.into(),
        ..wire::Message::default()
    };
    let with = |change: &dyn Fn(&mut wire::GenerateRequest)| {
        let mut request = ask(SAME);
        change(&mut request);
        request
    };
    let tool = wire::Tool { name: "f".into(), ..wire::Tool::default() };
    let apart = [
        with(&|request| request.messages.insert(0, turn(wire::Role::System, "be brief"))),
        with(&|request| {
            request.messages.insert(0, turn(wire::Role::Assistant, "hello"));
            request.messages.insert(0, turn(wire::Role::User, "hi"));
        }),
        with(&|request| request.temperature = Some(0.5)),
        with(&|request| request.tools = vec![tool.clone()]),
        with(&|request| request.model = "openai/large".into()),
        with(&|request| request.parameters = r#"{"reasoning_effort": "low"}"#.into()),
    ];
    for (place, request) in apart.into_iter().enumerate() {
        let (_, served) = answered(&gateway, request).await;
        assert!(by(Some(&served)) == wire::ServedBy::Upstream && served.nearest.is_none(), "{place}");
    }
    assert_eq!(upstream.calls(), 7);
    gateway.stop().await;
}

#[tokio::test]
async fn it_is_off_until_asked_for_and_a_request_has_the_last_word() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |config| config.llm_semantic = Mode::Off).await;
    let asked = |words: &str, mode: wire::SemanticMode| wire::GenerateRequest {
        cache: Some(wire::CacheControl { semantic: mode.into(), ..wire::CacheControl::default() }),
        ..ask(words)
    };
    answered(&gateway, asked(STORED, wire::SemanticMode::On)).await;
    let (_, off) = answered(&gateway, ask("What's the best way to learn to play piano?")).await;
    assert!(off.nearest.is_none());
    let (_, on) = answered(&gateway, asked(SAME, wire::SemanticMode::On)).await;
    assert_eq!(by(Some(&on)), wire::ServedBy::Semantic);
    gateway.stop().await;
}

#[tokio::test]
async fn a_shadow_serves_nothing_and_counts_whether_the_model_agreed() {
    let upstream = Upstream::start(Script::Fixed("practise every day".into()));
    let gateway = before(&upstream, |config| config.llm_semantic = Mode::Shadow).await;
    answered(&gateway, ask(STORED)).await;
    let (_, served) = answered(&gateway, ask(SAME)).await;
    assert_eq!(by(Some(&served)), wire::ServedBy::Upstream);
    assert!(!served.nearest.unwrap().served);
    upstream.change(Script::Fixed("never on 7 days in a row".into()));
    answered(&gateway, ask("What is a best way to learn to play piano?")).await;
    // The comparison runs apart from the call.
    let counted = loop {
        let semantic = gateway.stats().await.semantic.unwrap();
        if semantic.agreed + semantic.disagreed == 2 {
            break semantic;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((counted.agreed, counted.disagreed, counted.served, upstream.calls()), (1, 1, 0, 3));
    gateway.stop().await;
}

#[tokio::test]
async fn a_false_hit_is_removed_by_its_name() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |_| {}).await;
    let (_, served) = answered(&gateway, ask(STORED)).await;
    let wrong = wire::InvalidateRequest { answer_id: "x".repeat(32), ..wire::InvalidateRequest::default() };
    assert_eq!(gateway.admin(None).invalidate(wrong).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let condemned =
        wire::InvalidateRequest { answer_id: served.answer_id, ..wire::InvalidateRequest::default() };
    let removed = gateway.admin(None).invalidate(condemned).await.unwrap().into_inner().removed;
    assert_eq!(removed, 1);
    let (_, again) = answered(&gateway, ask(SAME)).await;
    assert!(by(Some(&again)) == wire::ServedBy::Upstream && again.nearest.is_none());
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_verifier_does_not_affirm_is_not_served() {
    let upstream = Upstream::start(Script::function(|body| {
        let asks = body["messages"][0]["role"] == "system";
        Reply::text(if asks { "No." } else { "practise" })
    }));
    let gateway =
        before(&upstream, |config| config.llm_semantic_verifier = Some("openai/judge".into())).await;
    answered(&gateway, ask(STORED)).await;
    let (_, refused) = answered(&gateway, ask(SAME)).await;
    assert_eq!(
        (refused.by, refused.nearest.unwrap().guard.as_str()),
        (wire::ServedBy::Upstream.into(), "verifier")
    );
    upstream.change(Script::function(|body| {
        let asks = body["messages"][0]["role"] == "system";
        Reply::text(if asks { "Yes" } else { "practise" })
    }));
    let (_, affirmed) = answered(&gateway, ask("What is a best way to learn to play piano?")).await;
    assert_eq!(by(Some(&affirmed)), wire::ServedBy::Semantic);
    assert!(affirmed.cost_usd > 0.0 && affirmed.usage.unwrap().output_tokens > 0, "the verifier was asked");
    assert!(refused.cost_usd > affirmed.cost_usd, "the verifier and the model were");
    // By estimate some 0.0002 USD for an answer and 0.0002 for the verifier.
    let limited = |words: &str, usd| wire::GenerateRequest {
        max_output_tokens: Some(100),
        max_cost_usd: Some(usd),
        ..ask(words)
    };
    answered(&gateway, limited(STORED, 1.0)).await;
    let before = upstream.calls();
    let (_, tight) = answered(&gateway, limited(SAME, 0.0003)).await;
    let guard = tight.nearest.as_ref().map(|near| near.guard.as_str());
    assert_eq!((by(Some(&tight)), guard), (wire::ServedBy::Upstream, Some("verifier")));
    assert_eq!(upstream.calls(), before + 1, "both would be too dear, and the answer alone is not");
    let (_, roomy) = answered(&gateway, limited("What is a best way to learn to play piano?", 0.001)).await;
    assert_eq!((by(Some(&roomy)), upstream.calls()), (wire::ServedBy::Semantic, before + 2));
    gateway.stop().await;
}

#[tokio::test]
async fn tenants_are_never_compared() {
    let upstream = Upstream::start(counting());
    let gateway = before(&upstream, |config| {
        config.host.auth_tokens = config::Value::parse("secret-a=a:agent,secret-b=b:agent").unwrap();
    })
    .await;
    gateway.client_of("secret-a").generate(ask(STORED)).await.unwrap();
    let answer = gateway.client_of("secret-b").generate(ask(SAME)).await.unwrap().into_inner();
    let served = answer.served.unwrap();
    assert!(by(Some(&served)) == wire::ServedBy::Upstream && served.nearest.is_none());
    gateway.stop().await;
}
