//! Answers about close figures.

use std::time::Duration;

use contracts::llm::{self as wire, ServedBy, observation_result::Outcome};
use llm_gateway::Config;
use serde_json::json;
use testkit::upstream::{Reply, Script, Upstream};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, answer_to, asked, by, config_for};

/// Says of every observation which APR it has.
fn telling() -> Script {
    Script::function(|body| {
        let mut answer = answer_to(body);
        for (item, seen) in answer["items"].as_array_mut().unwrap().iter_mut().zip(asked(body)) {
            item["summary"] = json!(format!("apr {}", seen["values"]["apr"]));
        }
        Reply::json(&answer)
    })
}

fn pool(id: &str, apr: f64) -> wire::Observation {
    wire::Observation {
        id: id.into(),
        r#type: "pool".into(),
        subject: "WETH-USDC".into(),
        values: [("apr".to_owned(), apr)].into(),
        ..wire::Observation::default()
    }
}

fn within(tolerance: f64) -> Option<wire::Bands> {
    Some(wire::Bands { tolerance: Some(tolerance), ..wire::Bands::default() })
}

fn request(seen: wire::Observation, bands: Option<wire::Bands>) -> wire::AnalyzeRequest {
    wire::AnalyzeRequest { observations: vec![seen], bands, ..wire::AnalyzeRequest::default() }
}

/// Asks, and returns what answered, the summary, and what came of looking for close figures.
async fn ask(gateway: &Gateway, request: wire::AnalyzeRequest) -> (ServedBy, String, Option<wire::Banded>) {
    let response = gateway.client().analyze(request).await.unwrap().into_inner();
    let result = response.results.into_iter().next().unwrap();
    let Some(Outcome::Analysis(found)) = result.outcome else { panic!("no analysis") };
    (by(result.served.as_ref()), found.summary, result.banded)
}

#[tokio::test]
async fn without_being_asked_for_no_answer_about_other_figures_serves() {
    let upstream = Upstream::start(telling());
    let gateway = Gateway::before(&upstream).await;
    for apr in [25.0, 25.1] {
        let (by, summary, banded) = ask(&gateway, request(pool("a", apr), None)).await;
        assert_eq!((by, summary, banded), (ServedBy::Upstream, format!("apr {apr:?}"), None));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_about_close_figures_serves_and_says_what_it_is_about() {
    let upstream = Upstream::start(telling());
    let gateway = Gateway::before(&upstream).await;
    let (by, _, banded) = ask(&gateway, request(pool("a", 25.0), within(0.1))).await;
    assert_eq!(by, ServedBy::Upstream);
    assert_eq!(banded.unwrap().refusal, "no answer about this entity is known");
    gateway.hand.advance(Duration::from_secs(60));
    let response =
        gateway.client().analyze(request(pool("a", 27.0), within(0.1))).await.unwrap().into_inner();
    let result = &response.results[0];
    let served = result.served.as_ref().unwrap();
    assert_eq!((served.by(), response.upstream_calls), (ServedBy::Semantic, 0));
    assert_eq!((served.age.unwrap().seconds, served.cost_usd), (60, 0.0));
    assert!(served.saved_usd > 0.0);
    assert_eq!(result.banded.as_ref().unwrap().anchor, [("apr".to_owned(), 25.0)].into());
    let (_, summary, _) = ask(&gateway, request(pool("a", 27.4), within(0.1))).await;
    assert_eq!(summary, "apr 25.0");
    let (by, summary, banded) = ask(&gateway, request(pool("a", 250.0), within(1.0))).await;
    assert_eq!((by, summary.as_str()), (ServedBy::Upstream, "apr 250.0"));
    let banded = banded.unwrap();
    assert_eq!((banded.field.as_str(), banded.anchor.len()), ("apr", 0));
    assert!(banded.refusal.starts_with("`apr` is 250 and was 25: 900.0 % apart"), "{}", banded.refusal);
    assert_eq!(gateway.stats().await.served.unwrap().semantic, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn pools_of_one_name_and_tenants_of_one_pool_are_told_apart() {
    let upstream = Upstream::start(telling());
    let auth_tokens = config::Value::parse("first-token-0000=one:admin,second-token-000=two:admin").unwrap();
    let host = rpc::HostSettings { auth_tokens, ..Config::defaults().host };
    let gateway = Gateway::start(Config { host, ..config_for(&upstream) }).await;
    let served = async |token: &str, id: &str, apr: f64| {
        let asked = gateway.client_of(token).analyze(request(pool(id, apr), within(0.5))).await.unwrap();
        by(asked.into_inner().results[0].served.as_ref())
    };
    let (one, two) = ("first-token-0000", "second-token-000");
    assert_eq!(served(one, "a", 25.0).await, ServedBy::Upstream);
    assert_eq!(served(one, "b", 26.0).await, ServedBy::Upstream);
    assert_eq!(served(two, "a", 27.0).await, ServedBy::Upstream);
    assert_eq!(served(one, "a", 28.0).await, ServedBy::Semantic);
    let removed = gateway.admin(Some(one)).invalidate(wire::InvalidateRequest::default()).await.unwrap();
    assert_eq!(removed.into_inner().removed, 2);
    assert_eq!(served(two, "a", 28.0).await, ServedBy::Semantic);
    assert_eq!(served(one, "a", 28.0).await, ServedBy::Upstream, "what was removed serves nobody");
    gateway.stop().await;
}

#[tokio::test]
async fn a_setting_asks_for_all_requests_and_a_request_may_ask_otherwise() {
    let upstream = Upstream::start(telling());
    let gateway = Gateway::start(Config { llm_band_tolerance: 0.1, ..config_for(&upstream) }).await;
    ask(&gateway, request(pool("a", 25.0), None)).await;
    assert_eq!(ask(&gateway, request(pool("a", 26.0), None)).await.0, ServedBy::Semantic);
    assert_eq!(ask(&gateway, request(pool("a", 26.0), within(0.0))).await.0, ServedBy::Upstream);
    let fields = [("apr".to_owned(), wire::Tolerance { relative: 0.0, absolute: 10.0 })].into();
    let bands = Some(wire::Bands { fields, ..wire::Bands::default() });
    assert_eq!(ask(&gateway, request(pool("a", 35.0), bands)).await.0, ServedBy::Semantic);
    gateway.stop().await;
}

#[tokio::test]
async fn the_use_of_the_cache_is_the_callers_choice() {
    let upstream = Upstream::start(telling());
    let gateway = Gateway::before(&upstream).await;
    let with = |apr: f64, cache: wire::CacheControl, bands: Option<wire::Bands>| wire::AnalyzeRequest {
        cache: Some(cache),
        ..request(pool("a", apr), bands)
    };
    let unstored = wire::CacheControl { skip_store: true, ..wire::CacheControl::default() };
    ask(&gateway, with(25.0, unstored, within(0.1))).await;
    let plain = wire::CacheControl::default();
    assert_eq!(ask(&gateway, with(26.0, plain, within(0.1))).await.0, ServedBy::Upstream);
    gateway.hand.advance(Duration::from_secs(10));
    let unread = wire::CacheControl { skip_read: true, ..wire::CacheControl::default() };
    let (by, _, banded) = ask(&gateway, with(27.0, unread, within(0.1))).await;
    assert_eq!((by, banded), (ServedBy::Upstream, None));
    gateway.hand.advance(Duration::from_secs(10));
    let young = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    let bands = Some(wire::Bands { tolerance: Some(0.1), max_age: young(9), ..wire::Bands::default() });
    let (by, _, banded) = ask(&gateway, with(27.1, plain, bands)).await;
    assert_eq!(by, ServedBy::Upstream);
    assert!(banded.unwrap().refusal.ends_with("older than allowed"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_tolerance_is_named_by_its_path() {
    let gateway = Gateway::alone().await;
    for wrong in [-0.1, 1.5, f64::NAN] {
        let fields = [("apr".to_owned(), wire::Tolerance { relative: wrong, absolute: 0.0 })].into();
        let bands = Some(wire::Bands { tolerance: Some(wrong), fields, ..wire::Bands::default() });
        let status = gateway.client().analyze(request(pool("a", 25.0), bands)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let named = status.get_details_bad_request().unwrap().field_violations;
        let named: Vec<_> = named.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["bands.tolerance", r#"bands.fields["apr"].relative"#]);
    }
    gateway.stop().await;
}
