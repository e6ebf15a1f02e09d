//! What is told of generative models: by OpenTelemetry's conventions where those are opted into, and under our own prefix.
//!
//! Source: OpenTelemetry semantic conventions for generative AI (development), "Spans", "Metrics" and their bucket bounds, as of autumn 2026.

use super::Metric;

/// Bucket bounds of calls in seconds, as the conventions advise.
pub const SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Bucket bounds of tokens, as the conventions advise.
pub const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];

/// Time a request to a model took; attributes [`OPERATION_NAME`], [`PROVIDER_NAME`], [`REQUEST_MODEL`], [`RESPONSE_MODEL`],
/// [`super::SERVER_ADDRESS`], [`super::SERVER_PORT`], [`super::ERROR_TYPE`].
pub const OPERATION_DURATION: Metric =
    Metric::seconds("gen_ai.client.operation.duration", "Time a request to a model took.", SECONDS);
/// Time until a streamed answer began; attributes as [`OPERATION_DURATION`].
pub const TIME_TO_FIRST_CHUNK: Metric = Metric::seconds(
    "gen_ai.client.operation.time_to_first_chunk",
    "Time until a streamed answer began.",
    SECONDS,
);
/// Tokens of a request as its upstream counted them; attributes as [`OPERATION_DURATION`], and [`TOKEN_TYPE`].
pub const TOKEN_USAGE: Metric =
    Metric::histogram("gen_ai.client.token.usage", "{token}", "Tokens of a request to a model.", TOKENS);

/// Attribute: what a model is asked for; always [`CHAT`] here, and the beginning of the span's name.
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// Value of [`OPERATION_NAME`].
pub const CHAT: &str = "chat";
/// Attribute: whose API is spoken, `openai` or `anthropic`.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// Attribute: the model asked.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Attribute: whether the answer is streamed.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// Attribute: most tokens of the answer.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// Attribute: the sampling temperature.
pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
/// Attribute: the share of probability that is sampled from.
pub const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
/// Attribute: the model that answered, as it names itself.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Attribute: the upstream's name of the answer.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Attribute: why the model stopped, a list of one.
pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Attribute: seconds until a streamed answer began.
pub const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Attribute: tokens read.
pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Attribute: those of them that the upstream had cached.
pub const USAGE_CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Attribute: tokens written.
pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Attribute: which tokens, [`INPUT`] or [`OUTPUT`].
pub const TOKEN_TYPE: &str = "gen_ai.token.type";
/// Value of [`TOKEN_TYPE`].
pub const INPUT: &str = "input";
/// Value of [`TOKEN_TYPE`].
pub const OUTPUT: &str = "output";
/// Attribute: what is asked, as JSON; only where words are switched on.
pub const INPUT_MESSAGES: &str = "gen_ai.input.messages";
/// Attribute: instructions that the API takes apart from what is asked, as JSON; only where words are switched on.
pub const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";
/// Attribute: the answer, as JSON; only where words are switched on.
pub const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";

/// Span of a request to an upstream where the conventions are not opted into.
pub const SPAN_REQUEST: &str = "athena.llm.request";
/// Attribute of either span: the upstream asked, as the routes name it.
pub const UPSTREAM: &str = "athena.llm.upstream";
/// Attribute of [`SPAN_REQUEST`]: the model asked.
pub const MODEL: &str = "athena.llm.model";
/// Attribute of [`SPAN_REQUEST`]: tokens read.
pub const INPUT_TOKENS: &str = "athena.llm.input_tokens";
/// Attribute of [`SPAN_REQUEST`]: those of them that the upstream had cached.
pub const CACHED_TOKENS: &str = "athena.llm.cached_input_tokens";
/// Attribute of [`SPAN_REQUEST`]: tokens written.
pub const OUTPUT_TOKENS: &str = "athena.llm.output_tokens";
/// Attribute of [`SPAN_REQUEST`]: why the model stopped.
pub const FINISH: &str = "athena.llm.finish";

/// Attribute of a caller's span: what answered; with a point and that word behind it, how many items were answered so.
pub const SERVED_BY: &str = "athena.llm.served_by";
/// Attribute of a caller's span: what it did not pay, in USD.
pub const SAVED_USD: &str = "athena.llm.saved_usd";
/// Attribute of a caller's span: what it paid, in USD, where a model was asked for it.
pub const COST_USD: &str = "athena.llm.cost_usd";
/// Attribute of a caller's span: how old the answer from a cache is, in seconds on the agent clock.
pub const AGE_SECONDS: &str = "athena.llm.age_seconds";
/// Attribute of a caller's span: requests sent to upstreams until one answered.
pub const ATTEMPTS: &str = "athena.llm.attempts";
