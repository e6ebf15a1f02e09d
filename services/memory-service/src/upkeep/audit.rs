//! A report on what is in a space: what is there twice, what nobody asks for, what hangs in the air.
//!
//! One pass takes note of every memory and keeps a few bytes of each; what may be near duplicates is then compared pair by pair, no more
//! than was allowed. Nothing here counts as an access.

mod pairs;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::accounts::Account;
use crate::{
    hygiene::{
        claims::Claims,
        form::{self, Print},
        near::{self, Sameness},
    },
    memory::Memory,
};
use pairs::Blocks;

/// What an audit looks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scope {
    /// The agent clock's now.
    pub(crate) now: SystemTime,
    /// A memory is idle that neither happened nor was recalled for so long.
    pub(crate) idle: Duration,
    /// Likeness from which two memories are compared, -1 to 1.
    pub(crate) threshold: f32,
    /// Most pairs compared.
    pub(crate) pairs: usize,
    /// Most examples of each finding.
    pub(crate) examples: usize,
}

/// Something found, with examples by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How often.
    pub(crate) count: u64,
    /// Some of it.
    pub(crate) examples: Vec<Vec<Arc<str>>>,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Live memories.
    pub(crate) memories: u64,
    /// Memories that say what another one says, spelling apart; an example is the first one and the copy.
    pub(crate) exact: Finding,
    /// Pairs that say the same in nearly the same words.
    pub(crate) near: Finding,
    /// Pairs that are alike and that only their words tell apart: for somebody to look at.
    pub(crate) alike: Finding,
    /// Pairs compared.
    pub(crate) compared: u64,
    /// Whether there were more pairs to compare than allowed.
    pub(crate) cut: bool,
    /// Memories that no recall ever returned.
    pub(crate) unasked: Finding,
    /// Memories that neither happened nor were recalled for long.
    pub(crate) idle: Finding,
    /// Subjects and fields with more than one value; an example is all that state one.
    pub(crate) contradictions: Finding,
    /// Memories whose source is the made id of a memory that is not there; an example is the memory and the id.
    pub(crate) sources: Finding,
    /// Memories that are alone in their thread.
    pub(crate) alone: Finding,
    /// Threads in which positions are missing; an example is the thread. Only of threads that are counted through, at least half of whose
    /// positions are taken: times are positions too, and have no gaps.
    pub(crate) gaps: Finding,
    /// Memories that have expired and are still on disk.
    pub(crate) expired: Finding,
}

/// An audit on its way.
#[derive(Debug)]
pub(crate) struct Audit {
    scope: Scope,
    report: Report,
    /// The first memory of each print.
    prints: HashMap<Print, Arc<str>>,
    ids: HashSet<Print>,
    /// Sources that have the form of a made id, and whose they are.
    sources: Vec<(Arc<str>, Arc<str>)>,
    threads: HashMap<Box<str>, Thread>,
    claims: Claims,
    claimants: HashMap<u64, Arc<str>>,
    blocks: Blocks,
}

#[derive(Debug)]
struct Thread {
    first: Arc<str>,
    positions: Vec<u64>,
}

impl Audit {
    /// Begins an audit.
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            report: Report::default(),
            prints: HashMap::new(),
            ids: HashSet::new(),
            sources: Vec::new(),
            threads: HashMap::new(),
            claims: Claims::default(),
            claimants: HashMap::new(),
            blocks: Blocks::default(),
        }
    }

    /// Takes note of the memory under `seq`.
    pub(crate) fn see(&mut self, seq: u64, memory: &Memory, account: Account) {
        let Scope { now, idle, examples, .. } = self.scope;
        let id = &memory.id;
        if memory.expires.is_some_and(|at| at <= now) {
            self.report.expired.add(examples, || vec![Arc::clone(id)]);
            return;
        }
        self.report.memories += 1;
        self.ids.insert(form::print([&**id]));
        if account.recalls == 0 {
            self.report.unasked.add(examples, || vec![Arc::clone(id)]);
        }
        let last = account.recalled.unwrap_or(memory.time).max(memory.time);
        if now.duration_since(last).is_ok_and(|age| age >= idle) {
            self.report.idle.add(examples, || vec![Arc::clone(id)]);
        }
        for source in memory.sources.iter().filter(|source| is_made(source)) {
            self.sources.push((Arc::clone(id), source.as_str().into()));
        }
        if let Some(place) = &memory.place {
            let new = || Thread { first: Arc::clone(id), positions: Vec::new() };
            let thread = self.threads.entry(place.thread.as_str().into()).or_insert_with(new);
            thread.positions.push(place.position);
        }
        if let Some(claim) = &memory.claim {
            self.claims.insert(seq, claim);
            self.claimants.insert(seq, Arc::clone(id));
        }
        match self.prints.get(&form::memory(memory)) {
            Some(first) => self.report.exact.add(examples, || vec![Arc::clone(first), Arc::clone(id)]),
            None => {
                self.prints.insert(form::memory(memory), Arc::clone(id));
                self.blocks.add(seq, memory);
            }
        }
    }

    /// Returns the pairs of memories, by their numbers, that may be near duplicates; they are to be compared. Copies of another one are none.
    pub(crate) fn pairs(&mut self) -> Vec<(u64, u64)> {
        let (pairs, cut) = std::mem::take(&mut self.blocks).pairs(self.scope.pairs);
        self.report.cut = cut;
        pairs
    }

    /// Compares two memories whose vectors have this likeness.
    pub(crate) fn compare(&mut self, one: &Memory, other: &Memory, likeness: f32) {
        self.report.compared += 1;
        let finding = match near::compare(one, other, likeness, self.scope.threshold) {
            Sameness::Near => &mut self.report.near,
            Sameness::Alike => &mut self.report.alike,
            Sameness::Exact | Sameness::Apart(_) => return,
        };
        finding.add(self.scope.examples, || vec![Arc::clone(&one.id), Arc::clone(&other.id)]);
    }

    /// Ends the audit.
    pub(crate) fn end(mut self) -> Report {
        let (report, examples) = (&mut self.report, self.scope.examples);
        for (id, source) in self.sources {
            if !self.ids.contains(&form::print([&*source])) {
                report.sources.add(examples, || vec![id, source]);
            }
        }
        let mut threads: Vec<_> = self.threads.into_iter().collect();
        threads.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, thread) in threads {
            if thread.positions.len() == 1 {
                report.alone.add(examples, || vec![thread.first]);
            } else if has_gaps(thread.positions) {
                report.gaps.add(examples, || vec![name.into()]);
            }
        }
        let claimants = &self.claimants;
        self.claims.contradictions(
            |_| true,
            |seqs| {
                let ids = || seqs.iter().filter_map(|seq| claimants.get(seq).cloned()).take(16).collect();
                report.contradictions.add(examples, ids);
            },
        );
        self.report
    }
}

impl Finding {
    fn add(&mut self, most: usize, example: impl FnOnce() -> Vec<Arc<str>>) {
        self.count += 1;
        if self.examples.len() < most {
            self.examples.push(example());
        }
    }
}

/// Returns true if a source has the form of the ids that the service makes.
fn is_made(source: &str) -> bool {
    ulid::Ulid::from_string(source).is_ok_and(|id| id.to_string() == source)
}

fn has_gaps(mut positions: Vec<u64>) -> bool {
    positions.sort_unstable();
    positions.dedup();
    let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return false };
    let (span, taken) = ((last - first).saturating_add(1), positions.len() as u64);
    span > taken && span <= taken * 2
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Audit, Finding, Report, Scope};
    use crate::{
        memory::{Claim, Memory, Place},
        upkeep::accounts::Account,
    };

    fn at(days: u32) -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(24) * days
    }

    fn scope() -> Scope {
        let idle = Duration::from_hours(24 * 30);
        Scope { now: at(100), idle, threshold: 0.9, pairs: 100, examples: 2 }
    }

    fn memory(id: &str, content: &str) -> Memory {
        Memory { id: id.into(), content: content.into(), time: at(99), ..Memory::bare() }
    }

    /// Audits memories that are all alike.
    fn audit(scope: Scope, memories: &[(Memory, Account)]) -> Report {
        let mut audit = Audit::new(scope);
        for (seq, (memory, account)) in memories.iter().enumerate() {
            audit.see(seq as u64, memory, *account);
        }
        for (one, other) in audit.pairs() {
            audit.compare(&memories[one as usize].0, &memories[other as usize].0, 0.95);
        }
        audit.end()
    }

    fn fresh(memories: Vec<Memory>) -> Report {
        let memories: Vec<_> = memories.into_iter().map(|memory| (memory, Account::default())).collect();
        audit(scope(), &memories)
    }

    fn found(finding: &Finding) -> (u64, Vec<Vec<&str>>) {
        let examples = finding.examples.iter().map(|ids| ids.iter().map(|id| &**id).collect());
        (finding.count, examples.collect())
    }

    #[test]
    fn copies_near_copies_and_what_is_alike_are_told_apart() {
        let report = fresh(vec![
            memory("a", "gas is low on sunday nights"),
            memory("b", "Gas is  low on sunday nights"),
            memory("c", "the gas is low on sunday nights."),
            memory("d", "gas is cheap on sunday nights"),
            memory("e", "the apr of the pool was 25"),
            memory("f", "the apr of the pool was 250"),
        ]);
        assert_eq!(found(&report.exact), (1, vec![vec!["a", "b"]]));
        assert_eq!(found(&report.near), (1, vec![vec!["a", "c"]]));
        assert_eq!(report.alike.count, 2);
        assert_eq!((report.memories, report.cut), (6, false));
    }

    #[test]
    fn no_more_pairs_are_compared_than_allowed() {
        let many =
            (0..50).map(|n| (memory(&n.to_string(), &format!("gas low sunday {n}")), Account::default()));
        let report = audit(Scope { pairs: 20, ..scope() }, &many.collect::<Vec<_>>());
        assert_eq!((report.compared, report.cut), (20, true));
    }

    #[test]
    fn what_nobody_asks_for_is_found_and_what_was_recalled_lately_is_not() {
        let old = |id: &str, recalled| {
            (Memory { time: at(10), ..memory(id, id) }, Account { recalls: 1, recalled, said: 1 })
        };
        let report = audit(scope(), &[old("a", None), old("b", Some(at(90))), old("c", Some(at(70)))]);
        assert_eq!(found(&report.idle), (2, vec![vec!["a"], vec!["c"]]));
    }

    #[test]
    fn what_hangs_in_the_air_is_found() {
        let (there, gone) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ");
        let sourced = |id: &str, source: &str| Memory { sources: vec![source.into()], ..memory(id, id) };
        let placed = |id: &str, thread: &str, position| Memory {
            place: Some(Place { thread: thread.into(), position }),
            ..memory(id, id)
        };
        let report = fresh(vec![
            sourced(there, "etherscan"),
            sourced("b", there),
            sourced("c", gone),
            placed("d", "lonely", 5),
            placed("e", "counted", 1),
            placed("f", "counted", 2),
            placed("g", "counted", 4),
            placed("h", "times", 1_000),
            placed("i", "times", 9_000_000_000),
            placed("j", "whole", 1),
            placed("k", "whole", 2),
        ]);
        assert_eq!(found(&report.sources), (1, vec![vec!["c", gone]]));
        assert_eq!(found(&report.alone), (1, vec![vec!["d"]]));
        assert_eq!(found(&report.gaps), (1, vec![vec!["counted"]]));
    }

    #[test]
    fn contradictions_and_what_has_expired_are_found() {
        let states = |id: &str, value: &str| {
            let claim = Some(Claim { subject: "pool a".into(), field: "fee".into(), value: value.into() });
            Memory { claim, ..memory(id, id) }
        };
        let over = Memory { expires: Some(at(100)), ..states("c", "9%") };
        let report = fresh(vec![states("a", "1%"), states("b", "2%"), over, memory("d", "d")]);
        assert_eq!(found(&report.contradictions), (1, vec![vec!["a", "b"]]));
        assert_eq!(found(&report.expired), (1, vec![vec!["c"]]));
        assert_eq!(report.memories, 3);
    }
}
