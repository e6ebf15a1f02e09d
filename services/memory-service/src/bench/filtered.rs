//! `memory.filtered`: recalls among few candidates, which have to do with the query or not.

use roaring::RoaringBitmap;
use serde_json::{Map, Value, json};

use super::{Error, Measured, pool, recall, truth, vectors::Clustered};

const COUNT: usize = 50_000;
const CLUSTERS: usize = 224;
/// Candidates a filter keeps, with what that is called.
const KEPT: [(&str, usize); 4] =
    [("50", COUNT / 2), ("10", COUNT / 10), ("1", COUNT / 100), ("0.1", COUNT / 1000)];
/// Recalls of a filter.
const RECALLS: usize = 100;
const WARM_UP: usize = 5;
const SEED: u64 = 6;

/// Which candidates a filter keeps.
#[derive(Clone, Copy)]
enum Relation {
    /// Those of the clusters nearest to the query.
    Related,
    /// Any.
    Random,
    /// Those of the clusters farthest from the query: it is about something else.
    Unrelated,
}

/// Measures one round; returns the p50 of the slowest filter in milliseconds, and one object a filter.
///
/// # Errors
/// [`Error`] if threads cannot be started or a recall fails.
pub fn measure() -> Result<(f64, Value), Error> {
    let pool = pool()?;
    let mut clustered = Clustered::new(COUNT, CLUSTERS, SEED);
    let rows = clustered.arena().rows().clone();
    let (mut details, mut worst) = (Map::new(), 0.0_f64);
    for (percent, kept) in KEPT {
        let relations = [
            ("related", Relation::Related),
            ("random", Relation::Random),
            ("unrelated", Relation::Unrelated),
        ];
        for (name, relation) in relations {
            let mut questions = Vec::new();
            for _ in 0..WARM_UP + RECALLS {
                let cluster = clustered.pick(CLUSTERS);
                let query = clustered.query(cluster);
                questions.push((relation.candidates(&mut clustered, &query, kept), query));
            }
            // One after the other: a look at every full vector in between would push the codes out of the processor's cache.
            let answers: Result<Vec<_>, Error> = questions
                .iter()
                .map(|(candidates, query)| recall(&rows, candidates, query, &pool, &clustered.vectors))
                .collect();
            let mut measured = Measured::default();
            for ((candidates, query), (time, best)) in questions.iter().zip(answers?).skip(WARM_UP) {
                measured.note(time, &best, &truth(&clustered, candidates, query));
            }
            let p50 = measured.ms(0.5);
            worst = worst.max(p50);
            let figures = json!({
                "p50_ms": p50,
                "p95_ms": measured.ms(0.95),
                "recall_at_10": measured.recall(),
                "plan": "filtered scan",
            });
            details.insert(format!("{percent} % {name}"), figures);
        }
    }
    Ok((worst, details.into()))
}

impl Relation {
    /// Returns `kept` candidates.
    fn candidates(self, clustered: &mut Clustered, query: &[f32], kept: usize) -> RoaringBitmap {
        let number = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
        let mut clusters = match self {
            Self::Related | Self::Unrelated => clustered.nearest_clusters(query),
            Self::Random => {
                let mut rows = RoaringBitmap::new();
                while rows.len() < kept as u64 {
                    rows.insert(number(clustered.pick(COUNT)));
                }
                return rows;
            }
        };
        if matches!(self, Self::Unrelated) {
            clusters.reverse();
        }
        let rows = clusters.into_iter().flat_map(|cluster| (cluster..COUNT).step_by(CLUSTERS));
        rows.take(kept).map(number).collect()
    }
}
