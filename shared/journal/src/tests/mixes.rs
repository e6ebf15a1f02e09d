//! Any mix of writes that are kept, refuse and panic does what it would do one after another.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use redb::ReadableTable as _;

use super::{NUMBERS, all, hold, join_all, open_with};
use crate::{Failed, Options};

/// What a write does after it has added to a number.
#[derive(Clone, Copy, Debug)]
enum End {
    Keep,
    Refuse,
    Panic,
    /// Refuses if the number is odd by then: depends on every write before it.
    Odd,
}

fn ends() -> impl Strategy<Value = Vec<(u64, u64, End)>> {
    let end = prop_oneof![
        6 => Just(End::Keep), 3 => Just(End::Refuse), 1 => Just(End::Panic), 3 => Just(End::Odd)
    ];
    vec((0..5_u64, 1..4_u64, end), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn refusals_and_panics_change_nothing_and_order_is_kept(writes in ends(), batch in 1..400_usize) {
        // A panic that is expected would fill the output.
        std::panic::set_hook(Box::new(|_| {}));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (results, rows, after) = runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let journal = open_with(&folder, &Options { batch, ..Options::default() });
            let go = hold(&journal).await;
            let futures = writes.iter().copied().map(|(key, add, end)| {
                journal.commit(move |transaction| {
                    let mut table = transaction.open_table(NUMBERS).unwrap();
                    let value = table.get(key).unwrap().map_or(0, |value| value.value()) + add;
                    table.insert(key, value).unwrap();
                    match end {
                        End::Keep => Ok(value),
                        End::Odd if value.is_multiple_of(2) => Ok(value),
                        End::Refuse | End::Odd => Err(value),
                        End::Panic => panic!("expected"),
                    }
                })
            });
            let (results, ()) = tokio::join!(join_all(futures.collect()), async { drop(go) });
            let rows = all(&journal);
            journal.close().await;
            (results, rows, super::numbers(&folder.path().join("j.redb")))
        });
        drop(std::panic::take_hook());
        let mut model = BTreeMap::new();
        for ((key, add, end), result) in writes.iter().zip(results) {
            let value = model.get(key).copied().unwrap_or(0) + add;
            let kept = match end {
                End::Keep => true,
                End::Odd => value.is_multiple_of(2),
                End::Refuse | End::Panic => false,
            };
            match (end, result) {
                (_, Ok(seen)) => prop_assert!(kept && seen == value, "{seen} for {value}"),
                (End::Panic, Err(Failed::Panicked)) => {}
                (End::Refuse | End::Odd, Err(Failed::Refused(seen))) => {
                    prop_assert!(!kept && seen == value, "{seen} for {value}");
                }
                (_, Err(other)) => prop_assert!(false, "{other:?}"),
            }
            if kept {
                model.insert(*key, value);
            }
        }
        prop_assert_eq!(&rows, &model.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(rows, after);
    }
}
