//! Administration of the cache, and the templates.

use contracts::llm as wire;
use llm_gateway::{Config, Error, bind};
use telemetry::Telemetry;
use tonic::Code;

use crate::harness::{Gateway, ask, by, pool};

#[tokio::test]
async fn the_cache_is_shown_resized_and_emptied() {
    let gateway = Gateway::alone().await;
    for words in ["1 2", "3 4", "5 6"] {
        gateway.client().generate(ask(words)).await.unwrap();
    }
    let stats = gateway.stats().await;
    assert_eq!((stats.entries, stats.capacity, stats.ttl.unwrap().seconds), (3, 1_000, 86_400));
    assert_eq!(stats.served.unwrap().upstream, 3);
    let mut admin = gateway.admin(None);
    let resized = admin.resize(wire::ResizeRequest { capacity: 50 }).await.unwrap().into_inner();
    assert_eq!((resized.previous_capacity, resized.capacity), (1_000, 50));
    assert_eq!(gateway.stats().await.capacity, 50);
    let other =
        wire::InvalidateRequest { model: "openai/other".into(), ..wire::InvalidateRequest::default() };
    assert_eq!(admin.invalidate(other).await.unwrap().into_inner().removed, 0);
    let every = wire::InvalidateRequest::default();
    assert_eq!(admin.invalidate(every).await.unwrap().into_inner().removed, 3);
    let answer = gateway.client().generate(ask("1 2")).await.unwrap().into_inner();
    assert_eq!(by(answer.served.as_ref()), wire::ServedBy::Upstream);
    let wrong = admin.resize(wire::ResizeRequest { capacity: 0 }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_without_a_cache_keeps_nothing() {
    let gateway = Gateway::start(Config { llm_cache_size: 0, ..Config::defaults() }).await;
    for _ in 0..2 {
        let answer = gateway.client().generate(ask("1 2")).await.unwrap().into_inner();
        assert_eq!(by(answer.served.as_ref()), wire::ServedBy::Upstream);
    }
    let stats = gateway.stats().await;
    assert_eq!((stats.capacity, stats.entries, stats.bytes, stats.evictions), (0, 0, 0, 0));
    assert_eq!(stats.forecast, Some(wire::CacheForecast::default()));
    gateway.stop().await;
}

#[tokio::test]
async fn the_curve_says_what_another_size_would_bring_and_the_cache_follows_it() {
    let config =
        Config { llm_cache_size: 200, llm_cache_min_size: 50, llm_cache_max_size: 400, ..Config::defaults() };
    let gateway = Gateway::start(config).await;
    let fresh = gateway.stats().await.forecast.unwrap();
    assert_eq!((fresh.reads, fresh.sampling_rate, fresh.auto_resize), (0.0, 1.0, true));
    // Twenty questions again and again: the least size answers them all.
    for number in 0..4_700 {
        gateway.client().generate(ask(&format!("1 {}", number % 20))).await.unwrap();
    }
    let stats = gateway.stats().await;
    let forecast = stats.forecast.clone().unwrap();
    let ends = [forecast.curve.first(), forecast.curve.last()].map(|point| point.unwrap().size);
    assert_eq!(ends, [50, 400]);
    assert!(forecast.curve.iter().all(|point| point.hit_ratio > 0.98), "{forecast:?}");
    assert!(forecast.ttls.iter().any(|point| point.ttl.unwrap().seconds == 86_400));
    let resize = stats.last_resize.clone().unwrap();
    assert_eq!((resize.previous_capacity, resize.capacity, &*resize.reason), (200, 50, "spare"));
    assert_eq!((stats.capacity, stats.resizes, stats.entries), (50, 1, 20));
    assert!(stats.bytes > 20 * 256 && stats.bytes < stats.max_bytes, "{stats:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn administration_needs_the_role() {
    let mut config = Config::defaults();
    config.host.auth_tokens = config::Value::parse("one=acme:agent,two=acme:admin").unwrap();
    let gateway = Gateway::start(config).await;
    let refused = gateway.admin(Some("one")).get_stats(wire::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    gateway.admin(Some("two")).get_stats(wire::GetStatsRequest {}).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn templates_are_listed_with_their_basis_and_count_their_answers() {
    let gateway = Gateway::alone().await;
    let mut young = pool(1);
    young.values.insert("pool_age_days".into(), 0.5);
    let request =
        wire::AnalyzeRequest { observations: vec![young.clone()], ..wire::AnalyzeRequest::default() };
    let response = gateway.client().analyze(request).await.unwrap().into_inner();
    assert_eq!(response.upstream_calls, 0);
    let dry = wire::EvaluateRequest { observation: Some(young) };
    let dry = gateway.patterns().evaluate(dry).await.unwrap().into_inner();
    assert_eq!(dry.winner, "pool_new");
    let lacks = "lacks `apr_mean_30d`: no `apr` is known of the 30 days before";
    assert_eq!(dry.evaluations[2].skipped, lacks);
    let listed = gateway.patterns().list(wire::ListRequest {}).await.unwrap().into_inner().patterns;
    let counts: Vec<_> = listed.iter().map(|pattern| (pattern.name.as_str(), pattern.matches)).collect();
    assert_eq!(counts, [("gas_high", 0), ("pool_new", 1), ("apr_spike", 0)], "a dry run counts nothing");
    assert!(listed.iter().all(|pattern| !pattern.confidence_basis.is_empty()));
    let missing = gateway.patterns().evaluate(wire::EvaluateRequest::default()).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);
    gateway.stop().await;
}

#[tokio::test]
async fn templates_come_from_a_file_where_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patterns.toml");
    let text = "[[pattern]]\nname = \"big\"\nversion = 3\ntypes = [\"pool\"]\ncondition = \"tvl > 10.0\"\n\
                answer = \"Big.\"\nconfidence = 0.5\nconfidence_basis = \"an example\"\n";
    std::fs::write(&path, text).unwrap();
    let gateway = Gateway::start(Config { llm_patterns: Some(path.clone()), ..Config::defaults() }).await;
    let listed = gateway.patterns().list(wire::ListRequest {}).await.unwrap().into_inner().patterns;
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].version), (1, "big", 3));
    assert_eq!(listed[0].mode(), wire::PatternMode::Shadow, "what does not say so does not answer");
    std::fs::write(&path, "[[pattern]]").unwrap();
    let broken = gateway.patterns().list(wire::ListRequest {}).await.unwrap().into_inner();
    assert!(broken.patterns.len() == 1 && broken.file_problem.starts_with("line 1: "), "{broken:?}");
    std::fs::write(&path, text.replace("version = 3", "version = 4\nmode = \"active\"")).unwrap();
    let mended = gateway.patterns().list(wire::ListRequest {}).await.unwrap().into_inner();
    assert_eq!((mended.patterns[0].version, mended.file_problem.as_str(), mended.loads), (4, "", 2));
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_settings_are_refused_at_the_start() {
    let start = |config: Config| {
        bind(Config { llm_port: 0, ..config }, Telemetry::silent("test"), clock::Clock::system())
    };
    let missing = Config { llm_patterns: Some("no-such-file.toml".into()), ..Config::defaults() };
    assert!(matches!(start(missing).await, Err(Error::Patterns(_))));
    let unserved = Config { llm_model: "gpt-x".into(), ..Config::defaults() };
    assert!(matches!(start(unserved).await, Err(Error::NoUpstream(_))));
    let url = Config { llm_upstream_url: Some("ftp://somewhere".into()), ..Config::defaults() };
    assert!(matches!(start(url).await, Err(Error::Setup(_))));
}
