//! Calls that observations, and callers, share.

use std::{
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use clock::Clock;
use futures::{FutureExt as _, future::join_all, poll};
use llm_gateway::{
    Config, Error,
    analyze::{Inquiry, Report},
    assemble,
    gateway::Gateway,
    observation::{ItemFailure, Observation},
    provider::Failure,
    served::{By, Control, Terms},
};
use serde_json::{Value, json};
use telemetry::Telemetry;
use testkit::upstream::{Reply, Script, Upstream};

use crate::harness::{analyst, answer_to, asked, config_for, parts, subjects};

/// A gateway called directly: a caller leaves when its future is dropped, at a moment of the test's choice.
async fn gateway(upstream: &Upstream, max_items: usize) -> Arc<Gateway> {
    // As long as it may be: calls of these tests leave because they are full.
    let linger = Duration::from_secs(1);
    let config = Config { llm_merge_max_items: max_items, llm_merge_linger: linger, ..config_for(upstream) };
    let clock = Clock::manual(UNIX_EPOCH).0;
    Arc::new(assemble(&config, &Telemetry::silent("llm-gateway"), &clock).await.unwrap())
}

fn terms(tenant: &str) -> Terms {
    Terms { tenant: tenant.into(), deadline: None, control: Control::default(), max_cost_usd: None }
}

fn about(range: std::ops::Range<u32>) -> Inquiry {
    let pool = |k: u32| Observation {
        id: format!("id-{k}"),
        kind: "pool".into(),
        subject: format!("POOL{k}"),
        values: [("apr".to_owned(), 5.0 + f64::from(k)), ("tvl".to_owned(), 1e6 + f64::from(k))].into(),
        ..Observation::default()
    };
    Inquiry { observations: range.map(pool).collect(), ..Inquiry::default() }
}

fn summaries(report: &Report) -> Vec<Result<&str, ItemFailure>> {
    let outcomes = report.findings.iter().map(|finding| finding.outcome.as_ref());
    outcomes.map(|found| found.map(|found| found.summary.as_str()).map_err(|why| *why)).collect()
}

fn cost(report: &Report) -> f64 {
    report.findings.iter().map(|finding| finding.served.cost_usd).sum()
}

/// Returns an entry of `answer` by the subject it names.
fn entry<'a>(answer: &'a mut Value, subject: &str) -> Option<&'a mut Value> {
    let items = answer["items"].as_array_mut().unwrap();
    items.iter_mut().find(|item| item["summary"] == format!("about {subject}"))
}

fn drop_entry(answer: &mut Value, subject: &str) {
    answer["items"].as_array_mut().unwrap().retain(|item| item["summary"] != format!("about {subject}"));
}

#[tokio::test]
async fn spoiled_items_are_asked_again_together_then_singly_and_then_failed_by_name() {
    let upstream = Upstream::start(Script::function(|body| {
        let mut answer = answer_to(body);
        // These stay bad however often they are asked about.
        drop_entry(&mut answer, "POOL4");
        if let Some(hot) = entry(&mut answer, "POOL5") {
            hot["confidence"] = json!(7);
        }
        if asked(body).len() == 50 {
            drop_entry(&mut answer, "POOL8");
            entry(&mut answer, "POOL19").unwrap()["confidence"] = json!(7);
            let mut twin = entry(&mut answer, "POOL29").unwrap().clone();
            twin["salience"] = json!(0.9);
            // Words and check of one under the tag of the other.
            let tag = entry(&mut answer, "POOL30").unwrap()["tag"].clone();
            let other = std::mem::replace(&mut entry(&mut answer, "POOL31").unwrap()["tag"], tag);
            entry(&mut answer, "POOL30").unwrap()["tag"] = other;
            let items = answer["items"].as_array_mut().unwrap();
            items.push(twin);
            items.push(
                json!({"tag": "nobody", "check": "gave", "summary": "it", "confidence": 0, "salience": 0}),
            );
            items.reverse();
        }
        Reply::json(&answer)
    }));
    let gateway = gateway(&upstream, 50).await;
    let report = gateway.analyze(&terms("a"), &about(0..50)).await.unwrap();
    let bodies: Vec<Value> = upstream.requests().into_iter().map(|request| request.body).collect();
    assert_eq!((bodies.len(), report.upstream_calls), (4, 4));
    let again = ["POOL19", "POOL29", "POOL30", "POOL31", "POOL4", "POOL5", "POOL8"];
    assert_eq!(subjects(&bodies[1]), again);
    let mut singly = [subjects(&bodies[2]), subjects(&bodies[3])].concat();
    singly.sort();
    assert_eq!(singly, ["POOL4", "POOL5"]);
    for (place, summary) in summaries(&report).into_iter().enumerate() {
        match place {
            4 => assert_eq!(summary, Err(ItemFailure::Missing)),
            5 => assert_eq!(summary, Err(ItemFailure::Invalid)),
            _ => assert_eq!(summary, Ok(format!("about POOL{place}").as_str()), "every answer is its own"),
        }
    }
    let next = gateway.analyze(&terms("a"), &about(0..50)).await.unwrap();
    let exact = next.findings.iter().filter(|finding| finding.served.by == By::Exact).count();
    assert_eq!(exact, 48, "failures are not cached, everything else is");
}

#[tokio::test]
async fn order_and_codes_differ_from_call_to_call() {
    let upstream = Upstream::start(analyst());
    let gateway = gateway(&upstream, 50).await;
    let control = Control { read: false, ..Control::default() };
    for _ in 0..2 {
        gateway.analyze(&Terms { control, ..terms("a") }, &about(0..40)).await.unwrap();
    }
    let bodies: Vec<Vec<Value>> = upstream.requests().iter().map(|request| asked(&request.body)).collect();
    let column = |body: &[Value], name: &str| body.iter().map(|seen| seen[name].clone()).collect::<Vec<_>>();
    let sent: Vec<Value> = (0..40).map(|k| json!(format!("POOL{k}"))).collect();
    assert!(bodies.iter().all(|body| column(body, "subject") != sent), "not in the order of the request");
    for name in ["subject", "tag", "check"] {
        assert_ne!(column(&bodies[0], name), column(&bodies[1], name), "{name}");
    }
}

#[tokio::test]
async fn callers_who_come_while_a_call_is_under_way_share_the_next_and_its_cost() {
    let upstream =
        Upstream::start(Script::function(|body| Reply::json(&answer_to(body)).counted(1_003, 501)));
    let gateway = gateway(&upstream, 8).await;
    let hold = upstream.hold();
    let (caller, zero) = (terms("a"), about(0..1));
    let mut alone = Box::pin(gateway.analyze(&caller, &zero).map(Result::unwrap));
    assert!(poll!(&mut alone).is_pending());
    upstream.arrived(1).await;
    let inquiries = [about(1..2), about(2..5), about(5..6), about(6..9)];
    let asking = inquiries.iter().map(|inquiry| gateway.analyze(&caller, inquiry).map(Result::unwrap));
    let (alone, reports) = tokio::join!(alone, async {
        let reports = join_all(asking);
        let release = async {
            upstream.arrived(2).await;
            drop(hold);
        };
        tokio::join!(reports, release).0
    });
    assert_eq!(alone.findings[0].served.by, By::Upstream, "nobody was there to share with");
    assert_eq!(upstream.calls(), 2);
    let shared = &upstream.requests()[1].body;
    let blocks = parts(shared);
    assert_eq!((asked(shared).len(), blocks.len()), (8, 4));
    let assessed =
        blocks.iter().filter(|part| part.get("part").is_some() && part.get("statistics").is_some());
    assert_eq!(
        assessed.count(),
        2,
        "only a request of several observations has something to compare and to assess"
    );
    for (report, inquiry) in reports.iter().zip(&inquiries) {
        let expected: Vec<String> =
            inquiry.observations.iter().map(|seen| format!("about {}", seen.subject)).collect();
        assert_eq!(summaries(report), expected.iter().map(|text| Ok(text.as_str())).collect::<Vec<_>>());
        assert_eq!(report.upstream_calls, 1);
        assert!(report.findings.iter().all(|finding| finding.served.by == By::Merged));
        let model = report.assessment.overall == "all calm";
        assert_eq!(model, inquiry.observations.len() > 1);
    }
    let whole = (1_003.0 + 2.0 * 501.0) / 1e6;
    assert!((reports.iter().map(cost).sum::<f64>() - whole).abs() < 1e-12, "the shares are the whole");
    assert!(
        reports.iter().all(|report| (cost(report) - report.served.as_ref().unwrap().cost_usd).abs() < 1e-12)
    );
}

#[tokio::test]
async fn tenants_and_questions_never_share_a_prompt() {
    let upstream = Upstream::start(analyst());
    let gateway = gateway(&upstream, 4).await;
    let hold = upstream.hold();
    let callers = [("a", ""), ("b", ""), ("a", "why?")];
    let asking = (0..5_u32).flat_map(|round| {
        callers.iter().zip(0..).map(move |((tenant, question), lane)| (*tenant, *question, round * 3 + lane))
    });
    let asking = asking.map(|(tenant, question, pool)| {
        let gateway = gateway.clone();
        async move {
            let inquiry = Inquiry { question: question.into(), ..about(pool..pool + 1) };
            gateway.analyze(&terms(tenant), &inquiry).await.unwrap();
        }
    });
    let release = async {
        upstream.arrived(6).await;
        drop(hold);
    };
    tokio::join!(join_all(asking), release);
    // Each of three lanes: the first alone, the other four together.
    assert_eq!(upstream.calls(), 6);
    for request in upstream.requests() {
        let pools = subjects(&request.body);
        let lane = |subject: &String| subject["POOL".len()..].parse::<u32>().unwrap() % 3;
        assert!(pools.iter().all(|subject| lane(subject) == lane(&pools[0])), "{pools:?}");
    }
}

#[tokio::test]
async fn who_leaves_before_a_call_is_sent_is_not_asked_about() {
    let upstream = Upstream::start(analyst());
    let gateway = gateway(&upstream, 2).await;
    let hold = upstream.hold();
    let caller = terms("a");
    let (one, two, three) = (about(1..2), about(2..3), about(3..4));
    let mut first = Box::pin(gateway.analyze(&caller, &one));
    assert!(poll!(&mut first).is_pending());
    upstream.arrived(1).await;
    let mut leaves = Box::pin(gateway.analyze(&caller, &two));
    assert!(poll!(&mut leaves).is_pending());
    drop(leaves);
    let mut stays = Box::pin(gateway.analyze(&caller, &three));
    assert!(poll!(&mut stays).is_pending());
    upstream.arrived(2).await;
    drop(hold);
    assert_eq!(summaries(&stays.await.unwrap()), [Ok("about POOL3")]);
    first.await.unwrap();
    assert_eq!(subjects(&upstream.requests()[1].body), ["POOL3"]);
}

#[tokio::test]
async fn who_leaves_a_call_under_way_spares_the_others_and_finds_its_answer_stored() {
    let upstream = Upstream::start(analyst());
    let gateway = gateway(&upstream, 2).await;
    let hold = upstream.hold();
    let caller = terms("a");
    let hasty = Terms { deadline: Some(Instant::now() + Duration::from_millis(300)), ..terms("a") };
    let (one, two, three) = (about(1..2), about(2..3), about(3..4));
    let mut first = Box::pin(gateway.analyze(&caller, &one));
    assert!(poll!(&mut first).is_pending());
    upstream.arrived(1).await;
    let (left, stays) = tokio::join!(
        async {
            let left = gateway.analyze(&hasty, &two).await;
            upstream.arrived(2).await;
            drop(hold);
            left
        },
        gateway.analyze(&caller, &three)
    );
    assert!(matches!(left, Err(Error::DeadlineExceeded)));
    assert_eq!(summaries(&stays.unwrap()), [Ok("about POOL3")]);
    first.await.unwrap();
    let later = gateway.analyze(&caller, &two).await.unwrap();
    assert_eq!((later.findings[0].served.by, upstream.calls()), (By::Exact, 2), "it was paid for");
}

#[tokio::test]
async fn a_limit_holds_for_each_callers_own_share() {
    let upstream = Upstream::start(Script::function(|body| {
        let mut answer = answer_to(body);
        drop_entry(&mut answer, "POOL2");
        drop_entry(&mut answer, "POOL3");
        // A share of three: 600 read and 100 written, 0.0008 USD.
        Reply::json(&answer).counted(1_800, 300)
    }));
    let gateway = gateway(&upstream, 3).await;
    let hold = upstream.hold();
    let caller = terms("a");
    // Enough for one call by estimate (about 500 tokens read, 60 written), not for two.
    let limited = Terms { max_cost_usd: Some(0.0009), ..terms("a") };
    let broke = Terms { max_cost_usd: Some(1e-6), ..terms("a") };
    let inquiries: Vec<Inquiry> = (1..6).map(|k| about(k..k + 1)).collect();
    let mut first = Box::pin(gateway.analyze(&caller, &inquiries[0]));
    assert!(poll!(&mut first).is_pending());
    upstream.arrived(1).await;
    let refused = gateway.analyze(&broke, &inquiries[4]).await;
    assert!(matches!(refused, Err(Error::OverBudget { .. })), "{refused:?}");
    let release = async {
        upstream.arrived(2).await;
        drop(hold);
    };
    let (rich, poor, other, ()) = tokio::join!(
        gateway.analyze(&caller, &inquiries[1]),
        gateway.analyze(&limited, &inquiries[2]),
        gateway.analyze(&caller, &inquiries[3]),
        release
    );
    first.await.unwrap();
    let (rich, poor, other) = (rich.unwrap(), poor.unwrap(), other.unwrap());
    assert_eq!(summaries(&other), [Ok("about POOL4")]);
    assert_eq!((rich.upstream_calls, poor.upstream_calls), (3, 1), "the limit forbids to ask again");
    assert_eq!(summaries(&poor), [Err(ItemFailure::Missing)]);
    assert!(cost(&poor) <= 0.0009);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn a_failed_shared_call_fails_all_who_shared_it_and_leaves_no_lane_behind() {
    let upstream = Upstream::start(Script::failing(503, "down"));
    let gateway = gateway(&upstream, 2).await;
    let caller = terms("a");
    let inquiries: Vec<Inquiry> = (1..4).map(|k| about(k..k + 1)).collect();
    let outcomes = join_all(inquiries.iter().map(|inquiry| gateway.analyze(&caller, inquiry))).await;
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::Failed(Failure::Unreachable))), "{outcome:?}");
    }
    assert_eq!(upstream.calls(), 2);
    upstream.change(analyst());
    assert_eq!(summaries(&gateway.analyze(&caller, &inquiries[0]).await.unwrap()), [Ok("about POOL1")]);
}

/// Lets one caller lead and another wait for the same, before the upstream answers; returns what each gets.
async fn both(
    (gateway, upstream): (&Arc<Gateway>, &Upstream),
    (leader, follower): (&Terms, &Terms),
    inquiry: &Inquiry,
) -> (Report, Report) {
    let (hold, before) = (upstream.hold(), upstream.calls());
    let mut leads = Box::pin(gateway.analyze(leader, inquiry));
    assert!(poll!(&mut leads).is_pending());
    upstream.arrived(before + 1).await;
    let mut follows = Box::pin(gateway.analyze(follower, inquiry));
    assert!(poll!(&mut follows).is_pending());
    drop(hold);
    let (leads, follows) = tokio::join!(leads, follows);
    (leads.unwrap(), follows.unwrap())
}

#[tokio::test]
async fn what_a_leaders_own_limit_left_unasked_is_asked_for_by_the_next() {
    let upstream = Upstream::start(Script::function(|body| {
        let mut answer = answer_to(body);
        if asked(body).len() > 1 {
            drop_entry(&mut answer, "POOL2");
        }
        // As much as the limit allows, to a little.
        Reply::json(&answer).counted(1_000, 200)
    }));
    let gateway = gateway(&upstream, 3).await;
    let (limited, caller) = (Terms { max_cost_usd: Some(0.0015), ..terms("a") }, terms("a"));
    let (leads, follows) = both((&gateway, &upstream), (&limited, &caller), &about(1..3)).await;
    assert_eq!(summaries(&leads), [Ok("about POOL1"), Err(ItemFailure::Missing)]);
    assert_eq!(summaries(&follows), [Ok("about POOL1"), Ok("about POOL2")]);
    // A limit that left nothing unasked is none to the followers, whatever the model left out.
    upstream.change(Script::function(|body| {
        let mut answer = answer_to(body);
        drop_entry(&mut answer, "POOL5");
        Reply::json(&answer)
    }));
    let roomy = Terms { max_cost_usd: Some(1.0), ..terms("a") };
    let (leads, follows) = both((&gateway, &upstream), (&roomy, &roomy), &about(4..6)).await;
    assert_eq!(summaries(&leads), [Ok("about POOL4"), Err(ItemFailure::Missing)]);
    assert_eq!((summaries(&follows), follows.upstream_calls), (summaries(&leads), 0));
}
