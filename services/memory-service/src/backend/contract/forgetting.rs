//! What is forgotten: gone, back, gone for good.

use std::sync::Arc;

use super::{HOUR, Hand, at, ids, record, records, saying, shape, strings};
use crate::{
    backend::{Backend, Merge, Which},
    error::Error,
    hygiene::settle::Join,
    record::Change,
    upkeep::forgettings::{Cause, State},
};

pub(super) async fn what_is_forgotten_comes_back_until_it_is_purged(hand: Hand<impl Backend>) {
    hand.put([saying("a", "as it was"), records(&["b", "c"])].concat()).await;
    assert_eq!(hand.forget(ids(&["unknown"]), Cause::Named, 2).await, (0, None));
    let (touched, number) = hand.forget(ids(&["a", "unknown", "b"]), Cause::Named, 2).await;
    assert_eq!((touched, number, hand.all().await), (2, Some(1), strings(&["c"])));
    assert_eq!(hand.content("a").await, None);
    let early = hand.store.undo(&hand.key, 9, at(1)).await;
    assert!(matches!(early, Err(Error::NoForgetting)), "{early:?}");
    let restored = hand.store.undo(&hand.key, 1, at(1)).await.unwrap();
    assert_eq!((restored.back, restored.stayed), (2, 0));
    assert_eq!(
        (hand.all().await, hand.content("a").await.as_deref()),
        (strings(&["a", "b", "c"]), Some("as it was"))
    );
    let again = hand.store.undo(&hand.key, 1, at(1)).await;
    assert!(matches!(again, Err(Error::Undone)), "{again:?}");
    let number = hand.forget_ids(&["a", "b", "c"], 2).await;
    let done = hand.store.purge(hand.number(), vec![number], 2).await.unwrap();
    assert_eq!((done.removed, done.ended), (2, 0), "no more at a time than is asked for");
    let over = hand.store.undo(&hand.key, number, at(1)).await;
    assert!(matches!(over, Err(Error::Over)), "a part of it is gone: {over:?}");
    let done = hand.store.purge(hand.number(), vec![number], 2).await.unwrap();
    assert_eq!((done.removed, done.ended), (1, 1));
    assert!(hand.all().await.is_empty());
    hand.put(records(&["d"])).await;
    let number = hand.forget_ids(&["d"], 0).await;
    let gone = hand.store.undo(&hand.key, number, at(0)).await;
    assert!(matches!(gone, Err(Error::Over)), "without a window it is gone at once: {gone:?}");
}

pub(super) async fn an_undo_overwrites_nothing(hand: Hand<impl Backend>) {
    hand.put(records(&["a", "b"])).await;
    let number = hand.forget_ids(&["a", "b"], 2).await;
    hand.put(saying("a", "written since")).await;
    let restored = hand.store.undo(&hand.key, number, at(1)).await.unwrap();
    assert_eq!((restored.back, restored.stayed), (1, 1));
    assert_eq!(
        (hand.all().await, hand.content("a").await.as_deref()),
        (strings(&["a", "b"]), Some("written since"))
    );
    let seqs = hand.seqs().await;
    hand.put(records(&["a"])).await;
    let (touched, _) = hand.forget(Which::Seqs(hand.number(), seqs), Cause::Prune, 2).await;
    assert_eq!((touched, hand.all().await), (1, strings(&["a"])), "what was written since is another");
    let another = Which::Seqs(hand.number() + 1000, hand.seqs().await);
    assert_eq!(
        hand.forget(another, Cause::Prune, 2).await,
        (0, None),
        "nor do numbers of another space count"
    );
}

pub(super) async fn what_is_over_is_due(hand: Hand<impl Backend>) {
    hand.put(records(&["a", "b", "c", "d"])).await;
    for (id, hours) in [("a", 1), ("b", 2), ("c", 3)] {
        hand.forget_ids(&[id], hours).await;
    }
    let space = hand.store.find(&hand.key).unwrap();
    let due = async |now: Option<u64>, listed| {
        let due = hand.store.due(&space, now.map(at), listed).await.unwrap();
        (due.purge, due.unlist)
    };
    assert_eq!(due(Some(0), 9).await, (vec![], vec![]));
    assert_eq!(due(Some(2), 9).await, (vec![1, 2], vec![]));
    assert_eq!(due(None, 9).await.0, [1, 2, 3], "at no time can any come back");
    assert_eq!(hand.store.purge(space.number(), vec![1, 2], 9).await.unwrap().removed, 2);
    let (purge, unlist) = due(Some(2), 1).await;
    assert_eq!((purge, unlist.clone()), (vec![], vec![1]), "of those that are over the last stay listed");
    hand.store.unlist(space.number(), unlist).await.unwrap();
    let listed = hand.store.forgettings(space.number(), 0..u64::MAX, 9).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.number, entry.state, entry.memories)).collect();
    assert_eq!(listed, [(3, State::Undoable, 1), (2, State::Purged, 1)], "the last first");
    let one = hand.store.forgettings(space.number(), 2..4, 1).await.unwrap();
    assert_eq!((one[0].number, one[0].until, one.len()), (3, at(3), 1));
    assert_eq!(hand.forget_ids(&["d"], 1).await, 4, "no number is given twice");
}

pub(super) async fn what_becomes_one_comes_apart_again(hand: Hand<impl Backend>) {
    hand.put([saying("a", "as it was"), records(&["b"])].concat()).await;
    let seqs = hand.seqs().await;
    let merge = |older: u64| Merge {
        change: Arc::new(Change::Put(saying("a", "in one"))),
        joins: vec![Join { at: 0, older: Some(older), parts: vec![record("new")] }],
        at: at(0),
        window: HOUR * 2,
    };
    let joined = hand.store.merge(&hand.key, &shape(4), merge(seqs[0])).await.unwrap().unwrap();
    assert_eq!((joined.done.generation, joined.done.touched, joined.number), (Some(2), 1, 1));
    assert_eq!(hand.seqs().await, [seqs[1], joined.first]);
    assert_eq!(
        (hand.all().await, hand.content("a").await.as_deref()),
        (strings(&["a", "b"]), Some("in one"))
    );
    let moved = hand.store.merge(&hand.key, &shape(4), merge(seqs[0])).await.unwrap();
    assert!(moved.is_none() && hand.generation() == 2, "what it was to go on from is another one");
    let restored = hand.store.undo(&hand.key, joined.number, at(1)).await.unwrap();
    assert_eq!((restored.back, restored.stayed, hand.all().await), (2, 0, strings(&["a", "b", "new"])));
    assert_eq!(hand.content("a").await.as_deref(), Some("as it was"));
}
