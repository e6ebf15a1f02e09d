//! Every space that holds memories, and those that were dropped.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    index::Index,
    space::{Shape, Space, SpaceKey},
    store::Committed,
};

/// The spaces of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Spaces(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    spaces: HashMap<SpaceKey, Arc<Space>>,
    /// Numbers of dropped ones: a write to one of them may still be on its way here.
    dropped: HashSet<u32>,
}

impl Spaces {
    /// Takes what was loaded.
    pub(crate) fn new(spaces: Vec<(SpaceKey, Space)>) -> Self {
        let spaces = spaces.into_iter().map(|(key, space)| (key, Arc::new(space))).collect();
        Self(RwLock::new(Known { spaces, dropped: HashSet::new() }))
    }

    /// Returns the space of `key`, if anything was ever written to it.
    pub(crate) fn get(&self, key: &SpaceKey) -> Option<Arc<Space>> {
        self.0.read().spaces.get(key).cloned()
    }

    /// Returns the space that a write went to; nothing if it was dropped since.
    pub(crate) fn of(&self, key: &SpaceKey, write: &Committed) -> Option<Arc<Space>> {
        if let Some(space) = self.get(key).filter(|space| space.number() == write.space) {
            return Some(space);
        }
        self.made(key, write.space, &write.shape)
    }

    /// Takes a space that was made on disk, and returns it; nothing if it was dropped since.
    pub(crate) fn made(&self, key: &SpaceKey, number: u32, shape: &Shape) -> Option<Arc<Space>> {
        let mut known = self.0.write();
        if known.dropped.contains(&number) {
            return None;
        }
        match known.spaces.get(key) {
            Some(space) if space.number() == number => return Some(Arc::clone(space)),
            // Numbers grow: this one was dropped, and we hear of its successor first.
            Some(older) => older.drop_all(),
            None => {}
        }
        let space =
            Arc::new(Space::new(number, shape.clone(), Index::new(shape.metric, shape.dimensions, 0)));
        if let Some(older) = known.spaces.insert(key.clone(), Arc::clone(&space)) {
            known.dropped.insert(older.number());
        }
        Some(space)
    }

    /// Puts `next` in the place of `older`, which it was made of; not if that was dropped since.
    pub(crate) fn replace(&self, key: &SpaceKey, older: &Space, next: Space) {
        let mut known = self.0.write();
        if let Some(space) = known.spaces.get_mut(key).filter(|space| space.number() == older.number()) {
            *space = Arc::new(next);
        }
        older.drop_all();
    }

    /// Forgets a space that was dropped on disk.
    pub(crate) fn dropped(&self, key: &SpaceKey, number: u32) {
        let mut known = self.0.write();
        known.dropped.insert(number);
        if let Some(space) = known.spaces.get(key).filter(|space| space.number() == number).cloned() {
            space.drop_all();
            known.spaces.remove(key);
        }
    }

    /// Returns every space.
    pub(crate) fn all(&self) -> Vec<(SpaceKey, Arc<Space>)> {
        self.0.read().spaces.iter().map(|(key, space)| (key.clone(), Arc::clone(space))).collect()
    }

    /// Returns the spaces of `tenant` in the order of their namespaces.
    pub(crate) fn of_tenant(&self, tenant: &str) -> Vec<(SpaceKey, Arc<Space>)> {
        let known = self.0.read();
        let ours = known.spaces.iter().filter(|(key, _)| *key.tenant == *tenant);
        let mut spaces: Vec<_> = ours.map(|(key, space)| (key.clone(), Arc::clone(space))).collect();
        spaces.sort_by(|(left, _), (right, _)| left.cmp(right));
        spaces
    }

    /// Returns how many memories there are in all.
    pub(crate) fn memories(&self) -> u64 {
        self.0.read().spaces.values().map(|space| space.index().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Spaces;
    use crate::space::{Metric, Shape, SpaceKey};

    fn shape() -> Shape {
        Shape { embedder: "hashing-1".into(), dimensions: 1, metric: Metric::Cosine }
    }

    #[test]
    fn a_write_that_comes_after_the_drop_of_its_space_makes_it_no_more() {
        let (spaces, key) = (Spaces::default(), SpaceKey::new("t", "n"));
        spaces.made(&key, 1, &shape()).unwrap();
        spaces.dropped(&key, 1);
        assert!(spaces.get(&key).is_none());
        assert!(spaces.made(&key, 1, &shape()).is_none());
        assert_eq!(spaces.made(&key, 2, &shape()).unwrap().number(), 2);
    }

    #[test]
    fn a_successor_may_be_heard_of_before_the_drop() {
        let (spaces, key) = (Spaces::default(), SpaceKey::new("t", ""));
        let first = spaces.made(&key, 1, &shape()).unwrap();
        let second = spaces.made(&key, 2, &shape()).unwrap();
        assert_eq!((first.generation(), second.generation()), (u64::MAX, 0), "nobody waits for the first");
        spaces.dropped(&key, 1);
        assert_eq!(spaces.get(&key).unwrap().number(), 2);
        assert!(spaces.made(&key, 1, &shape()).is_none());
    }
}
