use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};
use roaring::RoaringBitmap;

use super::{Text, Unreadable, words};
use crate::index::threads::{Lending, Threads};

const WORDS: [&str; 12] = [
    "apr",
    "gas",
    "pool",
    "weth/usdc",
    "the",
    "0xAB12cd",
    "rising",
    "rises",
    "東京",
    "🚀",
    "pool_behavior",
    "4,250.5",
];

#[derive(Clone, Debug)]
enum Step {
    Put { id: usize, text: String, thread: Option<&'static str>, position: u64 },
    Forget(usize),
    Compact,
    Restart,
    Search { query: String, lending: Lending, wanted: u64 },
}

/// A live memory of the model.
#[derive(Clone, Debug)]
struct Kept {
    row: u32,
    text: String,
    thread: Option<&'static str>,
    position: u64,
}

fn texts() -> impl Strategy<Value = String> {
    vec(select(&WORDS[..]), 1..9).prop_map(|words| words.join(" "))
}

fn steps() -> impl Strategy<Value = Step> {
    let lending = prop_oneof![
        Just(Lending::NOTHING),
        Just(Lending { next: 0.5, second: 0.25 }),
        Just(Lending { next: 0.3, second: 0.0 }),
    ];
    let thread = select(vec![None, Some("t"), Some("u")]);
    prop_oneof![
        6 => (0..12_usize, texts(), thread, 0..6_u64)
            .prop_map(|(id, text, thread, position)| Step::Put { id, text, thread, position }),
        2 => (0..12_usize).prop_map(Step::Forget),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
        4 => (texts(), lending, any::<u64>()).prop_map(|(query, lending, wanted)| Step::Search { query, lending, wanted }),
    ]
}

fn frequencies(text: &str) -> BTreeMap<String, f64> {
    let mut frequencies = BTreeMap::new();
    words::each(text, |word| *frequencies.entry(word.to_owned()).or_default() += 1.0);
    frequencies
}

/// BM25 as it is defined, over all memories from the start.
fn model(
    kept: &BTreeMap<usize, Kept>,
    query: &str,
    lending: Lending,
    wanted: &RoaringBitmap,
) -> BTreeMap<u32, f64> {
    let memories: Vec<(&Kept, BTreeMap<String, f64>)> =
        kept.values().map(|memory| (memory, frequencies(&memory.text))).collect();
    let length = |words: &BTreeMap<String, f64>| words.values().sum::<f64>();
    let mean = memories.iter().map(|(_, words)| length(words)).sum::<f64>() / memories.len() as f64;
    let mut scores = BTreeMap::new();
    for (memory, own) in memories.iter().filter(|(memory, _)| wanted.contains(memory.row)) {
        let mut around: Vec<(f64, &BTreeMap<String, f64>)> = vec![(1.0, own)];
        let mut thread: Vec<_> = memories
            .iter()
            .filter(|(other, _)| memory.thread.is_some() && other.thread == memory.thread)
            .collect();
        thread.sort_by_key(|(other, _)| (other.position, other.row));
        if let Some(at) = thread.iter().position(|(other, _)| other.row == memory.row) {
            for (distance, share) in [(1, lending.next), (2, lending.second)] {
                let sides = [at.checked_sub(distance), Some(at + distance)];
                let sides = sides.into_iter().flatten().filter_map(|at| thread.get(at));
                around.extend(sides.map(|(_, words)| (f64::from(share), words)));
            }
        }
        let shares = around.iter().map(|(share, _)| share).sum::<f64>();
        let size = around.iter().map(|(share, words)| share * length(words)).sum::<f64>() / shares;
        let mut score = 0.0;
        for word in words::of_query(query) {
            let with = memories.iter().filter(|(_, words)| words.contains_key(&word)).count() as f64;
            let rarity = (1.0 + (memories.len() as f64 - with + 0.5) / (with + 0.5)).ln();
            let frequency =
                around.iter().map(|(share, words)| share * words.get(&word).unwrap_or(&0.0)).sum::<f64>();
            score += rarity * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * size / mean));
        }
        if score > 0.0 {
            scores.insert(memory.row, score);
        }
    }
    scores
}

fn forget(kept: Option<Kept>, text: &mut Text, threads: &mut Threads) {
    if let Some(old) = kept {
        text.remove(old.row, &old.text);
        if let Some(thread) = old.thread {
            threads.remove(thread, old.position, old.row);
        }
    }
}

proptest! {
    #[test]
    fn scores_are_those_of_a_naive_model(steps in vec(steps(), 1..60)) {
        let (mut text, mut threads) = (Text::new(), Threads::new());
        let mut kept: BTreeMap<usize, Kept> = BTreeMap::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Put { id, text: said, thread, position } => {
                    forget(kept.remove(&id), &mut text, &mut threads);
                    text.insert(next, &said);
                    if let Some(thread) = thread {
                        threads.insert(thread, position, next);
                    }
                    kept.insert(id, Kept { row: next, text: said, thread, position });
                    // Rows may be left out.
                    next += 1 + u32::from(position == 0);
                }
                Step::Forget(id) => forget(kept.remove(&id), &mut text, &mut threads),
                Step::Compact => {
                    let rows: BTreeSet<u32> = kept.values().map(|memory| memory.row).collect();
                    let places: BTreeMap<u32, u32> = rows.into_iter().zip(0..).collect();
                    text = text.compacted(|row| places.get(&row).copied());
                    threads = Threads::new();
                    for memory in kept.values_mut() {
                        memory.row = places[&memory.row];
                        if let Some(thread) = memory.thread {
                            threads.insert(thread, memory.position, memory.row);
                        }
                    }
                    next = places.len() as u32;
                }
                Step::Restart => text = Text::from_bytes(&text.to_bytes()).unwrap(),
                Step::Search { query, lending, wanted } => {
                    let wanted: RoaringBitmap =
                        kept.iter().filter(|(id, _)| wanted >> *id & 1 == 1).map(|(_, memory)| memory.row).collect();
                    let search = text.search(&query);
                    let found = search.scores(&wanted, threads.links(), lending);
                    let expected = model(&kept, &query, lending, &wanted);
                    let rows: Vec<u32> = found.iter().map(|(row, _)| *row).collect();
                    prop_assert_eq!(rows, expected.keys().copied().collect::<Vec<_>>());
                    let telling = search.telling(threads.links(), lending);
                    for (row, score) in found {
                        let told = f64::from(telling.scores[row as usize]);
                        let most = (told + f64::from(telling.unread)) * (1.0 + 1e-5);
                        prop_assert!((told * (1.0 - 1e-5)..=most).contains(&f64::from(score)), "{told} {score} {most}");
                        let difference = (f64::from(score) - expected[&row]).abs();
                        prop_assert!(difference <= 1e-5 * expected[&row], "{score} {}", expected[&row]);
                        prop_assert!(score <= search.most());
                    }
                }
            }
        }
    }

    #[test]
    fn a_damaged_index_is_refused_or_read_without_failing(said in vec(texts(), 1..20), at: usize, value: u8) {
        let mut text = Text::new();
        said.iter().zip(0..).for_each(|(said, row)| text.insert(row, said));
        let mut bytes = text.to_bytes();
        prop_assert_eq!(Text::from_bytes(&bytes[..at % bytes.len()]).unwrap_err(), Unreadable);
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(text) = Text::from_bytes(&bytes) {
            let wanted: RoaringBitmap = (0..said.len() as u32).collect();
            text.search("apr gas pool").scores(&wanted, Threads::new().links(), Lending::NOTHING);
        }
    }
}

#[test]
fn few_rows_score_the_same_among_many_postings() {
    let mut text = Text::new();
    (0..20_000).for_each(|row| text.insert(row, if row % 3 == 0 { "gas rises" } else { "pool of gas" }));
    let (search, threads) = (text.search("is gas rising"), Threads::new());
    let all: BTreeMap<u32, f32> =
        search.scores(&(0..20_000).collect(), threads.links(), Lending::NOTHING).into_iter().collect();
    let few: RoaringBitmap = [3, 4, 7_777, 19_998].into_iter().collect();
    for (row, score) in search.scores(&few, threads.links(), Lending::NOTHING) {
        assert_eq!(all[&row].to_bits(), score.to_bits());
    }
    assert_eq!(all.len(), 20_000);
    assert_eq!(search.postings(), 20_000 + 6_667);
}

#[test]
fn a_search_does_not_see_later_writes() {
    let mut text = Text::new();
    text.insert(0, "gas");
    let search = text.search("gas");
    text.insert(1, "gas");
    text.remove(0, "gas");
    let threads = Threads::new();
    let found = search.scores(&RoaringBitmap::from_iter([0, 1]), threads.links(), Lending::NOTHING);
    assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0]);
    assert_eq!(text.search("nowhere the").len(), 0);
}

#[test]
fn an_index_takes_little_more_than_its_new_words() {
    let mut text = Text::new();
    for row in 0..10_000 {
        text.insert(
            row,
            &format!("pool weth/usdc at 0x{row:040x} paid {}.5 percent, as on every other day", row % 90),
        );
    }
    // Twelve postings, a length, and an address of 42 bytes with its place.
    let bytes = text.bytes() / 10_000;
    assert!(bytes < 160, "{bytes} bytes a memory");
}
