//! Templates, what is known about them, and what came of their claims.

use contracts::llm as wire;
use rpc::{At, Check, Fault};

use super::question::{ID_BYTES, SUBJECT_BYTES, TYPE_BYTES};
use crate::pattern::{Id, Listed, Mode, Named, Score, Severity, Standing, Told, Tried, Verdict};

/// Longest name of a template, in bytes.
const PATTERN_BYTES: usize = 128;

/// How a caller names a match.
pub(crate) enum Which {
    /// By its id.
    Id(Id),
    /// By what makes it up.
    Name(Named),
}

impl Which {
    /// Returns the id; `of` finds the one of a name.
    pub(crate) fn id_by(self, of: impl FnOnce(Named) -> Option<Id>) -> Option<Id> {
        match self {
            Self::Id(id) => Some(id),
            Self::Name(named) => of(named),
        }
    }
}

/// Reads what came of which match.
pub(crate) fn outcome(request: wire::ReportOutcomeRequest) -> Result<(Which, bool), Fault> {
    let mut check = Check::default();
    let which = match request.which {
        None => return Err(Fault::invalid("which", "must be given: `match_id` or `match`")),
        Some(wire::report_outcome_request::Which::Match(name)) => Which::Name(named(&mut check, name)),
        Some(wire::report_outcome_request::Which::MatchId(text)) => {
            let id = Id::parse(&text);
            check.require("match_id", id.is_some(), "must be 32 hexadecimal digits, not all 0");
            Which::Id(id.unwrap_or_default())
        }
    };
    check.end((which, request.came_true))
}

fn named(check: &mut Check, name: wire::MatchName) -> Named {
    let at = At::from("match");
    check.text(at.field("pattern"), &name.pattern, 1..=PATTERN_BYTES);
    check.text(at.field("type"), &name.r#type, 1..=TYPE_BYTES);
    check.text(at.field("subject"), &name.subject, 1..=SUBJECT_BYTES);
    check.text(at.field("observation_id"), &name.observation_id, 1..=ID_BYTES);
    let time = check.time(at.field("time"), name.time.as_ref());
    let wire::MatchName { pattern, r#type: kind, subject, observation_id: id, .. } = name;
    Named { pattern, kind, subject, id, time }
}

/// Reads which template is to answer again.
pub(crate) fn reinstated(request: wire::ReinstateRequest) -> Result<String, Fault> {
    let mut check = Check::default();
    check.text("pattern", &request.pattern, 1..=PATTERN_BYTES);
    check.end(request.pattern)
}

/// Writes the outcome that stands.
pub(crate) fn told(told: Told, id: Id) -> wire::ReportOutcomeResponse {
    wire::ReportOutcomeResponse {
        recorded: told.is_news,
        came_true: told.came_true,
        match_id: id.to_string(),
    }
}

/// Writes the templates with what is known about each.
pub(crate) fn patterns(
    listed: Vec<Listed>,
    status: Standing,
    remembered: (usize, usize),
) -> wire::ListResponse {
    wire::ListResponse {
        patterns: listed.into_iter().map(pattern).collect(),
        file: status.path,
        file_problem: status.broken,
        loads: status.loads,
        history_subjects: remembered.0 as u64,
        history_bytes: remembered.1 as u64,
    }
}

fn pattern(listed: Listed) -> wire::Pattern {
    let Listed { template, track } = listed;
    let posterior = track.posterior(&template);
    let score = template.score.as_ref().zip(track.score.as_ref());
    let score = score.map(|(watch, score)| scored(&watch.value, &watch.provenance, score));
    wire::Pattern {
        name: template.name,
        version: template.version,
        types: template.types,
        condition: template.condition,
        answer: template.answer,
        confidence: template.confidence,
        confidence_basis: template.confidence_basis,
        matches: track.answered,
        mode: mode(template.mode).into(),
        severity: severity(template.severity).into(),
        outcome: template.outcome,
        matched_days: track.matched,
        outcomes: track.outcomes.told,
        came_true: track.outcomes.came_true,
        posterior_mean: posterior.mean(),
        posterior_true: posterior.true_weight,
        posterior_false: posterior.false_weight,
        error_bound: posterior.error_bound(),
        max_error: template.max_error,
        brier: track.outcomes.brier(),
        retired: track.retired.unwrap_or_default(),
        compared: track.compared,
        agreed: track.agreed,
        score,
    }
}

fn scored(value: &str, provenance: &str, score: &Score) -> wire::PatternScore {
    wire::PatternScore {
        value: value.to_owned(),
        weights: score.weights().to_vec(),
        learned: score.learned(),
        provenance: provenance.to_owned(),
    }
}

/// Writes what every template made of an observation.
pub(crate) fn tried(tried: Vec<Tried>) -> wire::EvaluateResponse {
    let answers = |one: &&Tried| one.explanation.verdict == Verdict::Holds && one.silent.is_empty();
    let winner = tried.iter().find(answers).map(|one| one.template.name.clone()).unwrap_or_default();
    wire::EvaluateResponse { evaluations: tried.into_iter().map(evaluation).collect(), winner }
}

fn evaluation(tried: Tried) -> wire::Evaluation {
    let Tried { template, explanation, answer, confidence, silent } = tried;
    let (matched, skipped) = match explanation.verdict {
        Verdict::Holds => (true, String::new()),
        Verdict::Fails => (false, String::new()),
        Verdict::Skipped(why) => (false, why),
    };
    let clauses = explanation.parts.into_iter();
    wire::Evaluation {
        pattern: template.name,
        matched,
        skipped,
        reads: explanation.reads.into_iter().collect(),
        missing: explanation.missing,
        clauses: clauses
            .map(|(text, verdict)| wire::Clause { text, truth: truth(&verdict).into() })
            .collect(),
        silent,
        confidence,
        answer,
    }
}

fn truth(verdict: &Verdict) -> wire::Truth {
    match verdict {
        Verdict::Holds => wire::Truth::Holds,
        Verdict::Fails => wire::Truth::Fails,
        Verdict::Skipped(_) => wire::Truth::Unknown,
    }
}

fn mode(mode: Mode) -> wire::PatternMode {
    match mode {
        Mode::Shadow => wire::PatternMode::Shadow,
        Mode::Active => wire::PatternMode::Active,
    }
}

fn severity(severity: Severity) -> wire::PatternSeverity {
    match severity {
        Severity::Info => wire::PatternSeverity::Info,
        Severity::Notice => wire::PatternSeverity::Notice,
        Severity::Warning => wire::PatternSeverity::Warning,
        Severity::Critical => wire::PatternSeverity::Critical,
    }
}
