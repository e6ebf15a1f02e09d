//! What is known about one template, for one tenant: how often it matched, what came of it, whether it retired.

use serde::{Deserialize, Serialize};

use super::{
    posterior::{Outcomes, Posterior},
    score::{Inputs, Score},
    template::Template,
};

/// Outcomes that must be known before a template can retire.
const LEAST_OUTCOMES: u64 = 10;

/// One template's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// The version all of it is about.
    pub version: u32,
    /// How often it answered; repeated requests count.
    pub answered: u64,
    /// Subjects and days it matched, answered or not.
    pub matched: u64,
    /// What came of them.
    pub outcomes: Outcomes,
    /// Matches that a model's answer was compared with.
    pub compared: u64,
    /// Those of them where both found it remarkable, or neither did.
    pub agreed: u64,
    /// Why it answers no more.
    pub retired: Option<String>,
    /// How its confidence is scored, where it is.
    pub score: Option<Score>,
}

impl Track {
    /// Makes the record of a template nothing is known about yet.
    #[must_use]
    pub fn of(template: &Template) -> Self {
        let score = template.score.as_ref().map(|watch| Score::new(watch.weights, watch.strength));
        Self {
            version: template.version,
            answered: 0,
            matched: 0,
            outcomes: Outcomes::default(),
            compared: 0,
            agreed: 0,
            retired: None,
            score,
        }
    }

    /// Returns whether the record is about this very template.
    #[must_use]
    pub fn is_of(&self, template: &Template) -> bool {
        self.version == template.version && self.score.is_some() == template.score.is_some()
    }

    /// Returns how often the template's claim comes true.
    #[must_use]
    pub fn posterior(&self, template: &Template) -> Posterior {
        self.outcomes.posterior(template.confidence, template.evidence)
    }

    /// Returns how sure an answer is: by its score where it has one and enough days are known, else the share that came true.
    #[must_use]
    pub fn confidence(&self, template: &Template, inputs: Option<&Inputs>) -> f64 {
        let scored = self.score.as_ref().zip(inputs).map(|(score, inputs)| score.probability(inputs));
        scored.unwrap_or_else(|| self.posterior(template).mean())
    }

    /// Counts an outcome, and retires the template where its error bound breaks. Returns whether it retired by this.
    pub fn tell(&mut self, template: &Template, came_true: bool, confidence: f64) -> bool {
        self.outcomes.tell(came_true, confidence);
        let bound = self.posterior(template).error_bound();
        if self.retired.is_some() || self.outcomes.told < LEAST_OUTCOMES || bound <= template.max_error {
            return false;
        }
        self.retired = Some(format!(
            "with 95 % certainty its error is below {bound:.3} only, and `max_error` is {:.3}; {} of {} outcomes came true",
            template.max_error, self.outcomes.came_true, self.outcomes.told
        ));
        true
    }

    /// Forgets what came of it and lets it answer again; what its score learned stays.
    pub fn reinstate(&mut self) {
        self.outcomes = Outcomes::default();
        self.retired = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::template, Track};

    const TEXT: &str = "[[pattern]]\nname = \"a\"\nversion = 1\ntypes = [\"x\"]\ncondition = \"v > 1.0\"\nanswer = \"b\"\n\
                        confidence = 0.8\nconfidence_basis = \"c\"\nevidence = 20\nmax_error = 0.4\n";

    #[test]
    fn a_template_retires_once_when_its_bound_breaks_and_comes_back_by_hand() {
        let template = template::parse(TEXT).unwrap().remove(0);
        let mut track = Track::of(&template);
        let mut retired = 0;
        for told in 1..=40 {
            if track.tell(&template, false, 0.8) {
                retired += 1;
                assert!(told >= 10, "one bad day is no proof");
            }
        }
        assert_eq!(retired, 1);
        assert!(track.retired.as_ref().unwrap().contains("of 10 outcomes"), "{:?}", track.retired);
        assert!(track.confidence(&template, None) < 0.35);
        track.reinstate();
        assert_eq!((track.retired.clone(), track.outcomes.told), (None, 0));
        for _ in 0..100 {
            assert!(!track.tell(&template, true, 0.8), "what comes true never retires");
        }
    }
}
