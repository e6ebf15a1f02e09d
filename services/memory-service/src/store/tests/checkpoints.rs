//! A start from a checkpoint finds what a start from every row finds, whatever became of the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::ControlFlow,
    path::Path,
};

use proptest::prelude::*;

use super::{commit, forget, key, open, put, rows};
use crate::{
    shape::Shape,
    store::{
        FILE, FromParts, Image, Mark, Parts, Store, checkpoint, load,
        tables::{CHECKPOINTS, SpaceRow},
    },
};

/// What is known of a space: ids by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Toy(BTreeMap<u64, String>);

impl Image for Toy {
    fn save(&self, to: &mut Parts<'_>) -> io::Result<()> {
        self.0.iter().try_for_each(|(seq, id)| to.put(&seq.to_string(), id.as_bytes()))
    }
}

impl FromParts for Toy {
    fn load(
        _: &Shape,
        parts: &mut dyn FnMut() -> io::Result<Option<(String, Vec<u8>)>>,
    ) -> io::Result<Option<Self>> {
        let mut toy = Self::default();
        while let Some((name, id)) = parts()? {
            let (Ok(seq), Ok(id)) = (name.parse(), String::from_utf8(id)) else { return Ok(None) };
            toy.0.insert(seq, id);
        }
        Ok(Some(toy))
    }
}

/// Makes what is known from the checkpoint, if there is one that fits, and from the rows after it.
fn start(store: &Store, folder: &Path) -> (Toy, Option<Mark>, SpaceRow) {
    let read = |read: &redb::ReadTransaction| {
        let space = load::spaces(read)?.into_iter().find(|(found, _)| *found == key("t")).unwrap().1;
        let noted = read.open_table(CHECKPOINTS)?.get(space.number)?.map(|noted| noted.value());
        let from = noted.and_then(|noted| checkpoint::read::<Toy>(&folder.join(FILE), &space, noted));
        let (mut toy, mark) = from.map_or((Toy::default(), None), |(toy, mark)| (toy, Some(mark)));
        let tables = load::Rows::open(read)?;
        if let Some(mark) = mark {
            tables.removed(space.number, mark.generation, |seq| drop(toy.0.remove(&seq)))?;
        }
        let mut losses = load::Losses::default();
        tables.each(
            &space,
            (mark.map_or(0, |mark| mark.last), u64::MAX),
            &mut losses,
            |seq, memory, _| {
                toy.0.insert(seq, memory.id.to_string());
                ControlFlow::Continue(())
            },
        )?;
        assert_eq!(losses.count(), 0);
        Ok((toy, mark, space))
    };
    store.journal.read(read).map_err(super::super::failed).unwrap()
}

async fn take(store: &Store, folder: &Path) {
    let (_, _, space) = start(store, folder);
    store.log_removals(space.number).await.unwrap();
    let (toy, _, space) = start(store, folder);
    let mark = Mark {
        space: space.number,
        vectors: space.vectors,
        generation: space.generation,
        last: space.next - 1,
    };
    store.name_checkpoint(store.checkpoints().write(mark, &toy).unwrap()).await.unwrap();
}

/// What is there, from every row.
fn whole(store: &Store) -> BTreeSet<String> {
    // A folder without checkpoints.
    let nowhere = tempfile::tempdir().unwrap();
    start(store, nowhere.path()).0.0.into_values().collect()
}

fn checkpoints(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("checkpoints")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_start_reads_the_checkpoint_and_what_came_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b", "c"])).await;
    take(&store, folder.path()).await;
    commit(&store, "t", forget(&["a"])).await;
    commit(&store, "t", put(&["b", "d"])).await;
    let (toy, mark, _) = start(&store, folder.path());
    assert_eq!(mark.unwrap().last, 3, "it begins with the checkpoint");
    assert_eq!(toy.0.into_iter().collect::<Vec<_>>(), [(3, "c".into()), (4, "b".into()), (5, "d".into())]);
    assert_eq!(rows(&store).await[3], 2);
    take(&store, folder.path()).await;
    assert_eq!(rows(&store).await[3], 0, "what the checkpoint knows is forgotten");
    assert_eq!(checkpoints(folder.path()).len(), 1, "and so is the one before");
}

#[tokio::test]
async fn a_checkpoint_that_is_damaged_or_missing_or_of_another_history_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    take(&store, folder.path()).await;
    let path = checkpoints(folder.path()).pop().unwrap();
    let whole_file = fs::read(&path).unwrap();
    let start = || start(&store, folder.path());
    assert!(start().1.is_some());
    for place in 0..whole_file.len() {
        let mut spoilt = whole_file.clone();
        spoilt[place] ^= 0x40;
        fs::write(&path, &spoilt).unwrap();
        assert!(start().1.is_none(), "byte {place}");
        fs::write(&path, &whole_file[..place]).unwrap();
        assert!(start().1.is_none(), "cut at {place}");
    }
    fs::remove_file(&path).unwrap();
    let (toy, mark, _) = start();
    assert_eq!((toy.0.len(), mark), (2, None));
    // A file of the same space and generation, which this store never named.
    fs::write(path.with_file_name(checkpoint::named(1, 77)), &whole_file).unwrap();
    assert!(start().1.is_none());
    checkpoint::tidy(&folder.path().join(FILE), |_| false);
    assert!(checkpoints(folder.path()).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Forget(u8),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12_u8).prop_map(Step::Put),
        2 => (0..12_u8).prop_map(Step::Forget),
        1 => Just(Step::Take),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whenever_checkpoints_are_taken_a_start_finds_what_is_there(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = open(folder.path()).await;
            commit(&store, "t", put(&["first"])).await;
            for step in steps {
                match step {
                    Step::Put(id) => drop(commit(&store, "t", put(&[&id.to_string()])).await),
                    Step::Forget(id) => drop(commit(&store, "t", forget(&[&id.to_string()])).await),
                    Step::Take => take(&store, folder.path()).await,
                }
                let (toy, _, _) = start(&store, folder.path());
                assert_eq!(toy.0.values().cloned().collect::<BTreeSet<_>>(), whole(&store));
                assert_eq!(toy.0.len(), whole(&store).len(), "nothing is there twice");
            }
        });
    }
}
