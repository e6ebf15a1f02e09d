use std::time::UNIX_EPOCH;

use jiff::civil::Date;

use super::*;
use crate::{branch::Problem, peers::Finding, source::Reading};

const MILLI: Duration = Duration::from_millis(1);
const RULE: &str = "apr > 3.0 * historical_apr || pool_age_days < 1.0 || (apr >= 20.0 && tvl >= 100000.0)";

fn pool(id: &str, apr: f64) -> Pool {
    Pool {
        id: id.into(),
        protocol: "aero".into(),
        chain: "Base".into(),
        symbol: id.to_uppercase(),
        tvl: Some(1e6),
        apr: Some(apr),
        ..Pool::default()
    }
}

fn begin(deadline: Duration) -> Machine {
    let start =
        Start { id: "01".into(), agent: "agent".into(), number: 1, time: UNIX_EPOCH, trace_id: "ab".into() };
    let limits = Limits { pools: 4, interesting: 2, stale_after: Duration::from_secs(60) };
    Machine::begin(start, Budget::new(deadline), limits)
}

fn day() -> Moment {
    Moment::recorded(Date::constant(2025, 8, 1))
}

fn branch<T>(name: &str, millis: u32, result: Result<T, Problem>) -> Branch<T> {
    Branch { name: name.into(), duration: MILLI * millis, result }
}

fn down<T>() -> Result<T, Problem> {
    Err(Problem::new("UNAVAILABLE", "not there"))
}

fn seen(pools: &[Pool]) -> Observed {
    let reading = Reading { pools: pools.to_vec(), warnings: Vec::new() };
    let gas = Gas { chain: "Ethereum".into(), price: 2.0 };
    Observed {
        moment: day(),
        pools: branch("source pools", 2, Ok(reading)),
        gas: Some(branch("source gas", 1, Ok(Some(gas)))),
    }
}

fn observe(machine: &mut Machine, observed: Observed) {
    assert!(matches!(machine.order(Duration::ZERO), Order::Observe { .. }));
    machine.observed(observed, &History::default(), &Rule::compile(RULE).unwrap(), MILLI * 2);
}

fn questions(machine: &mut Machine) -> Vec<Question> {
    match machine.order(MILLI * 3) {
        Order::Recall { questions, .. } => questions,
        other => panic!("{other:?}"),
    }
}

fn analysed(machine: &mut Machine, of: impl Fn(&Observation) -> bool) {
    let Order::Analyse { observations, .. } = machine.order(MILLI * 10) else { panic!("no analysis") };
    let (found, lost): (Vec<_>, Vec<_>) = observations.into_iter().partition(|seen| of(seen));
    let answer = Analysed {
        findings: found.into_iter().map(|it| (it.id, Finding::default())).collect(),
        failed: lost.into_iter().map(|it| (it.id, Problem::new("missing", "not answered"))).collect(),
        assessment: "calm".into(),
        ..Analysed::default()
    };
    machine.analysed(branch("analyse", 5, Ok(answer)), MILLI * 5);
}

fn finish(mut machine: Machine) -> Cycle {
    loop {
        match machine.order(MILLI * 20) {
            Order::Decide => {
                machine.decide();
                machine.decided(MILLI);
            }
            Order::Store { .. } => {
                machine.stored(
                    vec![branch("record pools", 1, Ok(())), branch("write documents", 2, Ok(()))],
                    MILLI * 2,
                );
            }
            Order::Learn { .. } => machine.learned(branch("remember", 1, Ok(())), MILLI),
            Order::End => return machine.end(MILLI * 25),
            other => panic!("{other:?}"),
        }
    }
}

fn recall_all(machine: &mut Machine) {
    let asked = questions(machine);
    let answers = asked.iter().map(|it| branch(&it.name, 4, Ok(Vec::new()))).collect();
    machine.recalled(&asked, answers, branch("targets", 1, Ok(vec!["cache_hit_rate".into()])), MILLI * 4);
}

#[test]
fn a_cycle_in_which_everything_answers_is_complete() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    let asked = questions(&mut machine);
    let names: Vec<_> = asked.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["recall general", "recall pool A (aero)", "recall pattern A (aero)"], "1 + 2N");
    assert_eq!(asked[1].pool.as_deref(), Some("a"));
    assert_eq!(asked[1].since, Some(day().time - Duration::from_secs(7 * 86_400)));
    recall_all(&mut machine);
    analysed(&mut machine, |_| true);
    let cycle = finish(machine);
    assert_eq!(cycle.completeness, Completeness::Complete, "{:?}", cycle.stages);
    assert_eq!((cycle.pools, cycle.interesting, cycle.recalls), (2, 1, 3));
    assert_eq!(cycle.recalls_in_sequence, MILLI * 12);
    assert_eq!(cycle.recorded_date, "2025-08-01");
    assert_eq!(cycle.missed_targets, ["cache_hit_rate"]);
    let rules: Vec<_> = cycle.decisions.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(rules, ["gas_unknown", "high_yield_candidate"]);
    assert_eq!(cycle.decisions[1].inputs, Completeness::Complete);
    let stages: Vec<_> = cycle.stages.iter().map(|it| it.stage.as_str()).collect();
    assert_eq!(stages, ["observe", "recall", "analyse", "decide", "store", "learn"]);
    assert_eq!(cycle.stages[1].branches, 4, "three recalls and the targets");
}

#[test]
fn dead_services_cost_their_stage_and_not_the_cycle() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    let asked = questions(&mut machine);
    let answers = asked.iter().map(|it| branch(&it.name, 4, down())).collect();
    machine.recalled(&asked, answers, branch("targets", 1, Ok(Vec::new())), MILLI * 4);
    let Order::Analyse { .. } = machine.order(MILLI * 10) else { panic!("no analysis") };
    machine.analysed(branch("analyse", 5, down()), MILLI * 5);
    let cycle = finish(machine);
    assert_eq!(cycle.completeness, Completeness::Partial);
    assert_eq!(cycle.stages[1].completeness, Completeness::Failed);
    assert_eq!(cycle.stages[1].failures[0].branch, "recall general");
    assert_eq!(cycle.stages[2].completeness, Completeness::Failed);
    assert_eq!(cycle.decisions[1].inputs, Completeness::Skipped);
}

#[test]
fn one_late_recall_labels_only_its_own_decision() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 40.0), pool("b", 30.0)]));
    let asked = questions(&mut machine);
    let answer = |it: &Question| {
        let late = it.name == "recall pool B (aero)";
        let result = if late { Err(Problem::new("DEADLINE_EXCEEDED", "late")) } else { Ok(Vec::new()) };
        branch(&it.name, 4, result)
    };
    machine.recalled(&asked, asked.iter().map(answer).collect(), branch("targets", 1, Ok(Vec::new())), MILLI);
    analysed(&mut machine, |_| true);
    let cycle = finish(machine);
    assert_eq!(cycle.stages[1].completeness, Completeness::Partial);
    assert_eq!(cycle.stages[1].failures.len(), 1);
    let inputs: Vec<_> = cycle.decisions.iter().map(|it| (it.subject_id.as_str(), it.inputs)).collect();
    assert_eq!(inputs[1..], [("a", Completeness::Complete), ("b", Completeness::Partial)]);
}

#[test]
fn items_the_gateway_lost_are_named() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    recall_all(&mut machine);
    analysed(&mut machine, |seen| seen.id != "b");
    let cycle = finish(machine);
    assert_eq!(cycle.stages[2].completeness, Completeness::Partial);
    assert_eq!(cycle.stages[2].failures[0].branch, "analyse B (aero)");
    assert_eq!(cycle.stages[2].branches, 1);
}

#[test]
fn nothing_observed_fails_the_cycle_and_skips_the_rest() {
    let mut machine = begin(Duration::from_secs(30));
    let nothing = Observed {
        moment: day(),
        pools: branch("source pools", 2, down()),
        gas: Some(branch("source gas", 1, down())),
    };
    observe(&mut machine, nothing);
    assert_eq!(machine.order(MILLI), Order::End);
    assert_eq!(machine.day(), None);
    let cycle = machine.end(MILLI);
    assert_eq!(cycle.completeness, Completeness::Failed);
    assert_eq!(cycle.stages.len(), 6);
    assert_eq!(cycle.stages[0].failures.len(), 2);
    assert!(cycle.stages[1..].iter().all(|it| it.completeness == Completeness::Skipped));
}

#[test]
fn pools_without_gas_and_gas_without_pools_still_decide() {
    for (pools, gas) in [(true, false), (false, true)] {
        let mut machine = begin(Duration::from_secs(30));
        let mut observed = seen(&[pool("a", 5.0), pool("b", 6.0)]);
        if !pools {
            observed.pools = branch("source pools", 1, down());
        }
        if !gas {
            observed.gas = Some(branch("source gas", 1, down()));
        }
        observe(&mut machine, observed);
        recall_all(&mut machine);
        analysed(&mut machine, |_| true);
        let cycle = finish(machine);
        assert_eq!(cycle.completeness, Completeness::Partial);
        let rule = if pools { "nothing_remarkable" } else { "gas_unknown" };
        assert_eq!(cycle.decisions[0].rule, rule);
    }
}

#[test]
fn an_apr_of_zero_everywhere_is_reported_and_not_acted_on() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 0.0), pool("b", 0.0)]));
    recall_all(&mut machine);
    analysed(&mut machine, |_| true);
    let cycle = finish(machine);
    assert_eq!(cycle.input_warnings[0].kind, Kind::AllZero);
    assert_eq!(cycle.decisions[1].rule, "distrust_input");
}

#[test]
fn a_repeated_day_makes_decisions_stale() {
    let mut machine = begin(Duration::from_secs(30));
    let pools = [pool("a", 30.0), pool("b", 5.0)];
    let mut history = History::default();
    history.record(Moment::recorded(Date::constant(2025, 7, 31)), &pools, None);
    assert!(matches!(machine.order(Duration::ZERO), Order::Observe { .. }));
    machine.observed(seen(&pools), &history, &Rule::compile(RULE).unwrap(), MILLI);
    recall_all(&mut machine);
    analysed(&mut machine, |_| true);
    let cycle = finish(machine);
    assert_eq!(cycle.stages[0].completeness, Completeness::Stale);
    assert_eq!(cycle.decisions[1].inputs, Completeness::Stale);
    assert_eq!(cycle.completeness, Completeness::Partial);
}

#[test]
fn what_a_cap_cuts_is_said_and_stays_in_the_history() {
    let mut machine = begin(Duration::from_secs(30));
    let mut pools: Vec<_> = ["a", "b", "c", "d", "e"].map(|id| pool(id, 30.0)).into();
    pools[0].tvl = Some(10.0);
    observe(&mut machine, seen(&pools));
    let mut history = History::default();
    machine.remember_in(&mut history);
    assert_eq!(history.pool("a", Date::constant(2025, 8, 3)).age_days, None, "seen, though cut");
    let cycle = machine.end(MILLI);
    let cuts: Vec<_> = cycle
        .input_warnings
        .iter()
        .filter(|it| it.kind == Kind::Cut)
        .map(|it| (it.affected, it.readings))
        .collect();
    assert_eq!(cuts, [(1, 5), (2, 4)]);
    assert_eq!((cycle.pools, cycle.interesting), (4, 2));
}

#[test]
fn without_time_left_asking_is_skipped_and_storing_is_not() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    let late = Duration::from_millis(29_600);
    assert_eq!(machine.order(late), Order::Decide, "recall and analyse are skipped");
    machine.decide();
    machine.decided(MILLI);
    assert!(matches!(machine.order(late), Order::Store { .. }));
    let cycle = machine.end(late);
    assert_eq!(cycle.stages[1].completeness, Completeness::Skipped);
    assert_eq!(cycle.stages[1].failures[0].problem.code, "DEADLINE_EXCEEDED");
    assert_eq!(cycle.decisions[1].inputs, Completeness::Skipped);
}

#[test]
fn memory_reaches_the_analysis_and_the_decision() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    let asked = questions(&mut machine);
    let candidate = |day: i8| Memory {
        id: day.to_string(),
        category: "pool_behavior".into(),
        content: String::new(),
        pools: vec!["a".into()],
        time: UNIX_EPOCH,
        confidence: 0.9,
        metadata: [("rule".into(), "high_yield_candidate".into()), ("date".into(), day.to_string())].into(),
    };
    let answer = |it: &Question| {
        let own = matches!(it.about, About::Pool(_));
        branch(&it.name, 1, Ok(if own { vec![candidate(1), candidate(2)] } else { Vec::new() }))
    };
    machine.recalled(&asked, asked.iter().map(answer).collect(), branch("targets", 1, Ok(Vec::new())), MILLI);
    let Order::Analyse { observations, .. } = machine.order(MILLI) else { panic!("no analysis") };
    assert_eq!(observations[0].labels["remembered"], "candidate on 2 of the last 7 days");
    assert!(!observations[1].labels.contains_key("remembered"));
    machine.decide();
    assert!(machine.cycle.decisions[1].action.contains("seen on 2 of the last 7 days"));
}

#[test]
fn what_is_learned_and_stored_is_labelled_with_the_recorded_day() {
    let mut machine = begin(Duration::from_secs(30));
    observe(&mut machine, seen(&[pool("a", 30.0), pool("b", 5.0)]));
    recall_all(&mut machine);
    analysed(&mut machine, |_| true);
    machine.decide();
    machine.decided(MILLI);
    let Order::Store { writes, .. } = machine.order(MILLI) else { panic!("nothing to store") };
    assert_eq!((writes.time, writes.pools.len(), writes.gas.len()), (UNIX_EPOCH, 2, 1));
    assert_eq!(writes.documents.len(), 2, "one document for all decisions, one for the cycle");
    assert_eq!(writes.documents[0].fields["recorded_date"], "2025-08-01");
    machine.stored(vec![branch("record pools", 1, Ok(()))], MILLI);
    let Order::Learn { lessons, .. } = machine.order(MILLI) else { panic!("nothing to learn") };
    let ids: Vec<_> = lessons.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["01/market", "01/gas", "01/pool_behavior/a"]);
    assert!(lessons.iter().all(|it| it.time == day().time && it.metadata["date"] == "2025-08-01"));
    assert_eq!(lessons[2].metadata["rule"], "high_yield_candidate");
}
