//! One conversation on its way through the gateway.

use std::{sync::Arc, time::Instant};

use crate::{
    cache::{Found, Key, Lead, StoredAnswer},
    conversation::{Answer, Conversation, Usage},
    route::{Asked, Model},
    semantic::{self, Nearness},
    served::{By, Phases, Served, Terms},
};

/// An answered conversation.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The answer.
    pub answer: Answer,
    /// How it came about.
    pub served: Served,
}

/// What was spent on the way, beside the answer itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) usage: Usage,
    pub(crate) usd: f64,
}

/// One conversation on its way.
#[derive(Debug)]
pub(crate) struct Journey<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) conversation: &'a Conversation,
    pub(crate) model: Model,
    pub(crate) key: Key,
    pub(crate) phases: Phases,
    pub(crate) begun: Instant,
    /// What the verifier took.
    pub(crate) spent: Spent,
    /// Who answered, once somebody was asked.
    pub(crate) asked: Option<Asked>,
    /// The nearest question answered before, where questions were compared.
    pub(crate) near: Option<Nearness>,
    /// What is asked, to be kept with its answer.
    pub(crate) question: Option<semantic::Asked>,
}

/// Where a conversation got without its own call to a model.
pub(crate) enum Stop {
    /// It is answered.
    Answered(Box<Generated>),
    /// A model is to be asked; with a lead, others wait for the answer.
    Ask(Option<Lead<Arc<StoredAnswer>>>),
}

impl Journey<'_> {
    pub(crate) fn served(&self, by: By) -> Served {
        let mut served = Served::by(by, &self.model.name, self.phases);
        (served.usage, served.cost_usd) = (self.spent.usage, self.spent.usd);
        // The answer of another question has that question's name.
        served.answer_id = match &self.near {
            Some(near) if by == By::Semantic => near.answer.id(),
            _ => self.key.id(),
        };
        served.near.clone_from(&self.near);
        served
    }

    pub(crate) fn answered(&self, stored: &StoredAnswer) -> Generated {
        let mut served = self.served(By::Upstream);
        served.usage = served.usage + stored.answer.usage;
        served.cost_usd += stored.cost_usd;
        if let Some(asked) = &self.asked {
            served.asked(asked);
        }
        Generated { answer: stored.answer.clone(), served }
    }

    pub(crate) fn joined(&self, stored: &StoredAnswer) -> Generated {
        let mut served = self.served(By::Coalesced);
        served.saved_usd = (stored.cost_usd - served.cost_usd).max(0.0);
        Generated { answer: stored.answer.clone(), served }
    }

    pub(crate) fn found(&self, by: By, found: &Found<StoredAnswer>) -> Generated {
        debug_assert!(found.entry.answer.finish.is_complete(), "only complete answers are stored");
        let mut served = self.served(by);
        served.age = found.age;
        served.saved_usd = (found.entry.cost_usd - served.cost_usd).max(0.0);
        Generated { answer: found.entry.answer.clone(), served }
    }
}
