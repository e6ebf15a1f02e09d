//! What the span of a request tells of how it was answered.

use telemetry::{KeyValue, annotate_current, names::gen_ai};

use super::{By, Served};

impl Served {
    /// Tells of an answer in the current span, which is its request's.
    pub(crate) fn tell(&self) {
        let by = KeyValue::new(gen_ai::SERVED_BY, self.by.as_str());
        let saved = KeyValue::new(gen_ai::SAVED_USD, self.saved_usd);
        match self.by {
            By::Exact | By::Semantic => {
                let age = KeyValue::new(gen_ai::AGE_SECONDS, self.age.as_secs_f64());
                let verified = (self.cost_usd > 0.0).then(|| KeyValue::new(gen_ai::COST_USD, self.cost_usd));
                annotate_current([by, saved, age].into_iter().chain(verified));
            }
            By::Merged | By::Upstream => annotate_current([by, saved].into_iter().chain(self.asking())),
            By::Pattern | By::Coalesced => annotate_current([by, saved]),
        }
    }

    /// What asking a model took.
    fn asking(&self) -> [KeyValue; 2] {
        let attempts = i64::from(self.attempts);
        [KeyValue::new(gen_ai::COST_USD, self.cost_usd), KeyValue::new(gen_ai::ATTEMPTS, attempts)]
    }
}

/// Tells of an analysis in the current span, which is its request's: `answered` counts items by what answered them, and `asked` says what its
/// own share of model calls took.
pub(crate) fn tell_all(answered: &[(By, u64)], saved_usd: f64, asked: Option<&Served>) {
    let counted = answered.iter().filter(|(_, count)| *count > 0).map(|(by, count)| {
        let key = format!("{}.{}", gen_ai::SERVED_BY, by.as_str());
        KeyValue::new(key, i64::try_from(*count).unwrap_or(i64::MAX))
    });
    let saved = KeyValue::new(gen_ai::SAVED_USD, saved_usd);
    let asking = asked.filter(|asked| asked.by != By::Coalesced).map(Served::asking);
    annotate_current(counted.chain([saved]).chain(asking.into_iter().flatten()));
}
