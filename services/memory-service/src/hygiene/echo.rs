//! Remembers for a while what recalls returned, so that it is not stored back as something new.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::form::{self, Print};
use crate::memory::Memory;

/// What recalls returned lately; bounded in number and in time.
#[derive(Debug)]
pub(crate) struct Echoes {
    /// What each print leads to.
    heard: HashMap<Print, Heard>,
    /// The prints by when they were heard; one that was heard again is there twice, and its first place means nothing.
    order: VecDeque<(SystemTime, Print)>,
    most: usize,
    life: Duration,
}

/// A memory that was returned.
#[derive(Debug)]
struct Heard {
    id: Arc<str>,
    at: SystemTime,
}

/// Who recalled: a space, and the agent that the recall was for; empty where it was for none or for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener<'a> {
    /// The number of the space.
    pub(crate) space: u32,
    /// The agent.
    pub(crate) agent: &'a str,
}

impl Echoes {
    /// Makes a memory of at most `most` prints, each kept for `life` of the agent clock. A returned memory takes two.
    pub(crate) fn new(most: usize, life: Duration) -> Self {
        Self { heard: HashMap::new(), order: VecDeque::new(), most, life }
    }

    /// Takes note of what a recall returned at `now`. Not of what an explanation returned: nobody hears that.
    pub(crate) fn hear(&mut self, who: Listener<'_>, memory: &Memory, now: SystemTime) {
        for print in [by_content(who, &memory.content), by_id(who, &memory.id)] {
            self.heard.insert(print, Heard { id: Arc::clone(&memory.id), at: now });
            self.order.push_back((now, print));
        }
        while self.order.len() > self.most
            || self.order.front().is_some_and(|(at, _)| !self.is_fresh(*at, now))
        {
            let Some((at, print)) = self.order.pop_front() else { break };
            if self.heard.get(&print).is_some_and(|heard| heard.at == at) {
                self.heard.remove(&print);
            }
        }
    }

    /// Returns the id of the memory with this content that `who`, or somebody who did not say for whom, recalled lately.
    pub(crate) fn repeats(&self, who: Listener<'_>, content: &str, now: SystemTime) -> Option<Arc<str>> {
        self.look(who, |who| by_content(who, content), now)
    }

    /// Returns true if the memory of this id was recalled lately; what says nearly the same is an echo of it.
    pub(crate) fn heard(&self, who: Listener<'_>, id: &str, now: SystemTime) -> bool {
        self.look(who, |who| by_id(who, id), now).is_some()
    }

    fn look(
        &self,
        who: Listener<'_>,
        print: impl Fn(Listener<'_>) -> Print,
        now: SystemTime,
    ) -> Option<Arc<str>> {
        let anybody = Listener { agent: "", ..who };
        let heard = [who, anybody].into_iter().filter_map(|who| self.heard.get(&print(who)));
        heard.filter(|heard| self.is_fresh(heard.at, now)).map(|heard| Arc::clone(&heard.id)).next()
    }

    fn is_fresh(&self, at: SystemTime, now: SystemTime) -> bool {
        // A clock that went back makes nothing old.
        now.duration_since(at).unwrap_or_default() < self.life
    }
}

fn by_content(who: Listener<'_>, content: &str) -> Print {
    form::print([who.space.to_string().as_str(), who.agent, "content", &form::normal(content)])
}

fn by_id(who: Listener<'_>, id: &str) -> Print {
    form::print([who.space.to_string().as_str(), who.agent, "id", id])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Echoes, Listener};
    use crate::memory::Memory;

    const SCOUT: Listener<'_> = Listener { space: 1, agent: "scout" };
    const ANYBODY: Listener<'_> = Listener { agent: "", ..SCOUT };

    fn memory(id: &str) -> Memory {
        Memory { id: id.into(), content: format!("Content of  {id}"), ..Memory::bare() }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn repeats(echoes: &Echoes, who: Listener<'_>, content: &str, now: u64) -> Option<String> {
        echoes.repeats(who, content, at(now)).map(|id| id.to_string())
    }

    #[test]
    fn what_an_agent_recalled_is_known_in_any_spelling_until_its_life_is_over() {
        let mut echoes = Echoes::new(100, Duration::from_secs(10));
        echoes.hear(SCOUT, &memory("a"), at(0));
        assert_eq!(repeats(&echoes, SCOUT, "content of A", 9).as_deref(), Some("a"));
        assert_eq!(repeats(&echoes, SCOUT, "content of a", 10), None);
        assert!(echoes.heard(SCOUT, "a", at(9)) && !echoes.heard(SCOUT, "b", at(9)));
        echoes.hear(SCOUT, &memory("a"), at(8));
        echoes.hear(SCOUT, &memory("b"), at(12));
        assert_eq!(repeats(&echoes, SCOUT, "content of a", 17).as_deref(), Some("a"), "heard again");
    }

    #[test]
    fn an_agent_hears_its_own_recalls_and_those_for_nobody() {
        let mut echoes = Echoes::new(100, Duration::from_secs(10));
        echoes.hear(SCOUT, &memory("a"), at(0));
        echoes.hear(ANYBODY, &memory("b"), at(0));
        assert!(echoes.heard(SCOUT, "b", at(1)) && !echoes.heard(ANYBODY, "a", at(1)));
        assert!(!echoes.heard(Listener { agent: "other", ..SCOUT }, "a", at(1)));
        assert!(!echoes.heard(Listener { space: 2, ..SCOUT }, "a", at(1)));
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut echoes = Echoes::new(10, Duration::from_secs(1000));
        for round in 0..200 {
            echoes.hear(SCOUT, &memory(&(round % 7).to_string()), at(round));
            assert!(echoes.order.len() <= 10 && echoes.heard.len() <= 10);
        }
        assert!(echoes.heard(SCOUT, "3", at(199)) && !echoes.heard(SCOUT, "4", at(199)), "the oldest went");
        echoes.hear(SCOUT, &memory("z"), at(5000));
        assert_eq!(echoes.heard.len(), 2, "what is over goes");
    }
}
