//! With a real model behind the gateway, a whole cycle asks it once.

use contracts::agent::Completeness;
use serde_json::{Value, json};
use testkit::upstream::{Reply, Script, Upstream};
use tests::House;

/// Returns the parts of a merged question.
pub(crate) fn parts(request: &Value) -> Vec<Value> {
    let words = request["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let question: Value = serde_json::from_str(words).unwrap();
    question["parts"].as_array().unwrap().clone()
}

/// Returns the observations of a part.
pub(crate) fn observations(part: &Value) -> Vec<Value> {
    let groups = part["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["observations"].as_array().unwrap().clone()).collect()
}

/// Answers a merged question: one item for every observation it holds.
pub(crate) fn analysed(request: &Value) -> Reply {
    let parts = parts(request);
    let seen = parts.iter().flat_map(observations);
    let item = |one: Value| json!({ "tag": one["tag"], "check": one["check"], "summary": "as ever", "confidence": 0.5, "salience": 0.5 });
    let items: Vec<Value> = seen.map(item).collect();
    let assessed = |part: &Value| {
        json!({
            "part": part["part"],
            "overall_assessment": "all calm",
            "correlations": [],
            "focus_areas": [],
            "risk_warnings": [],
        })
    };
    let assessments: Vec<Value> = parts.iter().map(assessed).collect();
    Reply::json(&json!({ "items": items, "assessments": assessments })).counted(4_000, 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_asks_the_model_once_for_all_it_saw() {
    let upstream = Upstream::start(Script::function(analysed));
    let settings = [
        ("llm_upstream_url", upstream.url()),
        ("llm_model", "small".to_owned()),
        ("llm_price_input_per_mtok", "1".to_owned()),
        ("llm_price_output_per_mtok", "2".to_owned()),
        // Room for all in one call.
        ("llm_merge_max_items", "1000".to_owned()),
        ("llm_merge_max_tokens", "1000000".to_owned()),
    ];
    let house = House::with(settings).await.unwrap();
    let cycle = house.cycle().await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Complete, "{:#?}", cycle.stages);
    assert_eq!((upstream.calls(), cycle.upstream_calls), (1, 1));
    assert!(cycle.served["merged"] >= 2, "{:?}", cycle.served);
    assert_eq!(cycle.assessment, "all calm");
    assert!(cycle.model.ends_with("small"), "{}", cycle.model);
    assert!((cycle.cost_usd - 0.006).abs() < 1e-9, "{}", cycle.cost_usd);
    assert!(cycle.saved_usd > 0.0, "{}", cycle.saved_usd);
    house.close().await.unwrap();
}
