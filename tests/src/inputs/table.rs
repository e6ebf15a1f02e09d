//! What every field of every request may hold. A field that is not here, or that is no longer in the contracts, fails the test.

use prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};

use super::edges::{ANY, LONGEST};
use super::holds::Holds::{
    self, Blob, Choice, Distinct, FieldName, FieldPath, Flag, Free, From, Integer, Json, List, Map, Message,
    Moment, Name, Nothing, Number, Once, Operand, PathName, Plain, Recent, Span, Text, TraceId, Until,
    Values, Vector, Whole, Words,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SECOND: u64 = 1_000_000_000;

/// The mesh that answers has no upstream.
const MODEL: Holds = Words(&["builtin/statistics", ""]);
const TURNS: Holds = List(1, 1_000, &Message { required: true });
const TEMPERATURE: Holds = Number(0.0, 2.0);
const TOKENS: Holds = Whole(1, u32::MAX as u64);
const COST: Holds = Number(0.0, f64::MAX);
/// The one form in which a name of an answer is given.
const ANSWER_ID: Holds = Words(&["0af7651916cd43dd8448eb211c80319c", ""]);
const SHARE: Holds = Number(0.0, 1.0);
const WEIGHT: Holds = Number(0.0, 1_000.0);
const FINITE: Holds = Number(f64::MIN, f64::MAX);
const LIMIT: Holds = Whole(0, 1_000);
/// A plan that can be taken for every query, or none.
const NAMESPACE: Holds = Text(0, 128);
const PLAN: Holds = Words(&["filtered_scan", ""]);
const PATH_NAME: Holds = PathName { optional: false };
/// As `memory_dimensions` has it.
const EMBEDDING: Holds = Vector(256);
/// Seconds a memory may be told to live.
const LIFE: u64 = 100 * 365 * 86_400;
/// Text and bytes of a document: its own limit less its shortest name.
const VALUE_BYTES: usize = MIB - 89;

/// Choices none of which has to be made, by their full names without `athena.`.
const OPTIONAL: &[&str] = &["memory.v1.Memory.expiration"];

/// Fields by their full name without `athena.`, and what they may hold.
const TABLE: &[(&str, Holds)] = &[
    ("agent.v1.RunCycleRequest.agent_id", Plain(128)),
    ("agent.v1.RunCycleRequest.deadline", Span(1, LONGEST)),
    ("agent.v1.WatchCyclesRequest.agent_id", Plain(128)),
    ("agent.v1.GetCycleRequest.cycle_id", Text(1, 64)),
    ("agent.v1.ListCyclesRequest.agent_id", Plain(128)),
    ("agent.v1.ListCyclesRequest.limit", LIMIT),
    ("llm.v1.Message.role", ROLE),
    ("llm.v1.Message.content", Free(1)),
    ("llm.v1.Message.tool_calls", Nothing),
    ("llm.v1.Message.tool_call_id", Nothing),
    ("llm.v1.ToolCall.id", Text(1, 256)),
    ("llm.v1.ToolCall.name", Text(1, 64)),
    ("llm.v1.ToolCall.arguments", Free(0)),
    ("llm.v1.Tool.name", Name(64)),
    ("llm.v1.Tool.description", Text(0, 16 * KIB)),
    ("llm.v1.Tool.parameters", Json(0, 64 * KIB)),
    ("llm.v1.Tool.strict", Flag),
    ("llm.v1.ToolChoice.mode", TOOL_MODE),
    ("llm.v1.ToolChoice.name", Words(&[""])),
    ("llm.v1.ResponseFormat.json_object", Message { required: false }),
    ("llm.v1.ResponseFormat.json_schema", Message { required: false }),
    ("llm.v1.JsonSchema.name", Name(64)),
    ("llm.v1.JsonSchema.schema", Json(1, 64 * KIB)),
    ("llm.v1.JsonSchema.strict", Flag),
    ("llm.v1.CacheControl.skip_read", Flag),
    ("llm.v1.CacheControl.skip_store", Flag),
    ("llm.v1.CacheControl.skip_coalescing", Flag),
    ("llm.v1.CacheControl.max_age", Span(0, LONGEST)),
    ("llm.v1.CacheControl.semantic", SEMANTIC_MODE),
    ("llm.v1.GenerateRequest.model", MODEL),
    ("llm.v1.GenerateRequest.messages", TURNS),
    ("llm.v1.GenerateRequest.temperature", TEMPERATURE),
    ("llm.v1.GenerateRequest.max_output_tokens", TOKENS),
    ("llm.v1.GenerateRequest.cache", Message { required: false }),
    ("llm.v1.GenerateRequest.max_cost_usd", COST),
    ("llm.v1.GenerateRequest.tools", Distinct(0, 128, "name")),
    ("llm.v1.GenerateRequest.tool_choice", Message { required: false }),
    ("llm.v1.GenerateRequest.response_format", Message { required: false }),
    ("llm.v1.GenerateRequest.top_p", SHARE),
    ("llm.v1.GenerateRequest.stop", List(0, 16, &Text(1, 256))),
    ("llm.v1.GenerateRequest.seed", Integer),
    ("llm.v1.GenerateRequest.parameters", Json(0, 64 * KIB)),
    ("llm.v1.GenerateStreamRequest.model", MODEL),
    ("llm.v1.GenerateStreamRequest.messages", TURNS),
    ("llm.v1.GenerateStreamRequest.temperature", TEMPERATURE),
    ("llm.v1.GenerateStreamRequest.max_output_tokens", TOKENS),
    ("llm.v1.GenerateStreamRequest.cache", Message { required: false }),
    ("llm.v1.GenerateStreamRequest.max_cost_usd", COST),
    ("llm.v1.GenerateStreamRequest.tools", Distinct(0, 128, "name")),
    ("llm.v1.GenerateStreamRequest.tool_choice", Message { required: false }),
    ("llm.v1.GenerateStreamRequest.response_format", Message { required: false }),
    ("llm.v1.GenerateStreamRequest.top_p", SHARE),
    ("llm.v1.GenerateStreamRequest.stop", List(0, 16, &Text(1, 256))),
    ("llm.v1.GenerateStreamRequest.seed", Integer),
    ("llm.v1.GenerateStreamRequest.parameters", Json(0, 64 * KIB)),
    ("llm.v1.Observation.id", Text(1, 256)),
    ("llm.v1.Observation.type", Text(1, 64)),
    ("llm.v1.Observation.subject", Text(0, KIB)),
    ("llm.v1.Observation.time", Moment),
    ("llm.v1.Observation.values", Map { entries: (0, 256), bytes: ANY, name: &Text(1, 128), value: &FINITE }),
    (
        "llm.v1.Observation.labels",
        Map { entries: (0, 64), bytes: 16 * KIB, name: &Text(1, 128), value: &Free(0) },
    ),
    ("llm.v1.AnalyzeRequest.model", MODEL),
    ("llm.v1.AnalyzeRequest.observations", Distinct(1, 1_000, "id")),
    ("llm.v1.AnalyzeRequest.question", Text(0, 64 * KIB)),
    ("llm.v1.AnalyzeRequest.cache", Message { required: false }),
    ("llm.v1.AnalyzeRequest.max_cost_usd", COST),
    ("llm.v1.AnalyzeRequest.bands", Message { required: false }),
    ("llm.v1.Bands.tolerance", SHARE),
    (
        "llm.v1.Bands.fields",
        Map { entries: (0, 256), bytes: ANY, name: &Text(1, 128), value: &Message { required: false } },
    ),
    ("llm.v1.Bands.ignored", List(0, 256, &Text(1, 128))),
    ("llm.v1.Bands.max_age", Span(0, LONGEST)),
    ("llm.v1.Tolerance.relative", SHARE),
    ("llm.v1.Tolerance.absolute", COST),
    ("llm.v1.InvalidateRequest.model", Nothing),
    ("llm.v1.InvalidateRequest.answer_id", ANSWER_ID),
    ("llm.v1.CalibrateRequest.pairs", List(1, 10_000, &Message { required: true })),
    ("llm.v1.CalibrateRequest.max_false_percent", Number(0.0, 100.0)),
    ("llm.v1.LabelledPair.one", Text(1, 4 * KIB)),
    ("llm.v1.LabelledPair.other", Text(1, 4 * KIB)),
    ("llm.v1.LabelledPair.same", Flag),
    ("llm.v1.ResizeRequest.capacity", Whole(1, 1_000_000)),
    ("llm.v1.EvaluateRequest.observation", Message { required: true }),
    ("llm.v1.ReportOutcomeRequest.match_id", TraceId),
    ("llm.v1.ReportOutcomeRequest.match", Message { required: true }),
    ("llm.v1.ReportOutcomeRequest.came_true", Flag),
    ("llm.v1.MatchName.pattern", Text(1, 128)),
    ("llm.v1.MatchName.type", Text(1, 64)),
    ("llm.v1.MatchName.subject", Text(1, KIB)),
    ("llm.v1.MatchName.time", Moment),
    ("llm.v1.MatchName.observation_id", Text(1, 256)),
    ("llm.v1.ReinstateRequest.pattern", Text(1, 128)),
    ("memory.v1.Memory.id", Text(0, 256)),
    ("memory.v1.Memory.category", Text(1, 128)),
    ("memory.v1.Memory.content", Text(1, 64 * KIB)),
    ("memory.v1.Memory.pools", List(0, 64, &Text(1, 256))),
    ("memory.v1.Memory.time", Moment),
    ("memory.v1.Memory.confidence", SHARE),
    ("memory.v1.Memory.metadata", Map { entries: (0, 64), bytes: 16 * KIB, name: &Free(0), value: &Free(0) }),
    ("memory.v1.Memory.embedding", EMBEDDING),
    ("memory.v1.Memory.agent", Text(0, 128)),
    ("memory.v1.Memory.tags", List(0, 64, &Text(1, 128))),
    ("memory.v1.Memory.thread", Text(1, 256)),
    ("memory.v1.Memory.position", Whole(0, u64::MAX)),
    ("memory.v1.Memory.importance", SHARE),
    ("memory.v1.Memory.expire_time", Moment),
    ("memory.v1.Memory.ttl", Span(1, LIFE)),
    ("memory.v1.Memory.pinned", Flag),
    ("memory.v1.Memory.claim", Message { required: false }),
    ("memory.v1.Memory.sources", List(0, 64, &Text(1, 256))),
    ("memory.v1.Claim.subject", Text(1, 256)),
    ("memory.v1.Claim.field", Text(1, 128)),
    ("memory.v1.Claim.value", Text(1, KIB)),
    ("memory.v1.RememberRequest.memory", Message { required: true }),
    ("memory.v1.RememberRequest.duplicates", DUPLICATES),
    ("memory.v1.RememberBatchRequest.duplicates", DUPLICATES),
    ("memory.v1.RememberBatchRequest.memories", List(1, 1_000, &Message { required: true })),
    ("memory.v1.Query.text", Text(0, 64 * KIB)),
    ("memory.v1.Query.embedding", EMBEDDING),
    ("memory.v1.Query.categories", List(0, 64, &Text(1, 128))),
    ("memory.v1.Query.pools", List(0, 64, &Text(1, 256))),
    ("memory.v1.Query.start_time", From),
    ("memory.v1.Query.end_time", Until),
    ("memory.v1.Query.min_confidence", SHARE),
    ("memory.v1.Query.limit", LIMIT),
    ("memory.v1.Query.include_embedding", Flag),
    ("memory.v1.Query.agents", List(0, 64, &Text(1, 128))),
    ("memory.v1.Query.tags", List(0, 64, &Text(1, 128))),
    ("memory.v1.Query.threads", List(0, 64, &Text(1, 256))),
    ("memory.v1.Query.ranking", RANKING),
    ("memory.v1.Query.weights", Message { required: false }),
    ("memory.v1.Weights.vector", WEIGHT),
    ("memory.v1.Weights.text", WEIGHT),
    ("memory.v1.Weights.entity", WEIGHT),
    ("memory.v1.Weights.period", WEIGHT),
    ("memory.v1.Weights.recency", WEIGHT),
    ("memory.v1.Weights.importance", WEIGHT),
    ("memory.v1.Weights.confidence", WEIGHT),
    ("memory.v1.RecallRequest.query", Message { required: false }),
    ("memory.v1.ExplainRequest.query", Message { required: false }),
    ("memory.v1.ExplainRequest.plan", PLAN),
    ("memory.v1.ExplainOnlyRequest.query", Message { required: false }),
    ("memory.v1.ExplainOnlyRequest.plan", PLAN),
    ("memory.v1.GetRequest.id", Text(1, 256)),
    ("memory.v1.GetRequest.include_embedding", Flag),
    ("memory.v1.ForgetRequest.ids", List(1, 1_000, &Text(1, 256))),
    ("memory.v1.RememberRequest.namespace", NAMESPACE),
    ("memory.v1.RememberBatchRequest.namespace", NAMESPACE),
    ("memory.v1.RecallRequest.namespace", NAMESPACE),
    ("memory.v1.ExplainRequest.namespace", NAMESPACE),
    ("memory.v1.ExplainOnlyRequest.namespace", NAMESPACE),
    ("memory.v1.GetRequest.namespace", NAMESPACE),
    ("memory.v1.ForgetRequest.namespace", NAMESPACE),
    ("memory.v1.GetStatsRequest.namespace", NAMESPACE),
    ("memory.v1.ExportMemoriesRequest.namespace", NAMESPACE),
    ("memory.v1.CreateNamespaceRequest.namespace", Message { required: true }),
    ("memory.v1.Namespace.name", NAMESPACE),
    ("memory.v1.Namespace.embedder", Words(&["hashing-256", ""])),
    ("memory.v1.Namespace.dimensions", Whole(0, 0)),
    ("memory.v1.Namespace.metric", METRIC),
    ("memory.v1.Namespace.memories", Whole(0, u64::MAX)),
    ("memory.v1.Namespace.generation", Whole(0, u64::MAX)),
    ("memory.v1.DropNamespaceRequest.name", NAMESPACE),
    ("memory.v1.TakeSnapshotRequest.name", Name(128)),
    ("memory.v1.PruneRequest.namespace", NAMESPACE),
    ("memory.v1.PruneRequest.dry_run", Flag),
    ("memory.v1.PruneRequest.expected_generation", Whole(0, u64::MAX)),
    ("memory.v1.PruneRequest.examples", Whole(0, 100)),
    ("memory.v1.ListForgettingsRequest.namespace", NAMESPACE),
    ("memory.v1.ListForgettingsRequest.before", Whole(0, u64::MAX)),
    ("memory.v1.ListForgettingsRequest.limit", LIMIT),
    ("memory.v1.UndoRequest.namespace", NAMESPACE),
    ("memory.v1.UndoRequest.forgetting", Whole(1, u64::MAX)),
    ("memory.v1.PurgeRequest.namespace", NAMESPACE),
    ("memory.v1.PurgeRequest.forgetting", Whole(0, u64::MAX)),
    ("memory.v1.AuditRequest.namespace", NAMESPACE),
    ("memory.v1.AuditRequest.examples", Whole(0, 100)),
    ("memory.v1.ReembedRequest.namespace", NAMESPACE),
    ("memory.v1.ReembedRequest.embedder", Words(&["hashing-256", ""])),
    ("memory.v1.ReembedRequest.dimensions", Whole(0, 0)),
    ("memory.v1.GetReembeddingRequest.namespace", NAMESPACE),
    ("memory.v1.CancelReembeddingRequest.namespace", NAMESPACE),
    ("monitor.v1.GetTargetsRequest.window", Span(1, LONGEST)),
    ("monitor.v1.WatchTargetsRequest.window", Span(1, LONGEST)),
    ("monitor.v1.WatchTargetsRequest.interval", Span(SECOND, 3_600)),
    ("monitor.v1.ListTracesRequest.service", Text(0, KIB)),
    ("monitor.v1.ListTracesRequest.root_name", Text(0, KIB)),
    ("monitor.v1.ListTracesRequest.min_duration", Span(0, LONGEST)),
    ("monitor.v1.ListTracesRequest.failed_only", Flag),
    ("monitor.v1.ListTracesRequest.limit", LIMIT),
    ("monitor.v1.GetTraceRequest.trace_id", TraceId),
    ("monitor.v1.ListSlowOperationsRequest.service", Text(0, KIB)),
    ("monitor.v1.ListSlowOperationsRequest.limit", LIMIT),
    ("storage.v1.Value.null_value", Flag),
    ("storage.v1.Value.boolean_value", Flag),
    ("storage.v1.Value.integer_value", Integer),
    ("storage.v1.Value.double_value", FINITE),
    ("storage.v1.Value.string_value", Text(0, VALUE_BYTES)),
    ("storage.v1.Value.bytes_value", Blob(VALUE_BYTES)),
    ("storage.v1.Value.timestamp_value", Moment),
    ("storage.v1.Value.array_value", Message { required: false }),
    ("storage.v1.Value.map_value", Message { required: false }),
    ("storage.v1.ArrayValue.values", Values),
    ("storage.v1.MapValue.fields", FIELDS),
    ("storage.v1.DocumentWrite.collection", PATH_NAME),
    ("storage.v1.DocumentWrite.document_id", PATH_NAME),
    ("storage.v1.DocumentWrite.mode", MODE),
    ("storage.v1.DocumentWrite.fields", FIELDS_OF_A_DOCUMENT),
    ("storage.v1.DocumentWrite.priority", PRIORITY),
    ("storage.v1.DocumentWrite.update_mask", Message { required: false }),
    ("storage.v1.DocumentWrite.update_transforms", List(0, 500, &Message { required: true })),
    ("storage.v1.DocumentWrite.idempotency_key", Once(256)),
    ("storage.v1.DocumentMask.field_paths", List(0, 5_000, &FieldPath)),
    ("storage.v1.FieldTransform.field_path", FieldPath),
    ("storage.v1.FieldTransform.set_to_server_value", SERVER_VALUE),
    ("storage.v1.FieldTransform.increment", Operand),
    ("storage.v1.FieldTransform.maximum", Operand),
    ("storage.v1.FieldTransform.minimum", Operand),
    ("storage.v1.FieldTransform.append_missing_elements", Message { required: false }),
    ("storage.v1.FieldTransform.remove_all_from_array", Message { required: false }),
    ("storage.v1.WriteRequest.write", Message { required: true }),
    ("storage.v1.WriteRequest.level", LEVEL),
    ("storage.v1.WriteBatchRequest.writes", List(1, 500, &Message { required: true })),
    ("storage.v1.WriteBatchRequest.level", LEVEL),
    ("storage.v1.WriteStreamRequest.number", Whole(1, u64::MAX)),
    ("storage.v1.WriteStreamRequest.write", Message { required: true }),
    ("storage.v1.WriteStreamRequest.level", LEVEL),
    ("storage.v1.GetRequest.collection", PATH_NAME),
    ("storage.v1.GetRequest.document_id", PATH_NAME),
    ("storage.v1.ListRequest.collection", PATH_NAME),
    ("storage.v1.ListRequest.page_size", LIMIT),
    ("storage.v1.ListRequest.page_token", PathName { optional: true }),
    ("storage.v1.ListDeadLettersRequest.page_size", LIMIT),
    ("storage.v1.ListDeadLettersRequest.after_sequence", Whole(0, u64::MAX)),
    ("storage.v1.RedriveDeadLettersRequest.sequences", List(1, 500, &Whole(0, u64::MAX))),
    ("storage.v1.DiscardDeadLettersRequest.sequences", List(1, 500, &Whole(0, u64::MAX))),
    ("storage.v1.FlushRequest.close_open_buckets", Flag),
    ("storage.v1.PlanFlushRequest.close_open_buckets", Flag),
    ("storage.v1.MetricSample.entity", Text(1, 256)),
    ("storage.v1.MetricSample.time", Recent),
    (
        "storage.v1.MetricSample.values",
        Map { entries: (1, 32), bytes: ANY, name: &FieldName(64), value: &FINITE },
    ),
    ("storage.v1.RecordMetricsRequest.collection", PathName { optional: true }),
    ("storage.v1.RecordMetricsRequest.samples", List(1, 5_000, &Message { required: true })),
    ("storage.v1.GetBucketsRequest.collection", PathName { optional: true }),
    ("storage.v1.GetBucketsRequest.entity", Text(1, 256)),
    ("storage.v1.GetBucketsRequest.start_time", From),
    ("storage.v1.GetBucketsRequest.end_time", Until),
];

/// The good conversation has one turn, and the last one is the user's.
const ROLE: Holds = Choice {
    required: true,
    good: &["ROLE_USER"],
    elsewhere: &[
        ("ROLE_SYSTEM", "role"),
        ("ROLE_DEVELOPER", "role"),
        ("ROLE_ASSISTANT", "role"),
        ("ROLE_TOOL", "tool_call_id"),
    ],
};

const METRIC: Holds =
    Choice { required: false, good: &["METRIC_COSINE", "METRIC_DOT", "METRIC_EUCLIDEAN"], elsewhere: &[] };

const DUPLICATES: Holds =
    Choice { required: false, good: &["DUPLICATES_KEEP", "DUPLICATES_MERGE"], elsewhere: &[] };

/// A good query has a text.
const RANKING: Holds = Choice {
    required: false,
    good: &["RANKING_HYBRID", "RANKING_VECTOR", "RANKING_TEXT", "RANKING_RECIPROCAL"],
    elsewhere: &[("RANKING_NEWEST", "ranking")],
};

const SEMANTIC_MODE: Holds = Choice {
    required: false,
    good: &["SEMANTIC_MODE_OFF", "SEMANTIC_MODE_SHADOW", "SEMANTIC_MODE_ON"],
    elsewhere: &[],
};

const TOOL_MODE: Holds = Choice {
    required: false,
    good: &["TOOL_MODE_AUTO", "TOOL_MODE_NONE", "TOOL_MODE_REQUIRED"],
    elsewhere: &[],
};

/// A good write has fields, which a delete must not have, and a mask, which only a merge may have.
const MODE: Holds = Choice {
    required: true,
    good: &["WRITE_MODE_MERGE"],
    elsewhere: &[("WRITE_MODE_SET", "update_mask"), ("WRITE_MODE_DELETE", "fields")],
};

const SERVER_VALUE: Holds = Choice { required: true, good: &["SERVER_VALUE_REQUEST_TIME"], elsewhere: &[] };

const PRIORITY: Holds =
    Choice { required: false, good: &["PRIORITY_NORMAL", "PRIORITY_HIGH"], elsewhere: &[] };

const LEVEL: Holds =
    Choice { required: false, good: &["WRITE_LEVEL_DURABLE", "WRITE_LEVEL_STORED"], elsewhere: &[] };

const FIELDS: Holds =
    Map { entries: (0, ANY), bytes: ANY, name: &FieldName(1_500), value: &Message { required: true } };
const FIELDS_OF_A_DOCUMENT: Holds =
    Map { entries: (0, ANY), bytes: MIB, name: &FieldName(1_500), value: &Message { required: true } };

/// Returns the full names of the fields that are known here.
#[must_use]
pub fn names() -> Vec<String> {
    TABLE.iter().map(|(name, _)| format!("athena.{name}")).collect()
}

/// Returns what a field may hold.
pub(super) fn holds(field: &FieldDescriptor) -> Option<Holds> {
    let name = field.full_name().strip_prefix("athena.")?;
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, holds)| *holds)
}

/// Returns whether a message is of our contracts, and not one that they import.
pub(super) fn is_ours(message: &MessageDescriptor) -> bool {
    message.package_name().starts_with("athena.")
}

/// Returns whether a choice may be left open.
pub(super) fn is_optional(choice: &OneofDescriptor) -> bool {
    OPTIONAL.iter().any(|name| choice.full_name().strip_prefix("athena.") == Some(name))
}
