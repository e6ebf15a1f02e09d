//! What is asked: filters, order, time.

use std::time::SystemTime;

use super::{Hand, at, memory, named, nearest, record, strings, with};
use crate::{
    backend::{Backend, Which},
    memory::{Memory, Place},
    query::{Filter, Query},
    record::Record,
    upkeep::forgettings::Cause,
};

pub(super) async fn every_part_of_a_filter_decides(hand: Hand<impl Backend>) {
    let place = |thread: &str| Some(Place { thread: thread.to_owned(), position: 1 });
    let (pools, tags) = (strings(&["weth", "usdc"]), strings(&["gas", "night"]));
    let full = Memory { pools, tags, agent: "scout".into(), place: place("log"), ..memory("full") };
    let made = [
        full,
        Memory { category: "d".into(), ..memory("category") },
        Memory { pools: strings(&["weth"]), ..memory("pool") },
        Memory { tags: strings(&["night"]), ..memory("tag") },
        Memory { agent: "other".into(), ..memory("agent") },
        Memory { place: place("talk"), ..memory("thread") },
        Memory { time: at(5), ..memory("later") },
        Memory { confidence: 0.5, ..memory("sure") },
    ];
    hand.put(made.into_iter().map(|memory| with(memory, [1.0, 0.0, 0.0, 0.0])).collect()).await;
    let none = Filter::default;
    let cases = [
        (Filter { categories: strings(&["d"]), ..none() }, &["category"][..]),
        (Filter { categories: strings(&["d", "unknown"]), ..none() }, &["category"]),
        (Filter { pools: strings(&["weth"]), ..none() }, &["full", "pool"]),
        (Filter { pools: strings(&["usdc", "weth"]), ..none() }, &["full", "pool"]),
        (Filter { tags: strings(&["gas"]), ..none() }, &["full"]),
        (Filter { tags: strings(&["gas", "night"]), ..none() }, &["full", "tag"]),
        (Filter { agents: strings(&["other", "scout"]), ..none() }, &["agent", "full"]),
        (Filter { threads: strings(&["talk"]), ..none() }, &["thread"]),
        (Filter { start: Some(at(5)), ..none() }, &["later"]),
        (
            Filter { start: Some(at(0)), end: Some(at(5)), categories: strings(&["d"]), ..none() },
            &["category"],
        ),
        (Filter { start: Some(at(6)), ..none() }, &[]),
        (Filter { min_confidence: 0.5, ..none() }, &["sure"]),
        (Filter { min_confidence: 0.51, ..none() }, &[]),
        (Filter { pools: strings(&["weth"]), tags: strings(&["night"]), ..none() }, &["full"]),
        (Filter { pools: strings(&["unknown"]), ..none() }, &[]),
    ];
    for (filter, expected) in cases {
        let mut found = hand.found(filter.clone(), at(9)).await;
        found.sort();
        assert_eq!(found, expected, "{filter:?}");
        let best = hand.ask(Query { filter, ..nearest([1.0, 0.0, 0.0, 0.0], 100) }, at(9)).await;
        assert_eq!(best.found.len(), expected.len());
    }
}

pub(super) async fn the_best_come_first_and_never_fewer_than_there_are(hand: Hand<impl Backend>) {
    let angled = |id: usize, angle: usize| {
        let time = at((id % 3) as u64);
        let vectors =
            [[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [-3.0, 0.0, 0.0, 0.0]];
        with(Memory { time, ..memory(&format!("{angle}-{id:02}")) }, vectors[angle])
    };
    let all: Vec<Record> = (0..60).map(|number| angled(number, number % 4)).collect();
    hand.put(all.clone()).await;
    let mut expected: Vec<(usize, SystemTime, usize)> =
        all.iter().enumerate().map(|(at, record)| (at % 4, record.memory.time, at)).collect();
    expected.sort_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)).then(other.2.cmp(&one.2)));
    let expected: Vec<&str> = expected.iter().map(|(_, _, at)| &*all[*at].memory.id).collect();
    for limit in [1, 7, 15, 16, 59, 60, 100] {
        let answer = hand.ask(nearest([1.0, 0.0, 0.0, 0.0], limit), at(9)).await;
        assert_eq!(answer.candidates, 60);
        assert_eq!(named(&answer), expected[..limit.min(60)], "{limit}");
        assert!(answer.found.is_sorted_by(|one, other| one.score >= other.score));
    }
    let newest = named(&hand.ask(Query::newest(20), at(9)).await);
    let last: Vec<&str> =
        all.iter().rev().filter(|one| one.memory.time == at(2)).map(|one| &*one.memory.id).collect();
    assert_eq!(newest, last, "of one time what was written last comes first");
}

pub(super) async fn what_has_expired_is_found_no_more(hand: Hand<impl Backend>) {
    let until =
        |id: &str, hours| with(Memory { expires: Some(at(hours)), ..memory(id) }, [1.0, 0.0, 0.0, 0.0]);
    hand.put(vec![until("b", 2), until("a", 1), record("c")]).await;
    assert_eq!(hand.found(Filter::default(), at(0)).await.len(), 3);
    assert_eq!(hand.found(Filter::default(), at(1)).await, ["c", "b"], "from its very moment on");
    assert_eq!(named(&hand.ask(nearest([1.0, 0.0, 0.0, 0.0], 9), at(2)).await), ["c"]);
    let space = hand.store.find(&hand.key).unwrap();
    let due = hand.store.due(&space, Some(at(2)), 9).await.unwrap();
    assert_eq!(due.expired, [2, 1], "the first to expire first");
    let (touched, number) = hand.forget(Which::Seqs(space.number(), due.expired), Cause::Expired, 2).await;
    assert_eq!(touched, 2);
    hand.store.undo(&hand.key, number.unwrap(), at(1)).await.unwrap();
    assert_eq!(hand.found(Filter::default(), at(99)).await.len(), 3, "what had expired comes back to stay");
}
