//! Every space that holds memories, and those that were dropped.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    index::Index,
    known::Total,
    shape::{Shape, SpaceKey},
    space::Space,
};

/// The spaces of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    listed: RwLock<Listed>,
    total: Total,
}

#[derive(Debug, Default)]
struct Listed {
    spaces: HashMap<SpaceKey, Arc<Space>>,
    /// Numbers of dropped ones: a write to one of them may still be on its way here.
    dropped: HashSet<u32>,
}

impl Spaces {
    /// Takes a space that was loaded, whose vectors lie in the set `vectors`, and returns it.
    pub(crate) fn load(
        &self,
        key: SpaceKey,
        (number, vectors): (u32, u32),
        shape: Shape,
        index: Index,
    ) -> Arc<Space> {
        let space = Arc::new(Space::new(number, shape, index, self.total.clone()).in_set(vectors));
        self.listed.write().spaces.insert(key, Arc::clone(&space));
        space
    }

    /// Returns the space of `key`, if anything was ever written to it.
    pub(crate) fn get(&self, key: &SpaceKey) -> Option<Arc<Space>> {
        self.listed.read().spaces.get(key).cloned()
    }

    /// Returns the space of a number that is or was on disk, and makes it if this is the first that is heard of it; nothing if it was
    /// dropped since.
    pub(crate) fn of(&self, key: &SpaceKey, number: u32, shape: &Shape) -> Option<Arc<Space>> {
        if let Some(space) = self.get(key).filter(|space| space.number() == number) {
            return Some(space);
        }
        let mut listed = self.listed.write();
        if listed.dropped.contains(&number) {
            return None;
        }
        match listed.spaces.get(key) {
            Some(space) if space.number() == number => return Some(Arc::clone(space)),
            // Numbers grow: this one was dropped, and we hear of its successor first.
            Some(older) => older.drop_all(),
            None => {}
        }
        let index = Index::new(shape.metric, shape.dimensions, 0);
        let space = Arc::new(Space::new(number, shape.clone(), index, self.total.clone()));
        if let Some(older) = listed.spaces.insert(key.clone(), Arc::clone(&space)) {
            listed.dropped.insert(older.number());
        }
        Some(space)
    }

    /// Puts `next` in the place of `older`, which it was made of; not if that was dropped since.
    pub(crate) fn replace(&self, key: &SpaceKey, older: &Space, next: Space) {
        let mut listed = self.listed.write();
        match listed.spaces.get_mut(key).filter(|space| space.number() == older.number()) {
            Some(space) => *space = Arc::new(next),
            None => next.drop_all(),
        }
        older.drop_all();
    }

    /// Forgets a space that was dropped on disk.
    pub(crate) fn dropped(&self, key: &SpaceKey, number: u32) {
        let mut listed = self.listed.write();
        listed.dropped.insert(number);
        if let Some(space) = listed.spaces.get(key).filter(|space| space.number() == number).cloned() {
            space.drop_all();
            listed.spaces.remove(key);
        }
    }

    /// Returns every space.
    pub(crate) fn all(&self) -> Vec<(SpaceKey, Arc<Space>)> {
        self.listed.read().spaces.iter().map(|(key, space)| (key.clone(), Arc::clone(space))).collect()
    }

    /// Returns how many memories there are in all.
    pub(crate) fn memories(&self) -> u64 {
        self.total.get()
    }
}

#[cfg(test)]
mod tests {
    use super::Spaces;
    use crate::shape::{Metric, Shape, SpaceKey};

    fn shape() -> Shape {
        Shape { embedder: "hashing-1".into(), dimensions: 1, metric: Metric::Cosine }
    }

    #[test]
    fn a_write_that_comes_after_the_drop_of_its_space_makes_it_no_more() {
        let (spaces, key) = (Spaces::default(), SpaceKey::new("t", "n"));
        spaces.of(&key, 1, &shape()).unwrap();
        spaces.dropped(&key, 1);
        assert!(spaces.get(&key).is_none());
        assert!(spaces.of(&key, 1, &shape()).is_none());
        assert_eq!(spaces.of(&key, 2, &shape()).unwrap().number(), 2);
    }

    #[test]
    fn a_successor_may_be_heard_of_before_the_drop() {
        let (spaces, key) = (Spaces::default(), SpaceKey::new("t", ""));
        let first = spaces.of(&key, 1, &shape()).unwrap();
        let second = spaces.of(&key, 2, &shape()).unwrap();
        assert_eq!((first.generation(), second.generation()), (u64::MAX, 0), "nobody waits for the first");
        spaces.dropped(&key, 1);
        assert_eq!(spaces.get(&key).unwrap().number(), 2);
        assert!(spaces.of(&key, 1, &shape()).is_none());
    }
}
