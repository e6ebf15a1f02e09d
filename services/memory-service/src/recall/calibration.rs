//! Measures what the planner's kinds of work cost on this machine, on made-up memories, and keeps what was learned.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Means, Wanted, run};
use crate::{
    explain::Node,
    held::Held,
    index::Index,
    memory::{Change, Memory, Record},
    plan::{Costs, Planner, Strategy, Wish},
    query::{Filter, Query, Ranking},
    space::Space,
    stop::Stop,
    vector::{metric::Metric, pool::Pool},
};

/// Name of the file in `memory_dir`.
pub(crate) const FILE: &str = "plan.costs";

/// How long is measured, beside the time that making the memories takes.
const LONGEST: Duration = Duration::from_millis(4);
/// Values of the made-up vectors in all, 2 MiB, and most memories.
const VALUES: (usize, usize) = (1 << 19, 2048);
/// Hours over which the memories are spread.
const HOURS: u64 = 300;

/// Reads what [`keep`] wrote; what is missing or damaged is as nothing was learned.
pub(crate) fn load(file: &Path) -> Costs {
    fs::read_to_string(file).ok().and_then(|text| Costs::parse(&text)).unwrap_or_default()
}

/// Keeps what was learned: a file beside it takes its place as a whole.
///
/// # Errors
/// Those of the disk.
pub(crate) fn keep(file: &Path, costs: Costs) -> io::Result<()> {
    let fresh = file.with_extension("costs.new");
    fs::write(&fresh, costs.to_text())?;
    fs::rename(&fresh, file)
}

/// Runs every plan on made-up memories for a few milliseconds, and lets `planner` learn what its work costs.
pub(crate) fn measure(planner: &Planner, pool: &Pool, dimensions: usize, threads: usize) {
    let (space, held) = made(dimensions);
    // Apart, so that what is learned of made-up filters does not correct estimates of real ones.
    let apart = Planner::new(planner.costs());
    let stop = Arc::new(Stop::at(Instant::now() + LONGEST));
    let now = hour(HOURS);
    for turn in 0.. {
        let (strategy, ranked) = [
            (Strategy::Full, true),
            (Strategy::Direct, true),
            (Strategy::Filtered, true),
            (Strategy::Time, true),
            (Strategy::Time, false),
            (Strategy::Filtered, false),
            (Strategy::Pools, true),
        ][turn % 7];
        let filter = filter(strategy);
        let ranking = if ranked { Ranking::Vector } else { Ranking::Newest };
        let query = Query { ranking, filter, ..Query::newest(10) };
        let vector = ranked.then(|| vector(dimensions, 7));
        let wanted = Wanted { vector, step: Node::new("embed", "", 0.0, None) };
        let wish = Wish { threads: if turn % 2 == 0 { 1 } else { threads }, strategy: Some(strategy) };
        let half_life = Duration::from_hours(24);
        let means =
            Means { planner: &apart, wish, batch: 256, reads: 1024, half_life, pool, contents: &held };
        if run(&space, &query, wanted, now, &means, &stop).is_err() {
            break;
        }
    }
    planner.adopt(apart.costs());
}

fn filter(strategy: Strategy) -> Filter {
    let pools = |pools: &[&str]| pools.iter().map(|pool| (*pool).to_owned()).collect();
    match strategy {
        Strategy::Direct | Strategy::Filtered => {
            Filter { categories: pools(&["even"]), pools: pools(&["0"]), ..Filter::default() }
        }
        Strategy::Pools => Filter { pools: pools(&["0", "1"]), ..Filter::default() },
        Strategy::Time => Filter {
            categories: pools(&["even"]),
            start: Some(hour(HOURS / 4)),
            end: Some(hour(HOURS)),
            ..Filter::default()
        },
        _ => Filter { min_confidence: 0.5, ..Filter::default() },
    }
}

fn made(dimensions: usize) -> (Space, Held) {
    let count = (VALUES.0 / dimensions.max(1)).clamp(1, VALUES.1) as u64;
    let record = |number: u64| {
        let memory = Memory {
            id: number.to_string().into(),
            category: if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
            pools: vec![(number % 3).to_string()],
            time: hour(number * HOURS / count),
            confidence: if number.is_multiple_of(4) { 1.0 } else { 0.0 },
            ..Memory::bare()
        };
        Record::new(memory, vector(dimensions, number))
    };
    let (mut index, mut held) = (Index::new(Metric::Cosine, dimensions, 0), Held::default());
    index.apply(&held.write(Change::Put((0..count).map(record).collect())), 1);
    (Space::apart(index), held)
}

/// Returns a vector like no other's: steps of a multiplicative hash.
#[expect(clippy::cast_precision_loss, reason = "sixteen bits")]
fn vector(dimensions: usize, number: u64) -> Vec<f32> {
    let value = |place: u64| {
        let mixed = (number << 16 | place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        mixed as f32 / 32_768.0 - 1.0
    };
    (0..dimensions as u64).map(value).collect()
}

fn hour(hour: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(hour)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FILE, keep, load, measure};
    use crate::{
        plan::{Costs, Planner},
        vector::pool::Pool,
    };

    #[test]
    fn measuring_changes_the_costs_and_ends() {
        let planner = Planner::default();
        let start = Instant::now();
        measure(&planner, &Pool::new(2, 4).unwrap(), 64, 2);
        assert_ne!(planner.costs(), Costs::default());
        assert!(start.elapsed() < Duration::from_secs(5), "it is bounded: {:?}", start.elapsed());
    }

    #[test]
    fn what_was_learned_outlives_the_process_and_damage_is_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(load(&file), Costs::default());
        let planner = Planner::default();
        measure(&planner, &Pool::new(1, 4).unwrap(), 64, 1);
        keep(&file, planner.costs()).unwrap();
        assert_eq!(load(&file), planner.costs());
        std::fs::write(&file, [0xff, 0]).unwrap();
        assert_eq!(load(&file), Costs::default());
    }
}
