use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use clock::Clock;
use telemetry::Telemetry;

use super::{Id, Mode, Named, Options, Patterns, Source, Store, Told, Verdict};
use crate::observation::Observation;

/// A template over history that judges itself.
const SPIKE: &str = r#"
[[pattern]]
name = "spike"
version = 1
mode = "active"
severity = "warning"
types = ["pool"]
condition = "apr > apr_mean_30d * 3.0 && apr_days_30d >= 3.0"
answer = "{subject}: {apr} % against {apr_mean_30d} %."
outcome = "apr <= then_apr_mean_30d * 3.0"
confidence = 0.5
confidence_basis = "a test"
evidence = 4
max_error = 0.7

[pattern.score]
value = "apr"
size = "tvl"
factor = 3.0
window_days = 30
least_days = 3
noise = 0.01
weights = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
strength = 1.0
provenance = "a test"
"#;

fn patterns(text: &str) -> Patterns {
    with(text, Options::default(), None)
}

fn with(text: &str, options: Options, store: Option<Store>) -> Patterns {
    let (clock, _) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_750_000_000));
    Patterns::new(Source::of(text), options, store, clock, &Telemetry::silent("test")).unwrap()
}

fn tenant() -> Arc<str> {
    "t".into()
}

fn pool(subject: &str, day: u64, apr: f64) -> Observation {
    Observation {
        id: subject.into(),
        kind: "pool".into(),
        subject: subject.into(),
        values: [("apr".to_owned(), apr), ("tvl".to_owned(), 1e6)].into(),
        time: Some(UNIX_EPOCH + Duration::from_secs(86_400 * (20_000 + day))),
        ..Observation::default()
    }
}

/// Shows the days in order and returns the last match's id.
fn show(patterns: &Patterns, tenant: &Arc<str>, subject: &str, aprs: &[f64]) -> Option<Id> {
    let days = aprs.iter().enumerate();
    days.map(|(day, apr)| patterns.consult(tenant, &pool(subject, day as u64, *apr), true).answer)
        .last()
        .flatten()
        .and_then(|answer| answer.id)
}

fn built_in(values: &[(&str, f64)], kind: &str) -> Option<String> {
    let seen = Observation {
        kind: kind.into(),
        subject: "x".into(),
        values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..Observation::default()
    };
    let patterns = Patterns::new(
        Source::new(None),
        Options::default(),
        None,
        Clock::system(),
        &Telemetry::silent("test"),
    );
    patterns.unwrap().consult(&tenant(), &seen, true).answer.map(|answer| answer.pattern)
}

#[test]
fn the_shipped_templates_compile_and_state_their_basis() {
    let patterns = with(include_str!("patterns.toml"), Options::default(), None);
    let listed = patterns.list(&tenant());
    let names: Vec<_> = listed.iter().map(|one| one.template.name.as_str()).collect();
    assert_eq!(names, ["gas_high", "pool_new", "apr_spike"]);
    for one in &listed {
        assert!(one.template.confidence_basis.len() > 40 && one.template.mode == Mode::Active);
        let bound = one.track.posterior(&one.template).error_bound();
        assert!(bound < one.template.max_error, "{}: {bound}", one.template.name);
    }
    assert!(listed[2].template.score.as_ref().unwrap().provenance.len() > 40);
}

#[test]
fn gas_above_twice_its_average_answers() {
    assert_eq!(built_in(&[("gas_price", 41.0), ("avg_gas", 20.0)], "gas").unwrap(), "gas_high");
    assert_eq!(built_in(&[("gas_price", 40.0), ("avg_gas", 20.0)], "gas"), None);
    assert_eq!(built_in(&[("gas_price", 1.0), ("avg_gas", 0.0)], "gas"), None);
}

#[test]
fn a_pool_younger_than_a_day_answers() {
    assert_eq!(built_in(&[("pool_age_days", 0.5)], "pool").unwrap(), "pool_new");
    assert_eq!(built_in(&[("pool_age_days", 1.0)], "pool"), None);
}

#[test]
fn the_shipped_spike_needs_a_week_and_its_floors() {
    let answer = |aprs: &[f64], tvl: f64| {
        let patterns = with(include_str!("patterns.toml"), Options::default(), None);
        let days = aprs.iter().enumerate().map(|(day, apr)| {
            let mut seen = pool("a", day as u64, *apr);
            seen.values.insert("tvl".into(), tvl);
            patterns.consult(&tenant(), &seen, true).answer
        });
        days.last().flatten().map(|answer| answer.pattern)
    };
    let week = |base: f64, last: f64| [base, base, base, base, base, base, base, last];
    assert_eq!(answer(&week(10.0, 31.0), 2e5).unwrap(), "apr_spike");
    assert_eq!(answer(&week(10.0, 30.0), 2e5), None, "three times is not more than three times");
    assert_eq!(answer(&week(10.0, 31.0)[1..], 2e5), None, "six days");
    assert_eq!(answer(&week(0.01, 6.0), 2e5), None, "a base near zero is noise");
    assert_eq!(answer(&week(10.0, 31.0), 9e4), None, "a small pool is noise");
}

#[test]
fn the_present_is_no_part_of_its_own_history() {
    let patterns = patterns(SPIKE);
    show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0]);
    let spike = pool("a", 3, 31.0);
    let first = patterns.consult(&tenant(), &spike, true).answer.unwrap();
    assert_eq!(first.text, "a: 31 % against 10 %.");
    let again = patterns.consult(&tenant(), &spike, true).answer.unwrap();
    assert_eq!(again.text, first.text, "a mean with the spike in it would say 15.2");
    assert_eq!(again.id, first.id);
    let track = &patterns.list(&tenant())[0].track;
    assert_eq!((track.answered, track.matched), (2, 1), "sent twice, matched once");
}

#[test]
fn subjects_of_one_name_do_not_share_a_history() {
    let patterns = patterns(SPIKE);
    show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0]);
    let other = Observation { id: "other".into(), ..pool("a", 3, 31.0) };
    assert!(patterns.consult(&tenant(), &other, true).answer.is_none());
    assert!(patterns.consult(&"u".into(), &pool("a", 3, 31.0), true).answer.is_none(), "nor do tenants");
}

#[test]
fn a_shadow_is_matched_and_judged_and_never_answers() {
    let patterns = patterns(&SPIKE.replace("\"active\"", "\"shadow\""));
    show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0]);
    let consulted = patterns.consult(&tenant(), &pool("a", 3, 31.0), true);
    assert!(consulted.answer.is_none() && consulted.matched.len() == 1);
    patterns.compare(&tenant(), &consulted.matched, 0.9);
    patterns.compare(&tenant(), &consulted.matched, 0.1);
    let _ = patterns.consult(&tenant(), &pool("a", 4, 9.0), true);
    let track = &patterns.list(&tenant())[0].track;
    assert_eq!((track.answered, track.matched, track.outcomes.told, track.outcomes.came_true), (0, 1, 1, 1));
    assert_eq!((track.compared, track.agreed), (1, 1), "a match is compared once");
}

#[test]
fn the_next_day_judges_a_match_and_a_late_one_does_not() {
    let told = |next: Observation| {
        let patterns = patterns(SPIKE);
        show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0, 31.0]);
        let _ = patterns.consult(&tenant(), &next, true);
        let outcomes = patterns.list(&tenant())[0].track.outcomes;
        (outcomes.told, outcomes.came_true)
    };
    assert_eq!(told(pool("a", 4, 30.0)), (1, 1));
    assert_eq!(told(pool("a", 5, 30.1)), (1, 0));
    assert_eq!(told(pool("a", 6, 5.0)), (0, 0), "three days later");
    let mut soon = pool("a", 4, 5.0);
    soon.time = soon.time.map(|time| time - Duration::from_secs(5 * 3_600));
    assert_eq!(told(soon), (0, 0), "nineteen hours later");
}

#[tokio::test]
async fn an_outcome_is_told_once_and_only_by_its_tenant() {
    let patterns = patterns(SPIKE);
    let id = show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0, 31.0]).unwrap();
    let name = Named {
        pattern: "spike".into(),
        kind: "pool".into(),
        subject: "a".into(),
        id: "a".into(),
        time: pool("a", 3, 0.0).time.map(|time| time + Duration::from_secs(3_600)),
    };
    assert_eq!(patterns.id_of("t", &name), Some(id));
    assert_eq!(patterns.report(&"u".into(), id, false).await.unwrap(), None);
    let tell = async |came_true| patterns.report(&tenant(), id, came_true).await.unwrap();
    assert_eq!(tell(true).await, Some(Told { is_news: true, came_true: true }));
    assert_eq!(tell(false).await, Some(Told { is_news: false, came_true: true }));
    let _ = patterns.consult(&tenant(), &pool("a", 4, 99.0), true);
    let track = &patterns.list(&tenant())[0].track;
    assert_eq!((track.outcomes.told, track.outcomes.came_true), (1, 1), "a day later it is not judged again");
    assert_eq!(patterns.list(&"u".into())[0].track.outcomes.told, 0);
}

#[tokio::test]
async fn a_template_that_fails_retires_for_its_tenant_until_it_is_reinstated() {
    let patterns = patterns(SPIKE);
    let fail = |subject: &str| show(&patterns, &tenant(), subject, &[10.0, 10.0, 10.0, 31.0, 99.0, 1.0]);
    for number in 0..30 {
        fail(&number.to_string());
    }
    let shown = |tenant: &Arc<str>| show(&patterns, tenant, "z", &[10.0, 10.0, 10.0, 31.0]);
    assert!(patterns.list(&tenant())[0].track.retired.as_ref().unwrap().contains("error"));
    assert!(shown(&tenant()).is_none() && shown(&"u".into()).is_some(), "another tenant is not concerned");
    let tried = &patterns.evaluate(&tenant(), &pool("z", 3, 31.0))[0];
    assert!(tried.explanation.verdict == Verdict::Holds && tried.silent.starts_with("it has retired"));
    assert!(!patterns.reinstate(&tenant(), "none").await.unwrap());
    assert!(patterns.reinstate(&tenant(), "spike").await.unwrap());
    assert!(shown(&tenant()).is_some());
}

#[test]
fn what_a_score_learns_shows_in_the_next_answer() {
    let patterns = patterns(SPIKE);
    let confidence = || {
        show(&patterns, &tenant(), "z", &[10.0, 10.0, 10.0]);
        patterns.consult(&tenant(), &pool("z", 3, 31.0), true).answer.unwrap().confidence
    };
    assert_eq!(confidence(), 0.5, "nothing is known");
    for number in 0..20 {
        show(&patterns, &tenant(), &number.to_string(), &[10.0, 10.0, 10.0, 31.0, 9.0]);
    }
    let after = confidence();
    assert!(after > 0.75, "{after}");
    let score = patterns.list(&tenant())[0].track.score.clone().unwrap();
    assert!(score.learned() >= 20, "{}", score.learned());
}

#[test]
fn evaluate_says_what_was_read_and_what_is_missing() {
    let patterns = patterns(SPIKE);
    show(&patterns, &tenant(), "a", &[10.0, 20.0]);
    let tried = &patterns.evaluate(&tenant(), &pool("a", 2, 99.0))[0];
    let parts: Vec<_> =
        tried.explanation.parts.iter().map(|(text, verdict)| (text.as_str(), verdict.clone())).collect();
    assert_eq!(
        parts,
        [("apr > apr_mean_30d * 3.0", Verdict::Holds), ("apr_days_30d >= 3.0", Verdict::Fails)]
    );
    assert_eq!(tried.explanation.reads["apr_mean_30d"], 15.0);
    let unknown = &patterns.evaluate(&tenant(), &pool("b", 2, 99.0))[0];
    assert_eq!(unknown.explanation.missing, ["apr_mean_30d"]);
    let lacks = "lacks `apr_mean_30d`: no `apr` is known of the 30 days before";
    assert_eq!(unknown.explanation.verdict, Verdict::Skipped(lacks.into()));
    assert_eq!(patterns.list(&tenant())[0].track.matched, 0, "a dry run counts nothing");
    assert!(
        patterns.evaluate(&tenant(), &pool("b", 3, 99.0))[0].explanation.reads.contains_key("apr_days_30d")
    );
}

#[test]
fn a_changed_file_is_taken_and_a_broken_one_keeps_the_last_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patterns.toml");
    std::fs::write(&path, SPIKE).unwrap();
    let patterns = Patterns::new(
        Source::new(Some(path.clone())),
        Options::default(),
        None,
        Clock::system(),
        &Telemetry::silent("test"),
    )
    .unwrap();
    show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0, 31.0]);
    let versions = || patterns.list(&tenant()).iter().map(|one| one.template.version).collect::<Vec<_>>();
    patterns.look();
    assert_eq!((versions(), patterns.status().loads), (vec![1], 1), "the same text is not read as new");
    std::fs::write(&path, "[[pattern]]\nname = 3").unwrap();
    patterns.look();
    assert_eq!(versions(), [1]);
    assert!(patterns.status().broken.contains("line 2: "), "{:?}", patterns.status());
    std::fs::remove_file(&path).unwrap();
    patterns.look();
    assert!(patterns.status().broken.contains("cannot be read"));
    assert_eq!(patterns.list(&tenant())[0].track.answered, 1, "what is known stays");
    std::fs::write(&path, SPIKE.replace("version = 1", "version = 2")).unwrap();
    patterns.look();
    assert_eq!((versions(), patterns.status().broken, patterns.status().loads), (vec![2], String::new(), 2));
    assert_eq!(patterns.list(&tenant())[0].track.answered, 0, "another version starts anew");
}

#[tokio::test]
async fn what_is_known_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let store = Store::open(folder.path(), &journal::Options::default()).unwrap();
        with(SPIKE, Options::default(), Some(store))
    };
    let patterns = open();
    let id = show(&patterns, &tenant(), "a", &[10.0, 10.0, 10.0, 31.0]).unwrap();
    show(&patterns, &tenant(), "b", &[10.0, 10.0, 10.0]);
    patterns.report(&tenant(), id, true).await.unwrap().unwrap();
    let before = patterns.list(&tenant())[0].track.clone();
    let _ = patterns.consult(&tenant(), &pool("c", 0, 1.0), true);
    patterns.close().await;
    drop(patterns);
    let again = open();
    let after = again.list(&tenant())[0].track.clone();
    assert_eq!(
        (after.matched, after.answered, after.outcomes),
        (before.matched, before.answered, before.outcomes)
    );
    let (before, after) = (before.score.unwrap(), after.score.unwrap());
    assert_eq!(after.learned(), before.learned());
    let pairs = after.weights().iter().zip(before.weights());
    assert!(pairs.into_iter().all(|(after, before)| (after - before).abs() < 1e-12));
    assert_eq!(again.remembered(&tenant()).0, 3, "written at the end, too");
    assert!(again.consult(&tenant(), &pool("b", 3, 31.0), true).answer.is_some(), "its days are known");
    let told = again.report(&tenant(), id, false).await.unwrap().unwrap();
    assert_eq!(told, Told { is_news: false, came_true: true });
    again.close().await;
}

#[test]
fn a_wrong_template_is_named() {
    let refused = |from: &str, to: &str| {
        let text = SPIKE.replace(from, to);
        assert_ne!(text, SPIKE, "{from}");
        super::Library::parse(&text, 40).unwrap_err().to_string()
    };
    for (from, to) in [
        ("apr_days_30d >= 3.0\"", "\""),
        ("apr_days_30d >= 3.0", "apr_days_30d"),
        ("apr_days_30d >= 3.0", "f(apr)"),
        ("{apr} %", "{apr %"),
        ("apr <= then_apr_mean_30d * 3.0", "apr +"),
        ("confidence = 0.5", "confidence = 1.5"),
        ("max_error = 0.7", "max_error = -1"),
        ("factor = 3.0", "factor = 1.0"),
        ("noise = 0.01", "noise = 0.0"),
        ("{apr_mean_30d}", "{apr_mean_40d}"),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with("pattern `spike`:"), "{error}");
    }
    assert!(refused("version = 1", "version = 1\nnonsense = 1").contains("unknown field `nonsense`"));
    assert!(super::Library::parse(&SPIKE.repeat(2), 40).unwrap_err().to_string().contains("taken"));
    assert!(super::Library::parse(SPIKE, 30).unwrap_err().to_string().contains("looks back 30 days"));
}
