//! What a caller gets.

use contracts::llm as wire;
use rpc::time::duration_to_proto;

use super::bands::banded;
use crate::{
    analyze::{Finding, Report},
    cache::bands,
    cache::semantic::Nearness,
    conversation::{CallPiece, Finish, Object, Piece, ToolCall, Usage},
    error::Error,
    journey::Generated,
    observation::{Analysis, Assessment, ItemFailure},
    served::{By, Phases, Served},
    stream::Part,
};

/// Writes an answered conversation.
pub(crate) fn generated(generated: Generated) -> wire::GenerateResponse {
    wire::GenerateResponse {
        text: (*generated.answer.text).to_owned(),
        finish_reason: finish(generated.answer.finish).into(),
        tool_calls: generated.answer.tool_calls.iter().cloned().map(tool_call).collect(),
        extra: json(&generated.answer.extra),
        served: Some(served(generated.served)),
    }
}

/// Writes one part of an answer; that it begins is said by the first piece.
pub(crate) fn stream_part(part: Part) -> Option<wire::GenerateStreamResponse> {
    use wire::generate_stream_response::Part as Wire;
    let part = match part {
        Part::Begin(_) => return None,
        Part::Piece(Piece::Text(text)) => Wire::Text(text),
        Part::Piece(Piece::Call(call)) => Wire::ToolCall(call_piece(call)),
        Part::Piece(Piece::Extra(extra)) => Wire::Extra(json(&extra)),
        Part::End { finish: reason, served: how, .. } => Wire::End(Box::new(wire::StreamEnd {
            finish_reason: finish(reason).into(),
            served: Some(served(*how)),
        })),
    };
    Some(wire::GenerateStreamResponse { part: Some(part) })
}

fn tool_call(call: ToolCall) -> wire::ToolCall {
    let ToolCall { id, name, arguments } = call;
    wire::ToolCall { id, name, arguments }
}

fn call_piece(call: CallPiece) -> wire::ToolCallPiece {
    let CallPiece { index, id, name, arguments } = call;
    wire::ToolCallPiece { index, id: id.unwrap_or_default(), name: name.unwrap_or_default(), arguments }
}

/// Writes an object as JSON text; nothing for an empty one.
fn json(object: &Object) -> String {
    if object.is_empty() { String::new() } else { serde_json::to_string(object).unwrap_or_default() }
}

/// Writes the findings under the ids of their observations.
pub(crate) fn report(report: Report, ids: Vec<String>) -> wire::AnalyzeResponse {
    wire::AnalyzeResponse {
        results: ids
            .into_iter()
            .zip(report.findings.into_iter().zip(report.banded))
            .map(|(id, (finding, looked))| result(id, finding, looked))
            .collect(),
        assessment: Some(assessment(report.assessment)),
        upstream_calls: report.upstream_calls,
        served: report.served.map(served),
        input_warnings: report.warnings,
    }
}

/// Writes how an answer came about.
fn served(served: Served) -> wire::Served {
    wire::Served {
        by: by(served.by).into(),
        model: (*served.model).to_owned(),
        age: Some(duration_to_proto(served.age)),
        usage: Some(usage(served.usage)),
        cost_usd: served.cost_usd,
        saved_usd: served.saved_usd,
        phases: Some(phases(served.phases)),
        pattern: served.pattern,
        match_id: served.match_id.map(|id| id.to_string()).unwrap_or_default(),
        upstream: (*served.upstream).to_owned(),
        attempts: served.attempts,
        nearest: served.near.as_ref().map(nearness),
        answer_id: served.answer_id,
    }
}

/// Writes an error of a stream.
impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        rpc::Fault::from(error).into()
    }
}

fn result(
    observation_id: String,
    finding: Finding,
    looked: Option<bands::Outcome>,
) -> wire::ObservationResult {
    use wire::observation_result::Outcome;
    let outcome = match finding.outcome {
        Ok(found) => Outcome::Analysis(analysis(found)),
        Err(why) => Outcome::Failure(failure(why)),
    };
    wire::ObservationResult {
        observation_id,
        outcome: Some(outcome),
        served: Some(served(finding.served)),
        banded: looked.map(banded),
    }
}

fn analysis(found: Analysis) -> wire::Analysis {
    wire::Analysis { summary: found.summary, confidence: found.confidence, salience: found.salience }
}

fn failure(why: ItemFailure) -> wire::ItemFailure {
    wire::ItemFailure { reason: why.reason().into(), message: why.message().into() }
}

fn assessment(assessment: Assessment) -> wire::Assessment {
    wire::Assessment {
        overall_assessment: assessment.overall,
        correlations: assessment.correlations,
        focus_areas: assessment.focus_areas,
        risk_warnings: assessment.risk_warnings,
    }
}

fn nearness(near: &Nearness) -> wire::Nearness {
    let (guard, stored, asked) = near.objection().unwrap_or_default();
    wire::Nearness {
        served: near.served,
        similarity: near.verdict.similarity.into(),
        score: near.verdict.score.map(f64::from),
        threshold: near.verdict.threshold.into(),
        guard: guard.to_owned(),
        stored: stored.to_owned(),
        asked: asked.to_owned(),
        answer_id: near.answer.id(),
    }
}

fn by(by: By) -> wire::ServedBy {
    match by {
        By::Pattern => wire::ServedBy::Pattern,
        By::Exact => wire::ServedBy::Exact,
        By::Semantic => wire::ServedBy::Semantic,
        By::Coalesced => wire::ServedBy::Coalesced,
        By::Merged => wire::ServedBy::Merged,
        By::Upstream => wire::ServedBy::Upstream,
    }
}

fn finish(finish: Finish) -> wire::FinishReason {
    match finish {
        Finish::Unknown => wire::FinishReason::Unspecified,
        Finish::Stop => wire::FinishReason::Stop,
        Finish::ToolCalls => wire::FinishReason::ToolCalls,
        Finish::Length => wire::FinishReason::Length,
        Finish::Filter => wire::FinishReason::ContentFilter,
    }
}

fn usage(usage: Usage) -> wire::Usage {
    wire::Usage {
        input_tokens: usage.input,
        cached_input_tokens: usage.cached_input,
        output_tokens: usage.output,
        estimated: usage.estimated,
    }
}

fn phases(phases: Phases) -> wire::PhaseTimes {
    wire::PhaseTimes {
        pattern: phases.pattern.map(duration_to_proto),
        cache: phases.cache.map(duration_to_proto),
        semantic: phases.semantic.map(duration_to_proto),
        coalesced_wait: phases.coalesced_wait.map(duration_to_proto),
        upstream: phases.upstream.map(duration_to_proto),
    }
}
