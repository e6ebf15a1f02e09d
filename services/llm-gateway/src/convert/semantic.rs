//! What an administrator sees of the semantic cache.

use contracts::llm as wire;
use rpc::{At, Check, Fault};

use crate::{
    cache::semantic::calibrate::{Point, Share},
    semantic::{
        Outcome, Semantic,
        calibrated::{Calibration, Pair},
    },
};

/// Most pairs, and their longest text in bytes.
const MAX_PAIRS: usize = 10_000;
const TEXT_BYTES: usize = 4 << 10;
/// Most wrong answers among those served, in percent, where the caller does not say.
const FALSE_PERCENT: f64 = 5.0;
/// Most points of a curve.
const POINTS: usize = 100;

/// Reads labelled pairs, and the most wrong answers in percent.
pub(crate) fn pairs(request: wire::CalibrateRequest) -> Result<(Vec<Pair>, f64), Fault> {
    let mut check = Check::default();
    let at = At::from("pairs");
    let most = request.max_false_percent.unwrap_or(FALSE_PERCENT);
    if check.items(at, request.pairs.len(), 1..=MAX_PAIRS) {
        for (place, pair) in request.pairs.iter().enumerate() {
            check.text(at.item(place).field("one"), &pair.one, 1..=TEXT_BYTES);
            check.text(at.item(place).field("other"), &pair.other, 1..=TEXT_BYTES);
        }
    }
    check.within("max_false_percent", most, 0.0..=100.0);
    let pair = |wire::LabelledPair { one, other, same }| Pair { one, other, same };
    check.end((request.pairs.into_iter().map(pair).collect(), most))
}

/// Writes what thresholds bring.
pub(crate) fn calibrated(calibration: Calibration, embedder: &str) -> wire::CalibrateResponse {
    let step = calibration.curve.len().div_ceil(POINTS).max(1);
    wire::CalibrateResponse {
        embedder: embedder.to_owned(),
        current: Some(point(calibration.current)),
        recommended: calibration.recommended.map(point),
        curve: calibration.curve.into_iter().step_by(step).map(point).collect(),
    }
}

/// Writes what came of comparing questions.
pub(crate) fn compared(semantic: &Semantic, embedder: &str) -> wire::SemanticStats {
    wire::SemanticStats {
        questions: semantic.questions() as u64,
        embedder: embedder.to_owned(),
        threshold: semantic.decision().threshold().into(),
        empty: semantic.total(Outcome::Empty),
        refused: semantic.total(Outcome::Refused),
        served: semantic.total(Outcome::Served),
        agreed: semantic.total(Outcome::Agreed),
        disagreed: semantic.total(Outcome::Disagreed),
        failed: semantic.total(Outcome::Failed),
    }
}

fn point(point: Point) -> wire::CalibrationPoint {
    wire::CalibrationPoint {
        threshold: point.threshold.into(),
        kept: Some(share(point.kept)),
        rejected: Some(share(point.rejected)),
        hits: Some(share(point.hits)),
        false_hits: Some(share(point.false_hits)),
    }
}

fn share(share: Share) -> wire::Share {
    let Share { percent, low, high } = share;
    wire::Share { percent, low, high }
}
