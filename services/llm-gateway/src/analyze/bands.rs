//! Between the exact cache and the model: an answer about close figures of the same entity, where the request or a setting asks for it.

use std::time::Instant;

use super::{Case, Finding};
use crate::served::{By, Control, Served};

impl Case<'_> {
    /// Serves what is open and close to what an answer is about.
    pub(super) fn try_bands(&mut self) {
        if !self.is_banded() || !self.terms.control.read {
            return;
        }
        let (gateway, bands) = (self.gateway, &self.inquiry.bands);
        let max_age = [self.terms.control.max_age, bands.max_age].into_iter().flatten().min();
        let control = Control { max_age, ..self.terms.control };
        let open = self.seats.iter_mut().zip(&self.inquiry.observations);
        for (seat, seen) in open.filter(|(seat, _)| seat.finding.is_none()) {
            let looking = Instant::now();
            let entity =
                gateway.keys.entity(&self.terms.tenant, &self.model.name, &self.inquiry.question, seen);
            let found =
                gateway.bands.find(&entity, seen, bands, |answer| gateway.cache.analysis(answer, control));
            seat.phases.cache = Some(seat.phases.cache.unwrap_or_default() + looking.elapsed());
            if let Ok(near) = &found {
                let stored = &near.found.entry;
                let mut served = Served::by(By::Semantic, &self.model.name, seat.phases);
                served.age = near.found.age;
                served.saved_usd = stored.own_cost_usd;
                seat.finding = Some(Finding { outcome: Ok(stored.analysis.clone()), served });
            }
            seat.banded = Some(found.map(|near| near.anchor));
        }
    }

    /// Notes what the answers are about that were found or made, for what is seen next.
    pub(super) fn note_answers(&self) {
        if !self.is_banded() || !self.terms.control.store {
            return;
        }
        let gateway = self.gateway;
        for (seat, seen) in self.seats.iter().zip(&self.inquiry.observations) {
            let (Some(finding), Some(answer)) = (&seat.finding, &seat.key) else { continue };
            // What a band served is noted already, under the figures it is about.
            if finding.outcome.is_ok() && finding.served.by != By::Semantic {
                let entity =
                    gateway.keys.entity(&self.terms.tenant, &self.model.name, &self.inquiry.question, seen);
                gateway.bands.note(&entity, seen, answer);
            }
        }
    }

    /// Returns whether bands are asked for. Statistics are never stored, so there is nothing to be close to.
    fn is_banded(&self) -> bool {
        !self.inquiry.bands.is_exact() && !self.model.is_free() && !self.gateway.cache.is_off()
    }
}
