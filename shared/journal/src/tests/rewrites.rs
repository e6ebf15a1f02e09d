//! A rewrite loses nothing, keeps nothing, and is whole or not there whenever the process ends.

use std::{fs, path::Path, sync::mpsc, thread};

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{NUMBERS, all, get, open, put};
use crate::{Failed, Journal, Options};

const WORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("words");
const MOST: usize = 1 << 20;

fn copy(read: &ReadTransaction, write: &WriteTransaction) -> Result<(), redb::Error> {
    if let Ok(numbers) = read.open_table(NUMBERS) {
        let mut to = write.open_table(NUMBERS)?;
        for row in numbers.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
    }
    if let Ok(words) = read.open_table(WORDS) {
        let mut to = write.open_table(WORDS)?;
        for row in words.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
    }
    Ok(())
}

fn say(key: u64, word: Option<String>) -> impl FnMut(&WriteTransaction) -> Result<(), redb::Error> + Send {
    move |write| {
        let mut words = write.open_table(WORDS)?;
        match &word {
            Some(word) => drop(words.insert(key, word.as_bytes())?),
            None => drop(words.remove(key)?),
        }
        Ok(())
    }
}

/// Copies the files of a folder as they lie there now, as a process that is killed would leave them, and returns what they hold.
fn killed(folder: &Path) -> Vec<(u64, u64)> {
    let left = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
    }
    let journal = Journal::open(left.path().join("j.redb"), &Options::default()).unwrap();
    let names = fs::read_dir(left.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["j.redb"], "what was broken off is removed");
    all(&journal)
}

fn holds(folder: &Path, word: &str) -> bool {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(word.len()).any(|part| part == word.as_bytes()))
}

#[tokio::test]
async fn what_was_removed_is_in_the_file_until_it_is_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    for key in 0..100 {
        journal.commit(say(key, Some("a-word-that-goes".repeat(20)))).await.unwrap();
    }
    journal.commit(say(200, Some("a-word-that-stays".to_owned()))).await.unwrap();
    for key in 0..100 {
        journal.commit(say(key, None)).await.unwrap();
    }
    assert!(holds(folder.path(), "a-word-that-goes"), "redb leaves it");
    let done = journal.rewrite(MOST, copy).unwrap();
    assert!(!holds(folder.path(), "a-word-that-goes") && holds(folder.path(), "a-word-that-stays"));
    assert_eq!(done.again, 0);
}

#[tokio::test]
async fn writes_and_snapshots_go_on_while_the_file_is_rewritten_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    for key in 0..100 {
        journal.commit(put(key, 1)).await.unwrap();
    }
    let (begun, began) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let rewriting = journal.clone();
    let rewrite = thread::spawn(move || {
        rewriting.rewrite(MOST, |read, write| {
            begun.send(()).unwrap();
            let _ = wait.recv();
            copy(read, write)
        })
    });
    began.recv().unwrap();
    for key in 0..300 {
        journal.commit(put(key, 2)).await.unwrap();
        let refused = journal.commit(|write: &WriteTransaction| {
            write.open_table(NUMBERS).map_err(drop)?.insert(7, 9).map_err(drop)?;
            Err::<(), ()>(())
        });
        assert!(matches!(refused.await, Err(Failed::Refused(()))));
    }
    assert!(matches!(journal.rewrite(MOST, copy), Err(Failed::Full)), "one at a time");
    let expected: Vec<_> = (0..300).map(|key| (key, 2)).collect();
    assert_eq!(killed(folder.path()), expected, "killed before the new file has taken its place");
    let (read, reading) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let reader = journal.clone();
    let old = thread::spawn(move || {
        reader.read(|snapshot| {
            read.send(()).unwrap();
            let _ = ends.recv();
            let numbers = snapshot.open_table(NUMBERS)?;
            Ok::<_, redb::Error>(numbers.get(5)?.map(|value| value.value()))
        })
    });
    reading.recv().unwrap();
    drop(go);
    let done = rewrite.join().unwrap().unwrap();
    assert!(done.again >= 300, "{done:?}");
    assert_eq!(killed(folder.path()), expected, "killed right after");
    journal.commit(put(5, 3)).await.unwrap();
    assert_eq!(get(&journal, 5), Some(3));
    drop(end);
    assert_eq!(old.join().unwrap().unwrap(), Some(2), "a snapshot of before is read to its end");
    journal.close().await;
    let journal = open(&folder);
    assert_eq!((get(&journal, 5), all(&journal).len()), (Some(3), 300));
}

#[tokio::test]
async fn a_rewrite_that_cannot_keep_up_or_fails_leaves_the_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    journal.commit(put(1, 1)).await.unwrap();
    let refused = journal.rewrite(MOST, |_, _| Err(()));
    assert!(matches!(refused, Err(Failed::Refused(()))), "{refused:?}");
    let (begun, began) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let rewriting = journal.clone();
    let rewrite = thread::spawn(move || {
        rewriting.rewrite(1000, |read, write| {
            begun.send(()).unwrap();
            let _ = wait.recv();
            copy(read, write)
        })
    });
    began.recv().unwrap();
    for key in 0..10 {
        journal.commit(put(key, 2)).await.unwrap();
    }
    drop(go);
    let overrun = rewrite.join().unwrap();
    assert!(matches!(overrun, Err(Failed::Full)), "{overrun:?}");
    assert_eq!(killed(folder.path()).len(), 10);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    journal.rewrite(MOST, copy).unwrap();
    assert_eq!(all(&journal).len(), 10);
}
