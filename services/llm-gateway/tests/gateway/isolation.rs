//! Whatever tenants ask, in whatever order and at once: an answer is seen by the one tenant whose call brought it.
//!
//! The upstream numbers its answers. Every tenant asks the same few things, so each cache, each call in flight and each merged prompt could be
//! shared; a number that two tenants have seen was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use contracts::llm::{self as wire, ServedBy, generate_stream_response::Part, observation_result::Outcome};
use futures::future::join_all;
use llm_gateway::{Config, semantic::Mode};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config as Cases, TestRunner},
};
use serde_json::{Value, json};
use testkit::upstream::{Reply, Script, Upstream};

use crate::harness::{Gateway, answer_to, ask, by, config_for, pool};

const TOKENS: [&str; 3] = ["token-of-acme", "token-of-globex", "token-of-initech"];

/// Of each pair, the second asks the same in other words.
const QUESTIONS: [&str; 4] = [
    "What is the best way to learn to play the piano?",
    "What is the best way to learn to play piano?",
    "Is an APR of 25 normal for a pool?",
    "Is an APR of 25 normal for the pool?",
];

/// What one tenant does.
#[derive(Clone, Debug)]
struct Act {
    tenant: usize,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// A question, whole.
    Whole(usize),
    /// A question, piece by piece.
    Streamed(usize),
    /// A question through the dialect of OpenAI's API.
    Dialect(usize),
    /// Pools, the APR of each moved by so many percent.
    Pools { ids: BTreeSet<usize>, moved: u32 },
}

fn ways() -> impl Strategy<Value = Way> {
    let question = 0..QUESTIONS.len();
    prop_oneof![
        question.clone().prop_map(Way::Whole),
        question.clone().prop_map(Way::Streamed),
        question.prop_map(Way::Dialect),
        (proptest::collection::btree_set(0..6_usize, 1..4), select(&[0_u32, 0, 3][..]))
            .prop_map(|(ids, moved)| Way::Pools { ids, moved }),
    ]
}

/// Waves of acts; those of a wave happen at once.
fn waves() -> impl Strategy<Value = Vec<Vec<Act>>> {
    let act = (0..TOKENS.len(), ways()).prop_map(|(tenant, way)| Act { tenant, way });
    vec(vec(act, 1..12), 4..8)
}

/// Numbers its answers; each item of a merged answer bears the number of its call.
fn numbered() -> Script {
    let calls = AtomicU32::new(0);
    Script::function(move |body| {
        let number = format!("answer {}", calls.fetch_add(1, Ordering::Relaxed));
        let words = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
        let merged = serde_json::from_str::<Value>(words).is_ok_and(|asked| asked["parts"].is_array());
        let reply = if merged {
            let mut answer = answer_to(body);
            answer["items"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|item| item["summary"] = json!(number));
            Reply::json(&answer)
        } else {
            Reply::text(number)
        };
        // Long enough that the others of a wave find the call in flight.
        reply.after(Duration::from_millis(10))
    })
}

/// Does one act, and returns the answers with what served each.
async fn act(gateway: &Gateway, act: &Act) -> Vec<(String, String)> {
    let token = TOKENS[act.tenant];
    let mut client = gateway.client_of(token);
    let name = |served: Option<&wire::Served>| by(served).as_str_name().to_owned();
    match &act.way {
        Way::Whole(question) => {
            let answer = client.generate(ask(QUESTIONS[*question])).await.unwrap().into_inner();
            vec![(answer.text, name(answer.served.as_ref()))]
        }
        Way::Streamed(question) => {
            let wire::GenerateRequest { messages, .. } = ask(QUESTIONS[*question]);
            let request = wire::GenerateStreamRequest { messages, ..wire::GenerateStreamRequest::default() };
            let mut stream = client.generate_stream(request).await.unwrap().into_inner();
            let (mut text, mut served) = (String::new(), String::new());
            while let Some(response) = stream.message().await.unwrap() {
                match response.part {
                    Some(Part::Text(piece)) => text.push_str(&piece),
                    Some(Part::End(end)) => served = name(end.served.as_ref()),
                    _ => {}
                }
            }
            vec![(text, served)]
        }
        Way::Dialect(question) => {
            let body =
                json!({"messages": [{"role": "user", "content": QUESTIONS[*question]}], "model": "small"});
            let url = format!("{}/chat/completions", gateway.chat_url());
            let sent = reqwest::Client::new().post(url).bearer_auth(token).json(&body).send().await.unwrap();
            let served = sent.headers()["x-athena-served"].to_str().unwrap().to_uppercase();
            let answer: Value = sent.json().await.unwrap();
            let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
            vec![(text, format!("SERVED_BY_{served}"))]
        }
        Way::Pools { ids, moved } => {
            let observations = ids.iter().map(|id| {
                let mut seen = pool(*id);
                seen.values.entry("apr".into()).and_modify(|apr| *apr *= 1.0 + f64::from(*moved) / 100.0);
                seen
            });
            let request = wire::AnalyzeRequest {
                observations: observations.collect(),
                ..wire::AnalyzeRequest::default()
            };
            let response = client.analyze(request).await.unwrap().into_inner();
            let results = response.results.into_iter().map(|result| {
                let Some(Outcome::Analysis(found)) = result.outcome else { panic!("no analysis") };
                (found.summary, name(result.served.as_ref()))
            });
            results.collect()
        }
    }
}

/// Lets tenants act, and returns who saw which answer, and how often each tier answered.
async fn play(waves: &[Vec<Act>]) -> (BTreeMap<String, BTreeSet<usize>>, BTreeMap<String, u32>) {
    let upstream = Upstream::start(numbered());
    let mut config = Config { llm_semantic: Mode::On, llm_band_tolerance: 0.1, ..config_for(&upstream) };
    let tenants: Vec<_> =
        TOKENS.iter().zip(0..).map(|(token, n)| format!("{token}=tenant-{n}:agent")).collect();
    config.host.auth_tokens = config::Value::parse(&tenants.join(",")).unwrap();
    let gateway = Gateway::start(config).await;
    let (mut seen, mut tiers) = (BTreeMap::<String, BTreeSet<usize>>::new(), BTreeMap::new());
    for wave in waves {
        let answers = join_all(wave.iter().map(|one| act(&gateway, one))).await;
        for (one, (answer, tier)) in
            wave.iter().zip(answers).flat_map(|(one, all)| all.into_iter().map(move |it| (one, it)))
        {
            seen.entry(answer).or_default().insert(one.tenant);
            *tiers.entry(tier).or_default() += 1;
        }
    }
    gateway.stop().await;
    (seen, tiers)
}

#[test]
fn an_answer_is_seen_by_one_tenant_only() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tiers = BTreeMap::<String, u32>::new();
    let mut runner = TestRunner::new_with_rng(Cases::default(), TestRunner::deterministic().new_rng());
    for _ in 0..16 {
        let waves = waves().new_tree(&mut runner).unwrap().current();
        let (seen, served) = runtime.block_on(play(&waves));
        for (answer, tenants) in &seen {
            assert_eq!(tenants.len(), 1, "{answer:?} was seen by {tenants:?} of {waves:#?}");
        }
        served.into_iter().for_each(|(tier, count)| *tiers.entry(tier).or_default() += count);
    }
    // An answer that nothing could have shared proves nothing.
    for tier in
        [ServedBy::Exact, ServedBy::Semantic, ServedBy::Coalesced, ServedBy::Merged, ServedBy::Upstream]
    {
        assert!(tiers.get(tier.as_str_name()).is_some_and(|count| *count >= 10), "{tier:?}: {tiers:?}");
    }
}
