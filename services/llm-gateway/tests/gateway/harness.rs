//! A gateway on a free port, its clock in hand, and clients for it.

use std::time::{Duration, UNIX_EPOCH};

use clock::{Clock, Hand};
use contracts::llm::{
    self as wire, cache_admin_service_client::CacheAdminServiceClient,
    llm_gateway_service_client::LlmGatewayServiceClient, pattern_service_client::PatternServiceClient,
};
use llm_gateway::{Config, bind};
use rpc::{Channel, ChannelOptions, Serving};
use serde_json::{Value, json};
use telemetry::Telemetry;
use testkit::upstream::{Reply, Script, Upstream};
use tokio::{sync::oneshot, task::JoinHandle};

/// The model that the fake is asked for.
pub(crate) const MODEL: &str = "openai/small";

/// A running gateway.
pub(crate) struct Gateway {
    url: String,
    pub(crate) hand: Hand,
    pub(crate) telemetry: Telemetry,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), llm_gateway::Error>>>,
}

impl Gateway {
    /// Starts a gateway that knows no upstream.
    pub(crate) async fn alone() -> Self {
        Self::start(Config::defaults()).await
    }

    /// Starts a gateway in front of `upstream`.
    pub(crate) async fn before(upstream: &Upstream) -> Self {
        Self::start(config_for(upstream)).await
    }

    /// Starts a gateway with these settings, on a free port.
    pub(crate) async fn start(config: Config) -> Self {
        Self::started(config, Telemetry::silent("llm-gateway")).await
    }

    /// Starts a gateway that tells `telemetry` what it does.
    pub(crate) async fn started(mut config: Config, telemetry: Telemetry) -> Self {
        config.llm_port = 0;
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_750_000_000));
        let bound = bind(config, telemetry.clone(), clock).await.unwrap();
        let url = format!("http://{}", bound.local_addr());
        let (stop, stopped) = oneshot::channel();
        let running = telemetry.spawn(bound.run(async {
            let _ = stopped.await;
        }));
        Self { url, hand, telemetry, stop: Some(stop), running: Some(running) }
    }

    /// Returns the base address of the dialect of OpenAI's API.
    pub(crate) fn chat_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// Returns a client that gives up after 20 s and repeats nothing.
    pub(crate) fn client(&self) -> LlmGatewayServiceClient<Channel> {
        LlmGatewayServiceClient::new(self.channel(None, Duration::from_secs(20)))
    }

    /// Returns a client that gives up after `patience`.
    pub(crate) fn hasty(&self, patience: Duration) -> LlmGatewayServiceClient<Channel> {
        LlmGatewayServiceClient::new(self.channel(None, patience))
    }

    /// Returns a client with a bearer token.
    pub(crate) fn client_of(&self, token: &str) -> LlmGatewayServiceClient<Channel> {
        LlmGatewayServiceClient::new(self.channel(Some(token), Duration::from_secs(20)))
    }

    /// Returns a client of the cache's administration.
    pub(crate) fn admin(&self, token: Option<&str>) -> CacheAdminServiceClient<Channel> {
        CacheAdminServiceClient::new(self.channel(token, Duration::from_secs(20)))
    }

    /// Returns a client of the templates.
    pub(crate) fn patterns(&self) -> PatternServiceClient<Channel> {
        PatternServiceClient::new(self.channel(None, Duration::from_secs(20)))
    }

    /// Returns a client of the templates with a bearer token.
    pub(crate) fn patterns_of(&self, token: &str) -> PatternServiceClient<Channel> {
        PatternServiceClient::new(self.channel(Some(token), Duration::from_secs(20)))
    }

    /// Returns whether the gateway serves, and what is heard of its upstream.
    pub(crate) async fn health(&self) -> (Serving, Option<Serving>) {
        let states = rpc::states(&self.channel(None, Duration::from_secs(20))).await.unwrap();
        let state = |name: &str| states.get(name).copied();
        (state("").unwrap(), state("athena.llm.v1.LlmGatewayService/upstream"))
    }

    /// Returns what is heard of a part of the gateway.
    pub(crate) async fn part(&self, part: &str) -> Option<Serving> {
        let states = rpc::states(&self.channel(None, Duration::from_secs(20))).await.unwrap();
        states.get(&format!("athena.llm.v1.LlmGatewayService/{part}")).copied()
    }

    /// Returns what the gateway counted.
    pub(crate) async fn stats(&self) -> wire::GetStatsResponse {
        self.admin(None).get_stats(wire::GetStatsRequest {}).await.unwrap().into_inner()
    }

    /// Stops the gateway and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap().unwrap();
        }
    }

    fn channel(&self, token: Option<&str>, timeout: Duration) -> Channel {
        let options = ChannelOptions {
            timeout,
            retries: 0,
            token: token.map(|token| config::Value::parse(token).unwrap()),
            ..ChannelOptions::default()
        };
        Channel::lazy(&self.url, options, self.telemetry.clone()).unwrap()
    }
}

/// Returns settings for a gateway in front of `upstream` that charges 1 and 2 USD a million tokens.
pub(crate) fn config_for(upstream: &Upstream) -> Config {
    Config {
        llm_model: MODEL.into(),
        llm_upstream_url: Some(upstream.url()),
        llm_max_retries: 0,
        llm_price_input_per_mtok: 1.0,
        llm_price_output_per_mtok: 2.0,
        ..Config::defaults()
    }
}

/// Makes a request of one turn.
pub(crate) fn ask(words: &str) -> wire::GenerateRequest {
    wire::GenerateRequest {
        messages: vec![wire::Message {
            role: wire::Role::User.into(),
            content: words.into(),
            ..wire::Message::default()
        }],
        ..wire::GenerateRequest::default()
    }
}

/// Makes a pool's observation that no template answers.
pub(crate) fn pool(id: usize) -> wire::Observation {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let values = [("apr".to_owned(), 5.0 + id as f64), ("tvl".to_owned(), 1e6 / (1.0 + id as f64))];
    wire::Observation {
        id: format!("pool-{id}"),
        r#type: "pool".into(),
        subject: format!("POOL{id}"),
        values: values.into(),
        ..wire::Observation::default()
    }
}

/// Returns the observations a merged prompt asks about, each with its `tag`, `subject`, `values` and `check`, in the order shown.
pub(crate) fn asked(body: &Value) -> Vec<Value> {
    let blocks = parts(body);
    let groups = blocks.iter().flat_map(|part| part["groups"].as_array().unwrap());
    groups.flat_map(|group| group["observations"].as_array().unwrap().clone()).collect()
}

/// Returns the subjects a merged prompt asks about, sorted.
pub(crate) fn subjects(body: &Value) -> Vec<String> {
    let mut subjects: Vec<_> =
        asked(body).iter().map(|seen| seen["subject"].as_str().unwrap().to_owned()).collect();
    subjects.sort();
    subjects
}

/// Returns the parts of a merged prompt.
pub(crate) fn parts(body: &Value) -> Vec<Value> {
    let words = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let asked: Value = serde_json::from_str(words).unwrap();
    asked["parts"].as_array().unwrap().clone()
}

/// Makes a whole answer to a merged prompt: what it says about an observation names its subject.
pub(crate) fn answer_to(body: &Value) -> Value {
    let item = |seen: &Value| {
        let summary = format!("about {}", seen["subject"].as_str().unwrap());
        json!({"tag": seen["tag"], "check": seen["check"], "summary": summary, "confidence": 0.5, "salience": 0.5})
    };
    let assessed = |part: &Value| {
        part.get("part").map(|code| {
            json!({
                "part": code,
                "overall_assessment": "all calm",
                "correlations": ["apr and tvl fall together"],
                "focus_areas": ["POOL1"],
                "risk_warnings": ["few observations"],
            })
        })
    };
    json!({
        "items": asked(body).iter().map(item).collect::<Vec<_>>(),
        "assessments": parts(body).iter().filter_map(assessed).collect::<Vec<_>>(),
    })
}

/// Answers merged prompts wholly.
pub(crate) fn analyst() -> Script {
    Script::function(|body| Reply::json(&answer_to(body)))
}

/// Returns what answered.
pub(crate) fn by(served: Option<&wire::Served>) -> wire::ServedBy {
    served.map_or(wire::ServedBy::Unspecified, wire::Served::by)
}
