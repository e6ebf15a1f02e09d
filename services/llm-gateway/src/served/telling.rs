//! What the span of a request tells of how it was answered.

use telemetry::{annotate, names::gen_ai};
use tracing::Span;

use super::{By, Served};

impl Served {
    /// Tells of an answer in the current span, which is its request's.
    pub(crate) fn tell(&self) {
        let span = Span::current();
        if span.is_none() {
            return;
        }
        annotate(&span, gen_ai::SERVED_BY, self.by.as_str());
        annotate(&span, gen_ai::SAVED_USD, self.saved_usd);
        match self.by {
            By::Exact | By::Semantic => annotate(&span, gen_ai::AGE_SECONDS, self.age.as_secs_f64()),
            By::Merged | By::Upstream => self.tell_asked(&span),
            By::Pattern | By::Coalesced => {}
        }
    }

    fn tell_asked(&self, span: &Span) {
        annotate(span, gen_ai::COST_USD, self.cost_usd);
        annotate(span, gen_ai::ATTEMPTS, i64::from(self.attempts));
    }
}

/// Tells of an analysis in the current span, which is its request's: `answered` counts items by what answered them, and `asked` says what its
/// own share of model calls took.
pub(crate) fn tell_all(answered: &[(By, u64)], saved_usd: f64, asked: Option<&Served>) {
    let span = Span::current();
    if span.is_none() {
        return;
    }
    for (by, count) in answered.iter().filter(|(_, count)| *count > 0) {
        let key = format!("{}.{}", gen_ai::SERVED_BY, by.as_str());
        annotate(&span, key, i64::try_from(*count).unwrap_or(i64::MAX));
    }
    annotate(&span, gen_ai::SAVED_USD, saved_usd);
    if let Some(asked) = asked.filter(|asked| asked.by != By::Coalesced) {
        asked.tell_asked(&span);
    }
}
