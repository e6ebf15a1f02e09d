//! Asks a model about a share of what templates answered, so that the two can be compared.

use std::sync::Arc;

use crate::{
    analyze::{Inquiry, Report},
    gateway::Gateway,
    served::Terms,
};

impl Gateway {
    /// Returns the observations of an answered request that a model is to be asked about as well; `None` if there are none.
    ///
    /// Only where a language model would have been asked: statistics over one request are no second opinion.
    #[must_use]
    pub fn doubtful(&self, inquiry: &Inquiry, report: &Report) -> Option<Inquiry> {
        if self.models.resolve(&inquiry.model).is_ok_and(|model| model.is_free()) {
            return None;
        }
        let drawn = inquiry
            .observations
            .iter()
            .zip(&report.findings)
            .filter(|(_, finding)| finding.served.match_id.is_some_and(|id| self.patterns.is_drawn(id)));
        let observations: Vec<_> = drawn.map(|(observation, _)| observation.clone()).collect();
        (!observations.is_empty()).then(|| Inquiry {
            model: inquiry.model.clone(),
            question: inquiry.question.clone(),
            observations,
            watch_only: true,
            ..Inquiry::default()
        })
    }

    /// Asks about `inquiry` and compares what the model says; nobody waits for it.
    pub async fn verify(self: &Arc<Self>, terms: Terms, inquiry: Inquiry) {
        // Its caller has gone; each attempt has the upstream's own time limit.
        let terms = Terms { deadline: None, ..terms };
        if let Err(error) = self.analyze(&terms, &inquiry).await {
            tracing::info!(error = &error as &dyn std::error::Error, "templates not verified");
        }
    }
}
