use std::{sync::Arc, time::Duration};

use clock::Clock;
use tokio::sync::oneshot::{self, Receiver};

use super::{Accepting, Command, samples::tests::start};
use crate::{
    Config,
    aggregate::rules::{Rule, Rules},
    batcher::Batcher,
    change::Change,
    document::{Fields, Key, Priority, Value},
    error::Error,
    write::{NewWrite, Receipt},
};

type Told = Receiver<Result<Receipt, Error>>;

/// Accepts beside the task that a batcher has for it, which nobody asks anything.
struct Bench {
    accepting: Accepting,
    _batcher: Batcher,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::new([].into(), Rule::built_in(Duration::ZERO));
        let mut options = Config::defaults().options(rules);
        options.journal_max_writes = 3;
        let batcher = start(folder.path(), options, Clock::system()).await;
        let accepting = Accepting::new(Arc::clone(&batcher.shared));
        Self { accepting, _batcher: batcher, _folder: folder }
    }

    /// Begins a draft that follows the others, with writes.
    fn draft(&mut self, writes: Vec<NewWrite>) -> Result<Told, Error> {
        let (answer, mut told) = oneshot::channel();
        self.accepting.begin();
        self.accepting.write(("t".into(), writes), (answer.into(), None));
        match told.try_recv() {
            Ok(refused) => Err(refused.unwrap_err()),
            Err(_) => Ok(told),
        }
    }

    /// Sends all drafts and waits for the oldest.
    async fn land(&mut self) {
        self.accepting.send().await;
        self.accepting.land().await;
    }

    fn records(&self) -> usize {
        self.accepting.shared.store.records(0, u64::MAX).unwrap().len()
    }
}

fn receipt(sequences: Vec<u64>, pending_documents: u64) -> Receipt {
    Receipt { sequences, pending_documents }
}

fn write(id: &str, key: &str, change: Change) -> NewWrite {
    NewWrite {
        key: Key::new("t", "c", id),
        change,
        priority: Priority::Normal,
        idempotency_key: (!key.is_empty()).then(|| key.into()),
        caller: "".into(),
    }
}

fn half(name: &str) -> Fields {
    Fields::from([(name.to_owned(), Value::Text("x".repeat(600_000)))])
}

fn named(id: &str, key: &str) -> NewWrite {
    write(id, key, Change::set(Fields::new()))
}

#[tokio::test]
async fn a_draft_knows_the_keys_of_those_before_it() {
    let mut bench = Bench::new().await;
    let first = bench.draft(vec![named("a", "k")]).unwrap();
    let second = bench.draft(vec![named("a", "k"), named("b", "")]).unwrap();
    let third = bench.draft(vec![named("a", "k")]).unwrap();
    let reused = bench.draft(vec![named("c", "k")]).unwrap_err();
    assert!(matches!(reused, Error::KeyReused { place: 0 }), "{reused}");
    bench.land().await;
    assert_eq!(first.await.unwrap().unwrap(), receipt(vec![1], 1));
    bench.accepting.stand_still().await;
    assert_eq!(second.await.unwrap().unwrap(), receipt(vec![1, 2], 2));
    assert_eq!((third.await.unwrap().unwrap(), bench.records()), (receipt(vec![1], 2), 2));
}

#[tokio::test]
async fn what_follows_a_draft_that_failed_fails_with_it_and_the_next_is_accepted() {
    let mut bench = Bench::new().await;
    let lost = bench.draft(vec![named("a", "k")]).unwrap();
    let follows = bench.draft(vec![named("a", "k"), named("b", "")]).unwrap();
    // It was never written.
    drop(bench.accepting.drafts.remove(0));
    bench.accepting.send().await;
    let late = bench.draft(vec![named("a", "k")]).unwrap();
    bench.land().await;
    assert!(lost.await.is_err());
    for told in [follows, late] {
        assert!(matches!(told.await.unwrap(), Err(Error::NotReady)));
    }
    assert_eq!((bench.accepting.drafts.len(), bench.records()), (0, 0));
    let next = bench.draft(vec![named("a", "k")]).unwrap();
    bench.land().await;
    assert_eq!((next.await.unwrap().unwrap(), bench.records()), (receipt(vec![1], 1), 1));
}

#[tokio::test]
async fn what_was_refused_is_in_nobodys_way() {
    let large = |name: &str| Change::merge(half(name));
    let mut bench = Bench::new().await;
    let one = bench.draft(vec![write("a", "", large("one"))]).unwrap();
    let refused = bench.draft(vec![write("a", "", large("one")), write("a", "", large("two"))]);
    assert!(matches!(refused, Err(Error::TooLarge { place: 1 })));
    let again = bench.draft(vec![write("a", "", large("one"))]).unwrap();
    bench.accepting.send().await;
    assert_eq!(bench.accepting.drafts.len(), 2, "nobody waits for the second");
    bench.accepting.stand_still().await;
    assert_eq!(one.await.unwrap().unwrap(), receipt(vec![1], 1));
    assert_eq!(again.await.unwrap().unwrap(), receipt(vec![2], 1));
}

#[tokio::test]
async fn what_is_drafted_before_counts_against_the_limits_of_the_journal_and_of_a_document() {
    let mut bench = Bench::new().await;
    bench.draft(vec![write("a", "", Change::merge(half("one")))]).unwrap();
    bench.draft(vec![write("b", "", Change::merge(half("one")))]).unwrap();
    let large = bench.draft(vec![write("a", "", Change::merge(half("two")))]).unwrap_err();
    assert!(matches!(large, Error::TooLarge { place: 0 }), "{large}");
    let full = bench.draft(vec![named("c", ""), named("d", "")]).unwrap_err();
    assert!(matches!(full, Error::Full { setting: "journal_max_writes", most: 3 }), "{full}");
    bench.draft(vec![write("a", "", Change::merge(half("one")))]).unwrap();
}

#[tokio::test]
async fn a_write_waits_for_repeats_of_which_the_disk_keeps_no_trace() {
    let mut bench = Bench::new().await;
    bench.draft(vec![named("a", "k")]).unwrap();
    bench.land().await;
    let repeated = bench.draft(vec![named("a", "k")]).unwrap();
    bench.accepting.send().await;
    // As samples do.
    bench.accepting.begin();
    let (answer, told) = oneshot::channel();
    let (tenant, writes, answer) = ("t".into(), vec![named("b", "")], answer.into());
    bench.accepting.obey(Command::Write { tenant, writes, stored: None, answer }).await;
    assert_eq!(bench.accepting.drafts.len(), 1);
    assert_eq!(repeated.await.unwrap().unwrap(), receipt(vec![1], 1));
    bench.land().await;
    assert_eq!(told.await.unwrap().unwrap(), receipt(vec![2], 2));
}
