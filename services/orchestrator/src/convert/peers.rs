//! Requests to and answers of the other services.

use std::time::{SystemTime, UNIX_EPOCH};

use contracts::{llm, memory, monitor, storage};
use rpc::{Fault, time};
use serde_json::Value;
use tonic::Status;

use crate::{
    branch::Problem,
    peers::{Analysed, Document, Finding, Memory, Observation, Question, Sample},
};

/// Says why a call failed.
pub(crate) fn problem(status: &Status) -> Problem {
    let (code, message) = Fault::of(status);
    Problem::new(rpc::code_name(code), message)
}

pub(crate) fn recall_request(question: &Question) -> memory::RecallRequest {
    let query = memory::Query {
        text: question.text.clone(),
        categories: question.categories.clone(),
        pools: question.pool.iter().cloned().collect(),
        start_time: question.since.map(time::to_proto),
        end_time: question.until.map(time::to_proto),
        min_confidence: question.min_confidence,
        limit: question.limit,
        ..memory::Query::default()
    };
    memory::RecallRequest { query: Some(query), ..memory::RecallRequest::default() }
}

pub(crate) fn memories(answer: memory::RecallResponse) -> Vec<Memory> {
    let remembered = |memory: memory::Memory| Memory {
        id: memory.id,
        category: memory.category,
        content: memory.content,
        pools: memory.pools,
        time: moment(memory.time.as_ref()),
        confidence: memory.confidence,
        metadata: memory.metadata.into_iter().collect(),
    };
    answer.memories.into_iter().filter_map(|scored| scored.memory).map(remembered).collect()
}

pub(crate) fn remember_request(lessons: Vec<Memory>) -> memory::RememberBatchRequest {
    let written = |lesson: Memory| memory::Memory {
        id: lesson.id,
        category: lesson.category,
        content: lesson.content,
        pools: lesson.pools,
        time: Some(time::to_proto(lesson.time)),
        confidence: lesson.confidence,
        metadata: lesson.metadata.into_iter().collect(),
        ..memory::Memory::default()
    };
    let memories = lessons.into_iter().map(written).collect();
    memory::RememberBatchRequest { memories, ..memory::RememberBatchRequest::default() }
}

/// Of an observation, what says nothing new of its figures: memory's words, which change with every cycle that adds one, and an age, which
/// grows by itself and by no more than the answer's own.
const NOT_COMPARED: [&str; 2] = ["remembered", "pool_age_days"];

/// Writes a request; a tolerance of 0 leaves close figures to the gateway.
pub(crate) fn analyze_request(
    observations: Vec<Observation>,
    question: &str,
    band_tolerance: f64,
) -> llm::AnalyzeRequest {
    let written = |seen: Observation| llm::Observation {
        id: seen.id,
        r#type: seen.kind.to_owned(),
        subject: seen.subject,
        time: Some(time::to_proto(seen.time)),
        values: seen.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        labels: seen.labels.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
    };
    llm::AnalyzeRequest {
        observations: observations.into_iter().map(written).collect(),
        question: question.to_owned(),
        bands: (band_tolerance > 0.0).then(|| llm::Bands {
            tolerance: Some(band_tolerance),
            ignored: NOT_COMPARED.map(str::to_owned).into(),
            ..llm::Bands::default()
        }),
        ..llm::AnalyzeRequest::default()
    }
}

pub(crate) fn analysed(answer: llm::AnalyzeResponse) -> Analysed {
    let mut all = Analysed { upstream_calls: answer.upstream_calls, ..Analysed::default() };
    for result in answer.results {
        if let Some(served) = &result.served {
            *all.served.entry(served_by(served.by()).to_owned()).or_default() += 1;
            all.cost_usd += served.cost_usd;
            all.saved_usd += served.saved_usd;
        }
        let id = result.observation_id;
        match result.outcome {
            Some(llm::observation_result::Outcome::Analysis(found)) => {
                let llm::Analysis { summary, confidence, salience } = found;
                all.findings.insert(id, Finding { summary, confidence, salience });
            }
            Some(llm::observation_result::Outcome::Failure(failure)) => {
                all.failed.push((id, Problem::new(failure.reason, failure.message)));
            }
            None => all.failed.push((id, Problem::new("DATA_LOSS", "the gateway gave no outcome"))),
        }
    }
    all.assessment = answer.assessment.map(|it| it.overall_assessment).unwrap_or_default();
    if let Some(served) = answer.served {
        all.model = served.model;
        // The call's own figures are whole; shares of items that failed are in no result.
        all.cost_usd = all.cost_usd.max(served.cost_usd);
    }
    all
}

pub(crate) fn record_request(
    collection: &str,
    time: SystemTime,
    samples: Vec<Sample>,
) -> storage::RecordMetricsRequest {
    let time = time::to_proto(time);
    let written = |sample: Sample| storage::MetricSample {
        entity: sample.entity,
        time: Some(time),
        values: sample.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    storage::RecordMetricsRequest {
        collection: collection.to_owned(),
        samples: samples.into_iter().map(written).collect(),
    }
}

pub(crate) fn write_request(documents: Vec<Document>) -> storage::WriteBatchRequest {
    let written = |document: Document| storage::DocumentWrite {
        collection: document.collection.to_owned(),
        document_id: document.id,
        mode: storage::WriteMode::Set.into(),
        fields: document.fields.into_iter().map(|(name, field)| (name, value(field))).collect(),
        priority: storage::Priority::Normal.into(),
        ..storage::DocumentWrite::default()
    };
    storage::WriteBatchRequest { writes: documents.into_iter().map(written).collect(), ..Default::default() }
}

pub(crate) fn targets_request() -> monitor::GetTargetsRequest {
    monitor::GetTargetsRequest { window: None }
}

pub(crate) fn missed(answer: monitor::GetTargetsResponse) -> Vec<String> {
    use monitor::TargetState::{Breach, Critical};
    let is_missed = |target: &monitor::Target| matches!(target.state(), Breach | Critical);
    answer.targets.into_iter().filter(is_missed).map(|target| target.name).collect()
}

fn served_by(by: llm::ServedBy) -> &'static str {
    match by {
        llm::ServedBy::Pattern => "pattern",
        llm::ServedBy::Exact => "exact",
        llm::ServedBy::Semantic => "semantic",
        llm::ServedBy::Coalesced => "coalesced",
        llm::ServedBy::Merged => "merged",
        llm::ServedBy::Upstream => "upstream",
        llm::ServedBy::Unspecified => "unspecified",
    }
}

fn value(field: Value) -> storage::Value {
    use storage::value::Kind;
    let kind = match field {
        Value::Null => Kind::NullValue(true),
        Value::Bool(value) => Kind::BooleanValue(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Kind::IntegerValue(whole),
            (None, number) => Kind::DoubleValue(number.unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ArrayValue(storage::ArrayValue { values: values.into_iter().map(value).collect() })
        }
        Value::Object(fields) => Kind::MapValue(storage::MapValue {
            fields: fields.into_iter().map(|(name, field)| (name, value(field))).collect(),
        }),
    };
    storage::Value { kind: Some(kind) }
}

/// A memory without a time is as old as can be: it counts for nothing recent.
fn moment(time: Option<&prost_types::Timestamp>) -> SystemTime {
    time.and_then(|time| time::from_proto(time, "time").ok()).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_analysis_keeps_findings_failures_and_counts_apart() {
        let result = |id: &str, by: llm::ServedBy, outcome| llm::ObservationResult {
            observation_id: id.to_owned(),
            outcome,
            served: Some(llm::Served {
                by: by.into(),
                cost_usd: 0.5,
                saved_usd: 1.0,
                ..llm::Served::default()
            }),
            ..llm::ObservationResult::default()
        };
        let found = llm::Analysis { summary: "calm".into(), confidence: 0.6, salience: 0.1 };
        let lost = llm::ItemFailure { reason: "missing".into(), message: "not answered".into() };
        let all = analysed(llm::AnalyzeResponse {
            results: vec![
                result("a", llm::ServedBy::Pattern, Some(llm::observation_result::Outcome::Analysis(found))),
                result("b", llm::ServedBy::Merged, Some(llm::observation_result::Outcome::Failure(lost))),
                result("c", llm::ServedBy::Merged, None),
            ],
            ..llm::AnalyzeResponse::default()
        });
        assert_eq!(all.findings["a"].summary, "calm");
        assert_eq!(all.failed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!((all.served["pattern"], all.served["merged"]), (1, 2));
        assert!((all.cost_usd - 1.5).abs() < 1e-9 && (all.saved_usd - 3.0).abs() < 1e-9);
    }

    #[test]
    fn fields_keep_their_types() {
        use storage::value::Kind;
        assert_eq!(value(json!(3)).kind, Some(Kind::IntegerValue(3)));
        assert_eq!(value(json!(3.0)).kind, Some(Kind::DoubleValue(3.0)));
        assert_eq!(value(json!(null)).kind, Some(Kind::NullValue(true)));
    }
}
