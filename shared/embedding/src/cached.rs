//! An embedder that keeps what it made.

use std::{collections::HashMap, sync::Arc};

use caching::Cache;
use futures::{FutureExt as _, future::BoxFuture};

use crate::{Embedder, Error};

/// Under what a vector is kept: the BLAKE3 hash of its text, so that an entry's size does not depend on it.
pub type Digest = [u8; 32];

/// Keeps the vectors of another embedder, for texts that come again: questions.
///
/// An entry takes about 4 × dimensions + 150 bytes, whatever its text. Texts that are not held go on in one batch, each once.
/// What fails is not kept.
#[derive(Debug)]
pub struct Cached {
    embedder: Arc<dyn Embedder>,
    vectors: Cache<Digest, Arc<[f32]>>,
}

impl Cached {
    /// Keeps the vectors of `embedder` in `vectors`, which must hold those of no other.
    #[must_use]
    pub fn new(embedder: Arc<dyn Embedder>, vectors: Cache<Digest, Arc<[f32]>>) -> Self {
        Self { embedder, vectors }
    }

    async fn look_up(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let digests: Vec<Digest> =
            texts.iter().map(|text| *blake3::hash(text.as_bytes()).as_bytes()).collect();
        let mut found: HashMap<Digest, Arc<[f32]>> = HashMap::new();
        let mut missing: HashMap<Digest, &str> = HashMap::new();
        for (digest, text) in digests.iter().zip(texts) {
            match self.vectors.get(digest) {
                Some(hit) => drop(found.insert(*digest, hit.value)),
                None => drop(missing.insert(*digest, text)),
            }
        }
        if !missing.is_empty() {
            let (made, texts): (Vec<Digest>, Vec<&str>) = missing.into_iter().unzip();
            for (digest, vector) in made.into_iter().zip(self.embedder.embed(&texts).await?) {
                let vector: Arc<[f32]> = vector.into();
                self.vectors.insert(digest, Arc::clone(&vector));
                found.insert(digest, vector);
            }
        }
        Ok(digests.iter().filter_map(|digest| found.get(digest)).map(|vector| vector.to_vec()).collect())
    }
}

impl Embedder for Cached {
    fn name(&self) -> &str {
        self.embedder.name()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>> {
        self.look_up(texts).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use caching::Cache;
    use clock::Clock;
    use futures::{FutureExt as _, future::BoxFuture};
    use parking_lot::Mutex;

    use super::Cached;
    use crate::{Embedder, Error};

    /// Says how long a text is, notes what it was asked, and fails for an empty text.
    #[derive(Debug, Default)]
    struct Length {
        asked: Mutex<Vec<Vec<String>>>,
    }

    impl Embedder for Length {
        fn name(&self) -> &'static str {
            "length"
        }

        fn dimensions(&self) -> usize {
            1
        }

        fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>> {
            self.asked.lock().push(texts.iter().map(|text| (*text).to_owned()).collect());
            let vectors = texts.iter().map(|text| match text.len() {
                0 => Err(Error::Refused { status: 400 }),
                length => Ok(vec![length as f32]),
            });
            std::future::ready(vectors.collect()).boxed()
        }
    }

    fn cached() -> (Cached, Arc<Length>) {
        let length = Arc::new(Length::default());
        let vectors = Cache::new(10, Duration::from_secs(60), Clock::system());
        (Cached::new(Arc::clone(&length) as Arc<dyn Embedder>, vectors), length)
    }

    #[tokio::test]
    async fn a_text_is_embedded_once() {
        let (cached, length) = cached();
        assert_eq!(cached.embed(&["a", "bb", "a"]).await.unwrap(), [[1.0], [2.0], [1.0]]);
        assert_eq!(cached.embed(&["ccc", "a", "bb"]).await.unwrap(), [[3.0], [1.0], [2.0]]);
        assert_eq!(cached.embed_one("a").await.unwrap(), [1.0]);
        let mut asked = length.asked.lock().clone();
        asked[0].sort_unstable();
        assert_eq!(asked, [vec!["a", "bb"], vec!["ccc"]]);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (cached, length) = cached();
        for _ in 0..2 {
            assert!(matches!(cached.embed(&["a", ""]).await, Err(Error::Refused { status: 400 })));
        }
        assert_eq!(length.asked.lock().len(), 2);
    }
}
