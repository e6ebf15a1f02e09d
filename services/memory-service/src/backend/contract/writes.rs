//! What is written: kept, numbered, apart from all else.

use std::{ops::ControlFlow, sync::Arc};

use super::{HOUR, Hand, at, ids, memory, nearest, record, records, saying, shape, strings, with};
use crate::{
    backend::{Backend, Forget, View, naive::NAMESPACES},
    error::Error,
    memory::Record,
    query::Query,
    shape::{Metric, Shape, SpaceKey},
    upkeep::forgettings::Cause,
};

pub(super) async fn what_is_written_is_read_found_and_replaced(hand: Hand<impl Backend>) {
    assert!(hand.store.find(&hand.key).is_none());
    let done = hand.put(saying("a", "first")).await;
    assert_eq!((done.generation, done.touched), (Some(1), 0));
    let done = hand.put([saying("a", "second"), records(&["b"])].concat()).await;
    assert_eq!((done.generation, done.touched), (Some(2), 1));
    assert_eq!((hand.content("a").await.as_deref(), hand.content("x").await), (Some("second"), None));
    assert_eq!(hand.all().await, ["a", "b"]);
    let done = hand.put([saying("b", "third"), saying("b", "last")].concat()).await;
    assert_eq!(done.touched, 2, "the one of before, and the one of the write itself");
    assert_eq!(hand.content("b").await.as_deref(), Some("last"), "of an id that is put twice the last stays");
    let space = hand.store.find(&hand.key).unwrap();
    assert_eq!((space.memories(), hand.store.census(&space).categories["c"]), (2, 2));
    let query = Query { include_embedding: true, ..nearest([0.0, 1.0, 0.0, 0.0], 9) };
    hand.put(vec![with(memory("v"), [0.0, 2.0, 0.0, 0.0])]).await;
    let best = hand.ask(query, at(0)).await.found.swap_remove(0);
    assert_eq!((&*best.memory.id, best.score), ("v", 1.0));
    assert_eq!(best.embedding.as_deref(), Some(&[0.0, 2.0, 0.0, 0.0][..]), "a vector stays as it was given");
}

pub(super) async fn what_is_acknowledged_outlives_a_restart<B: Backend>(open: impl AsyncFn() -> Hand<B>) {
    let hand = open().await;
    hand.put(records(&["a", "b", "c"])).await;
    hand.put(saying("a", "later")).await;
    let number = hand.forget_ids(&["b"], 2).await;
    hand.store.close().await;
    let hand = open().await;
    assert_eq!((hand.all().await, hand.generation()), (strings(&["a", "c"]), 3));
    assert_eq!(hand.content("a").await.as_deref(), Some("later"));
    let restored = hand.store.undo(&hand.key, number, at(1)).await.unwrap();
    assert_eq!((restored.back, restored.stayed, restored.done.generation), (1, 0, Some(4)));
    hand.store.close().await;
    let hand = open().await;
    assert_eq!(hand.all().await, ["a", "b", "c"]);
    hand.store.close().await;
}

pub(super) async fn each_write_makes_the_next_generation(hand: Hand<impl Backend>) {
    hand.put(records(&["a"])).await;
    hand.put(records(&["a", "b"])).await;
    assert_eq!(hand.generation(), 2);
    hand.forget(ids(&["unknown"]), Cause::Named, 2).await;
    assert_eq!(hand.generation(), 2, "what changes nothing is no write");
    let number = hand.forget_ids(&["a"], 2).await;
    assert_eq!(hand.generation(), 3);
    hand.store.undo(&hand.key, number, at(1)).await.unwrap();
    assert_eq!(hand.generation(), 4);
    let at_once = futures::future::join_all((0..20).map(|number| {
        let (hand, id) = (&hand, format!("id {number}"));
        async move { hand.put(vec![with(memory(&id), [1.0, 0.0, 0.0, 0.0])]).await.generation.unwrap() }
    }));
    let mut generations = at_once.await;
    generations.sort_unstable();
    assert_eq!(generations, (5..25).collect::<Vec<_>>());
    assert_eq!((hand.generation(), hand.all().await.len()), (24, 22));
}

pub(super) async fn numbers_only_grow(hand: Hand<impl Backend>) {
    hand.put(records(&["a", "b", "c"])).await;
    let first = hand.seqs().await;
    hand.put(records(&["b"])).await;
    let then = hand.seqs().await;
    assert!(first.is_sorted_by(|one, other| one < other) && then.is_sorted_by(|one, other| one < other));
    assert_eq!((first.len(), then.len(), &then[..2]), (3, 3, &[first[0], first[2]][..]));
    assert!(then[2] > first[2], "one that is written again gets a new one");
    hand.forget_ids(&["b"], 0).await;
    hand.put(records(&["d"])).await;
    assert!(hand.seqs().await[2] > then[2], "and no number is given twice");
    let after = move |view: &dyn View| {
        let mut seen = 0;
        view.each(then[0], &mut |_, _| {
            seen += 1;
            ControlFlow::Break(())
        })?;
        Ok((seen, view.memory(then[2])?.is_none(), view.vector(then[2])?.is_none()))
    };
    assert_eq!(hand.store.look(&hand.key, after).await.unwrap(), Some((1, true, true)));
    let nothing = hand.store.look(&SpaceKey::new("nobody", ""), |_| Ok(())).await;
    assert!(matches!(nothing, Ok(None)));
}

pub(super) async fn spaces_never_mix(hand: Hand<impl Backend>) {
    let before = hand.store.memories();
    let (other, stranger) = (hand.in_space("spaces", "other"), hand.in_space("strangers", ""));
    hand.put(saying("a", "mine")).await;
    other.put(saying("a", "of another namespace")).await;
    stranger.put(saying("a", "of another tenant")).await;
    assert_eq!(hand.content("a").await.as_deref(), Some("mine"));
    assert_eq!(stranger.content("a").await.as_deref(), Some("of another tenant"));
    for one in [&hand, &other, &stranger] {
        assert_eq!((one.all().await.len(), one.generation()), (1, 1));
    }
    let number = hand.forget_ids(&["a"], 2).await;
    assert_eq!((other.all().await.len(), hand.store.memories() - before), (1, 2));
    let elsewhere = other.store.undo(&other.key, number, at(1)).await;
    assert!(matches!(elsewhere, Err(Error::NoForgetting)), "{elsewhere:?}");
    assert!(other.store.purge(other.number(), vec![number], 9).await.unwrap().removed == 0);
    assert_eq!(hand.store.undo(&hand.key, number, at(1)).await.unwrap().back, 1);
    let dropped = other.number();
    assert_eq!(other.store.drop_space(&other.key).await.unwrap(), Some((dropped, 1)));
    assert_eq!(other.store.drop_space(&other.key).await.unwrap(), None);
    assert!(other.store.find(&other.key).is_none());
    assert_eq!((hand.all().await.len(), hand.store.memories() - before), (1, 2));
    other.put(records(&["b"])).await;
    assert!(other.number() != dropped && other.all().await == ["b"], "it begins anew, under another number");
    let ours = hand.store.all().into_iter().filter(|(key, _)| *key.tenant == *hand.key.tenant);
    assert_eq!(ours.count(), 2);
}

pub(super) async fn vectors_of_another_shape_are_refused(hand: Hand<impl Backend>) {
    hand.put(records(&["a"])).await;
    let short = Record { embedding: vec![1.0; 3], ..record("c") };
    let mixed = hand.try_put(vec![record("b"), short]).await;
    assert!(matches!(mixed, Err(Error::Dimensions(4))), "{mixed:?}");
    assert_eq!((hand.all().await, hand.generation()), (strings(&["a"]), 1), "nothing of it was written");
    let other = Shape { embedder: "another".to_owned(), ..shape(4) };
    let mixed = hand.store.put(&hand.key, &other, records(&["b"])).await;
    assert!(matches!(mixed, Err(Error::Reembedded)), "of one length, by another maker: {mixed:?}");
    assert_eq!((hand.all().await, hand.generation()), (strings(&["a"]), 1));
    let create = async |key: &SpaceKey, shape: &Shape| hand.store.create(key, shape).await;
    let brought = Shape { embedder: Shape::BROUGHT.to_owned(), dimensions: 2, metric: Metric::Dot };
    let key = SpaceKey::new(Arc::clone(&hand.key.tenant), "brought");
    assert!(create(&key, &brought).await.unwrap());
    assert!(!create(&key, &brought).await.unwrap(), "it is there");
    assert_eq!(hand.store.find(&key).map(|space| space.shape().clone()), Some(brought));
    let another = create(&key, &shape(2)).await;
    assert!(matches!(another, Err(Error::Exists(_))), "{another:?}");
    for number in 2..NAMESPACES {
        let key = SpaceKey::new(Arc::clone(&hand.key.tenant), number.to_string());
        assert!(create(&key, &shape(2)).await.unwrap());
    }
    let many = create(&SpaceKey::new(Arc::clone(&hand.key.tenant), "one too many"), &shape(2)).await;
    assert!(matches!(many, Err(Error::Namespaces)), "{many:?}");
}

pub(super) async fn a_closed_backend_takes_no_writes(hand: Hand<impl Backend>) {
    hand.put(records(&["a"])).await;
    assert!(hand.store.is_open());
    hand.store.close().await;
    assert!(!hand.store.is_open());
    let refused = hand.try_put(records(&["b"])).await;
    assert!(matches!(refused, Err(Error::NotReady)), "{refused:?}");
    let forget = Forget { which: ids(&["a"]), cause: Cause::Named, at: at(0), window: HOUR };
    assert!(matches!(hand.store.forget(&hand.key, forget).await, Err(Error::NotReady)));
}
