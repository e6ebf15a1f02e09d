//! Makes the bytes of what was removed for good really go: from the store's file, and from checkpoints.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Inner, Local};
use crate::{error::Error, index::Index};

impl Local {
    /// Erases what was removed for good if the last time is at least `every` ago; returns whether something was to be erased.
    pub(super) async fn erase_after(&self, now: SystemTime, every: Duration) -> Result<bool, Error> {
        let _turn = self.0.erasing.lock().await;
        if !self.off(move |local| local.store.is_left(now, every)).await? {
            return Ok(false);
        }
        let start = Instant::now();
        self.0.store.begin_erasing().await?;
        for (_, space) in self.0.spaces.all() {
            // Words, names and codes of what is gone lie in a checkpoint until it is made without dead rows.
            if space.has_checkpoint() && space.index().has_dead() {
                let compacted = Arc::clone(&space);
                let compact = move |_: &Inner| {
                    compacted.compact(Index::has_dead);
                    Ok(())
                };
                self.off(compact).await?;
                self.checkpoint_of(space).await?;
            }
        }
        let most = self.0.erase_bytes;
        let done = self.off(move |local| local.store.rewrite(most)).await?;
        {
            // Of spaces that were dropped. One that is being written has no name yet.
            let _turn = self.0.picturing.lock().await;
            self.off(|local| local.store.tidy_checkpoints()).await?;
        }
        self.0.store.end_erasing(now).await?;
        let (before, after) = done.bytes;
        let (took, held, again) = (start.elapsed(), done.held, done.again);
        tracing::info!(before, after, again, ?took, ?held, "what was removed for good is gone from the file");
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc, time::Duration};

    use clock::Clock;
    use telemetry::Telemetry;

    use crate::{
        backend::Backend as _, config::Config, engine::Engine, memory::Draft, query::Query, shape::SpaceKey,
    };

    const VECTOR: [f32; 4] = [0.512_341, -7.331_117, 0.019_187, 3.141_577];

    async fn open(folder: &Path) -> Arc<Engine> {
        let config = Config {
            memory_dir: folder.join("store"),
            memory_snapshot_dir: Some(folder.join("snapshots")),
            memory_checkpoint_min: 1,
            memory_undo_window: Duration::from_hours(24),
            query_timeout: Duration::from_millis(200),
            ..Config::defaults()
        };
        Engine::open(&config, Telemetry::silent("memory-service"), Clock::system()).await.unwrap()
    }

    fn draft(id: &str, content: &str, first: [f32; 4]) -> Draft {
        let mut embedding = vec![0.0; 256];
        embedding[..4].copy_from_slice(&first);
        let (id, pools) = (Some(id.to_owned()), vec![format!("pool-{id}")]);
        Draft { id, pools, content: content.to_owned(), embedding: Some(embedding), ..Draft::default() }
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { files(&path) } else { vec![fs::read(path).unwrap()] })
            .collect()
    }

    /// In how many files under `folder` the bytes are.
    fn found(folder: &Path, bytes: &[u8]) -> usize {
        files(folder).iter().filter(|file| file.windows(bytes.len()).any(|part| part == bytes)).count()
    }

    #[tokio::test]
    async fn what_is_purged_replaced_or_dropped_is_in_no_file_any_more_and_the_rest_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("snapshots")).unwrap();
        fs::write(folder.path().join("snapshots/one.part"), "quokkavelt").unwrap();
        let engine = open(folder.path()).await;
        let (key, other) = (SpaceKey::new("t", ""), SpaceKey::new("t", "other"));
        let vector: Vec<u8> = VECTOR.iter().flat_map(|value| value.to_le_bytes()).collect();
        let rest = (0..50).map(|number| draft(&format!("{number}"), "it stays zanzibarok", [1.0; 4]));
        engine.remember(key.clone(), rest.collect(), None).await.unwrap();
        engine.remember(key.clone(), vec![draft("gone", "the quokkavelt", VECTOR)], None).await.unwrap();
        engine.remember(key.clone(), vec![draft("late", "an oldnumbat", [2.0; 4])], None).await.unwrap();
        engine.remember(key.clone(), vec![draft("late", "a new one", [3.0; 4])], None).await.unwrap();
        engine.remember(other.clone(), vec![draft("d", "a droppedwombat", [4.0; 4])], None).await.unwrap();
        engine.store.checkpoint().await;
        assert_eq!(found(folder.path(), b"quokkavelt"), 2, "in the file and in the checkpoint");
        assert!(found(folder.path(), &vector) == 1 && found(folder.path(), b"pool-gone") == 2);
        assert!(found(folder.path(), b"oldnumbat") > 0 && found(folder.path(), b"droppedwombat") > 0);
        engine.forget(key.clone(), vec!["gone".to_owned()]).await.unwrap();
        engine.drop_space(other).await.unwrap();
        while engine.store.0.store.sweep().await.unwrap() {}
        let now = engine.now();
        assert!(engine.store.erase(now, true).await.unwrap(), "what was replaced and dropped is to go");
        assert!(found(folder.path(), b"oldnumbat") == 0 && found(folder.path(), b"droppedwombat") == 0);
        assert!(found(folder.path(), b"quokkavelt") > 0, "it can still be undone");
        assert!(!engine.store.erase(now, true).await.unwrap(), "nothing is left");
        assert_eq!(engine.purge(&key, None).await.unwrap(), 1);
        // The purge does it by itself: whoever comes second finds nothing to do.
        engine.store.erase(engine.now(), true).await.unwrap();
        for bytes in [&b"quokkavelt"[..], &vector, b"pool-gone"] {
            assert_eq!(found(folder.path(), bytes), 0);
        }
        engine.remember(key.clone(), vec![draft("after", "written after", [5.0; 4])], None).await.unwrap();
        engine.close().await;
        assert_eq!(found(folder.path(), b"quokkavelt"), 0);
        let engine = open(folder.path()).await;
        let answer = engine.recall(&key, Query::newest(100), None).await.unwrap().0;
        assert_eq!((answer.found.len(), engine.stats(&key).memories), (52, 52));
        assert!(found(folder.path(), b"zanzibarok") > 0);
    }

    #[tokio::test]
    async fn the_old_vectors_of_a_re_embedded_namespace_are_in_no_file_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path()).await;
        let key = SpaceKey::new("t", "n");
        let bytes: Vec<u8> = VECTOR.iter().flat_map(|value| value.to_le_bytes()).collect();
        let both = vec![draft("kept", "the quokkavelt", VECTOR), draft("gone", "a numbat", VECTOR)];
        engine.remember(key.clone(), both, None).await.unwrap();
        engine.store.checkpoint().await;
        engine.forget(key.clone(), vec!["gone".to_owned()]).await.unwrap();
        assert!(found(folder.path(), &bytes) > 0);
        engine.reembed(key.clone(), "hashing-64".to_owned(), 0).await.unwrap();
        let is_changed = async {
            while engine.shape(&key).dimensions != 64 || engine.store.vectors().await > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = is_changed => {}
            never = engine.keep_reembedding() => match never {},
        }
        let space = engine.store.find(&key).unwrap();
        let due = engine.store.due(&space, Some(engine.now()), 9).await.unwrap();
        engine.store.purge(space.number(), due.purge, 9).await.unwrap();
        assert!(found(folder.path(), &bytes) > 0, "removing rows removes no bytes");
        assert!(engine.store.erase(engine.now(), true).await.unwrap());
        assert_eq!(found(folder.path(), &bytes), 0);
        let answer = engine.recall(&key, Query::newest(9), None).await.unwrap().0;
        assert_eq!(answer.found.len(), 1);
        engine.close().await;
        assert_eq!((found(folder.path(), &bytes), found(folder.path(), b"numbat")), (0, 0));
        let space = open(folder.path()).await.store.find(&key).unwrap();
        assert_eq!((space.memories(), space.shape().dimensions), (1, 64));
    }

    #[tokio::test]
    async fn upkeep_erases_no_more_often_than_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path()).await;
        let key = SpaceKey::new("t", "");
        let replace = async || {
            for _ in 0..2 {
                engine.remember(key.clone(), vec![draft("a", "a", [1.0; 4])], None).await.unwrap();
            }
        };
        replace().await;
        let (now, hour) = (engine.now(), Duration::from_hours(1));
        assert!(engine.store.erase(now, false).await.unwrap(), "a store that never was does not wait");
        replace().await;
        assert!(!engine.store.erase(now + hour * 23, false).await.unwrap());
        assert!(engine.store.erase(now + hour * 24, false).await.unwrap());
        assert!(!engine.store.erase(now + hour * 99, false).await.unwrap(), "nothing is left");
    }
}
