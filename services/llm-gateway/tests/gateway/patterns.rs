//! Templates that answer, and what came of it.

use std::time::Duration;

use contracts::llm::{self as wire, report_outcome_request::Which};
use llm_gateway::Config;
use testkit::upstream::Upstream;
use tonic::Code;

use crate::harness::{Gateway, analyst, by, config_for};

/// A day of June 2025, in seconds since 1970.
const FIRST_DAY: i64 = 1_748_779_200;

fn gas(day: i64, price: f64) -> wire::Observation {
    wire::Observation {
        id: "gas".into(),
        r#type: "gas".into(),
        subject: "Ethereum".into(),
        time: Some(prost_types::Timestamp { seconds: FIRST_DAY + day * 86_400, nanos: 0 }),
        values: [("gas_price".to_owned(), price), ("avg_gas".to_owned(), 20.0)].into(),
        ..wire::Observation::default()
    }
}

fn pool(day: i64, apr: f64) -> wire::Observation {
    wire::Observation {
        id: "pool".into(),
        r#type: "pool".into(),
        values: [("apr".to_owned(), apr), ("tvl".to_owned(), 1e6)].into(),
        ..gas(day, 0.0)
    }
}

fn about(observation: wire::Observation) -> wire::AnalyzeRequest {
    wire::AnalyzeRequest { observations: vec![observation], ..wire::AnalyzeRequest::default() }
}

async fn shown(gateway: &Gateway, observation: wire::Observation) -> wire::ObservationResult {
    gateway.client().analyze(about(observation)).await.unwrap().into_inner().results.remove(0)
}

async fn listed(gateway: &Gateway, name: &str) -> wire::Pattern {
    let all = gateway.patterns().list(wire::ListRequest {}).await.unwrap().into_inner().patterns;
    all.into_iter().find(|pattern| pattern.name == name).unwrap()
}

fn outcome(which: Which, came_true: bool) -> wire::ReportOutcomeRequest {
    wire::ReportOutcomeRequest { which: Some(which), came_true }
}

#[tokio::test]
async fn an_answer_names_its_match_and_its_outcome_is_told_once() {
    let gateway = Gateway::alone().await;
    let served = shown(&gateway, gas(0, 50.0)).await.served.unwrap();
    assert_eq!((served.pattern.as_str(), served.match_id.len()), ("gas_high", 32));
    assert_eq!(shown(&gateway, gas(0, 51.0)).await.served.unwrap().match_id, served.match_id, "the same day");
    let mut client = gateway.patterns();
    let name = wire::MatchName {
        pattern: "gas_high".into(),
        r#type: "gas".into(),
        subject: "Ethereum".into(),
        observation_id: "gas".into(),
        time: gas(0, 0.0).time,
    };
    let told = client.report_outcome(outcome(Which::Match(name.clone()), true)).await.unwrap().into_inner();
    assert_eq!(
        told,
        wire::ReportOutcomeResponse { recorded: true, came_true: true, match_id: served.match_id.clone() }
    );
    let again =
        client.report_outcome(outcome(Which::MatchId(served.match_id), false)).await.unwrap().into_inner();
    assert_eq!((again.recorded, again.came_true), (false, true));
    let pattern = listed(&gateway, "gas_high").await;
    assert_eq!((pattern.matches, pattern.matched_days, pattern.outcomes, pattern.came_true), (2, 1, 1, 1));
    assert!(pattern.posterior_mean > 0.745 && pattern.error_bound < pattern.max_error);
    let other = wire::MatchName { subject: "Base".into(), ..name };
    let unknown = client.report_outcome(outcome(Which::Match(other), true)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let text = gateway.telemetry.prometheus_text();
    assert!(
        text.contains(r#"athena_llm_pattern_outcomes_total{came_true="true",pattern="gas_high"} 1"#),
        "{text}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_spike_is_seen_against_the_days_before_and_judged_by_the_next() {
    let gateway = Gateway::alone().await;
    for day in 0..7 {
        assert_ne!(by(shown(&gateway, pool(day, 10.0)).await.served.as_ref()), wire::ServedBy::Pattern);
    }
    let dry = wire::EvaluateRequest { observation: Some(pool(7, 40.0)) };
    let dry = gateway.patterns().evaluate(dry).await.unwrap().into_inner();
    let spike = &dry.evaluations[2];
    assert_eq!(
        (dry.winner.as_str(), spike.reads["apr_mean_30d"], spike.clauses.len()),
        ("apr_spike", 10.0, 5)
    );
    assert!(spike.answer.contains("40 %") && spike.answer.contains("10 %"), "{}", spike.answer);
    let result = shown(&gateway, pool(7, 40.0)).await;
    let Some(wire::observation_result::Outcome::Analysis(analysis)) = result.outcome else {
        panic!("no analysis")
    };
    assert_eq!((analysis.summary, analysis.confidence), (spike.answer.clone(), spike.confidence));
    shown(&gateway, pool(8, 41.0)).await;
    let pattern = listed(&gateway, "apr_spike").await;
    assert_eq!((pattern.outcomes, pattern.came_true), (1, 0));
    assert!(pattern.score.unwrap().learned > 0 && pattern.brier.unwrap() > 0.0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_one_tenant_tells_changes_nothing_for_another() {
    let mut config = Config::defaults();
    config.host.auth_tokens = config::Value::parse("one=acme:agent,two=acme:admin,three=zeta:agent").unwrap();
    let gateway = Gateway::start(config).await;
    for day in 0..30 {
        let response =
            gateway.client_of("one").analyze(about(gas(day * 3, 50.0))).await.unwrap().into_inner();
        let id = response.results[0].served.as_ref().unwrap().match_id.clone();
        if id.is_empty() {
            assert!(day >= 10, "retired on day {day}");
            break;
        }
        let unknown =
            gateway.patterns_of("three").report_outcome(outcome(Which::MatchId(id.clone()), false)).await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
        gateway.patterns_of("one").report_outcome(outcome(Which::MatchId(id), false)).await.unwrap();
    }
    let gas_high = async |token: &str| {
        let all = gateway.patterns_of(token).list(wire::ListRequest {}).await.unwrap().into_inner().patterns;
        all.into_iter().next().unwrap()
    };
    assert!(gas_high("one").await.retired.contains("max_error"));
    let other = gas_high("three").await;
    assert_eq!((other.retired.as_str(), other.outcomes, other.matches), ("", 0, 0));
    let wanted = wire::ReinstateRequest { pattern: "gas_high".into() };
    let refused = gateway.patterns_of("one").reinstate(wanted.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    gateway.patterns_of("two").reinstate(wanted).await.unwrap();
    assert_eq!(gas_high("one").await.retired, "");
    gateway.stop().await;
}

#[tokio::test]
async fn a_share_of_answers_is_compared_with_the_model_and_served_by_the_template() {
    let upstream = Upstream::start(analyst());
    let gateway = Gateway::start(Config { llm_pattern_verify: 1.0, ..config_for(&upstream) }).await;
    let result = shown(&gateway, gas(0, 50.0)).await;
    assert_eq!(by(result.served.as_ref()), wire::ServedBy::Pattern);
    let compared = async {
        loop {
            let pattern = listed(&gateway, "gas_high").await;
            if pattern.compared > 0 {
                return pattern;
            }
        }
    };
    let pattern = tokio::time::timeout(Duration::from_secs(20), compared).await.unwrap();
    assert_eq!((pattern.compared, pattern.matches), (1, 1));
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_templates_learned_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config { llm_dir: Some(folder.path().to_owned()), ..Config::defaults() };
    let gateway = Gateway::start(config()).await;
    let id = shown(&gateway, gas(0, 50.0)).await.served.unwrap().match_id;
    for day in 0..7 {
        shown(&gateway, pool(day, 10.0)).await;
    }
    gateway.patterns().report_outcome(outcome(Which::MatchId(id.clone()), true)).await.unwrap();
    gateway.stop().await;
    let gateway = Gateway::start(config()).await;
    let pattern = listed(&gateway, "gas_high").await;
    assert_eq!((pattern.matches, pattern.outcomes), (1, 1));
    let again =
        gateway.patterns().report_outcome(outcome(Which::MatchId(id), false)).await.unwrap().into_inner();
    assert!(!again.recorded && again.came_true);
    let spike = shown(&gateway, pool(7, 40.0)).await.served.unwrap();
    assert_eq!(spike.pattern, "apr_spike", "the days before are known");
    gateway.stop().await;
}
