//! What can go wrong, and the one mapping to what a caller is told.

use rpc::{Code, Fault};

use crate::{pattern, provider, route, tenant::Exceeded};

/// What can go wrong at the start or in a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not be started.
    #[error("the gateway cannot be served")]
    Serve(#[from] rpc::Error),
    /// The pattern templates are wrong.
    #[error("the pattern templates cannot be used")]
    Patterns(#[from] pattern::Error),
    /// What templates learned cannot be read or written.
    #[error("what the pattern templates learned cannot be used")]
    Learned(#[from] pattern::StoreError),
    /// A task of ours panicked or was cancelled.
    #[error("a task of the gateway failed")]
    Task(#[source] tokio::task::JoinError),
    /// An upstream of the settings or of the routes cannot be set up.
    #[error("an upstream (`llm_upstream_url`, `llm_api_key`, `llm_routes`) cannot be set up")]
    Setup(#[from] provider::SetupError),
    /// The routes file is wrong.
    #[error("the routes of `llm_routes` cannot be used")]
    Routes(#[from] route::FileError),
    /// No embedder has that name.
    #[error("the setting `llm_embedder` cannot be used: {0}")]
    EmbedderSetting(embedding::Unknown),
    /// The embedder cannot be made, or turns no text into vectors.
    #[error("the embedder cannot be used")]
    Embedder(#[from] embedding::Error),
    /// The verifier is none.
    #[error(
        "the setting `llm_semantic_verifier` names `{0}`, which is no model of `llm_routes` or `llm_upstream_url`"
    )]
    Verifier(String),
    /// A tenant's money cannot be counted.
    #[error(
        "a tenant of `llm_routes` has `usd_per_day`, and `llm_price_input_per_mtok` and `llm_price_output_per_mtok` say nothing of what `llm_upstream_url` costs: set them, or make a [[model]] with a [[price]] of it"
    )]
    Unpriced,
    /// Nobody answers for a model.
    #[error(transparent)]
    NoUpstream(#[from] route::NoUpstream),
    /// The model did not answer.
    #[error("the model did not answer")]
    Failed(#[from] provider::Failure),
    /// The estimate exceeds what the call may cost.
    #[error("the call is estimated at {estimate_usd} USD and may cost {limit_usd}")]
    OverBudget {
        /// By estimate, in USD.
        estimate_usd: f64,
        /// The caller's limit, in USD.
        limit_usd: f64,
    },
    /// The caller's deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::NoUpstream(_) => Self::invalid(
                "model",
                "must be `builtin/statistics`, or a model of `llm_routes` or `llm_upstream_url`",
            ),
            Error::OverBudget { .. } => {
                Self::new(Code::FailedPrecondition, error.to_string()).reason("MAX_COST_EXCEEDED")
            }
            Error::DeadlineExceeded => Self::new(Code::DeadlineExceeded, "the deadline passed"),
            Error::Failed(failure) => of_failure(failure),
            Error::Learned(pattern::StoreError::Write(failed)) => {
                let reason = failed.reason().unwrap_or(journal::Reason::Store);
                let code = if reason.is_exhaustion() { Code::ResourceExhausted } else { Code::Unavailable };
                Self::new(code, "what templates learn cannot be written at present")
                    .reason(reason.word())
                    .retry_after(std::time::Duration::from_secs(1))
                    .caused_by(failed)
            }
            Error::Embedder(error) if error.is_temporary() => {
                let fault = Self::new(Code::Unavailable, "the embedder does not answer")
                    .reason("EMBEDDER_UNAVAILABLE");
                let fault = match error.retry_after() {
                    Some(wait) => fault.retry_after(wait),
                    None => fault,
                };
                fault.caused_by(error)
            }
            Error::Embedder(_) => {
                Self::new(Code::Internal, "the embedder failed").reason("EMBEDDER_FAILED").caused_by(error)
            }
            Error::Serve(_)
            | Error::Patterns(_)
            | Error::Setup(_)
            | Error::Routes(_)
            | Error::EmbedderSetting(_)
            | Error::Verifier(_)
            | Error::Unpriced
            | Error::Learned(_)
            | Error::Task(_) => Self::new(Code::Internal, "the gateway is not set up").caused_by(error),
        }
    }
}

fn of_failure(failure: provider::Failure) -> Fault {
    use provider::{Failure, UNKNOWN_MODEL};
    let told = |code, word: &'static str| Fault::new(code, failure.to_string()).reason(word);
    match &failure {
        Failure::Unreachable => told(Code::Unavailable, "UPSTREAM_UNREACHABLE"),
        // A caller that repeats what is unavailable would pay for the same answer again.
        Failure::Malformed => told(Code::Internal, "UPSTREAM_MALFORMED"),
        Failure::Throttled { retry_after } => {
            let fault = told(Code::ResourceExhausted, "UPSTREAM_THROTTLED");
            match retry_after {
                Some(wait) => fault.retry_after(*wait),
                None => fault,
            }
        }
        Failure::Refused { too_long: true, .. } => {
            Fault::invalid("messages", "must be shorter: the model reads no more")
                .reason("CONTEXT_LENGTH_EXCEEDED")
        }
        Failure::Refused { status: UNKNOWN_MODEL, field, .. } => {
            let field = field.as_deref().unwrap_or("model");
            Fault::invalid(field, "must be what the upstream has").reason("MODEL_NOT_FOUND")
        }
        Failure::Refused { field: Some(field), .. } => {
            Fault::invalid(field, "must be what the upstream accepts")
        }
        Failure::Refused { .. } => told(Code::InvalidArgument, "UPSTREAM_REFUSED"),
        Failure::Unsupported { field } => Fault::invalid(field, "must be what the upstream's API can carry"),
        Failure::Resting { retry_after } => {
            told(Code::Unavailable, "UPSTREAM_RESTING").retry_after(*retry_after)
        }
        Failure::Overloaded { retry_after } => {
            told(Code::ResourceExhausted, "OVERLOADED").retry_after(*retry_after)
        }
        Failure::Credentials => told(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS"),
        Failure::Limited(exceeded) => of_limit(exceeded),
        Failure::Deadline => told(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    }
}

fn of_limit(exceeded: &Exceeded) -> Fault {
    let told = |code, word: &'static str| Fault::new(code, exceeded.to_string()).reason(word);
    match exceeded {
        Exceeded::Requests { retry_after } | Exceeded::Tokens { retry_after } => {
            told(Code::ResourceExhausted, "RATE_LIMITED").retry_after(*retry_after)
        }
        Exceeded::Budget { retry_after } => {
            told(Code::ResourceExhausted, "BUDGET_EXHAUSTED").retry_after(*retry_after)
        }
        Exceeded::Day { .. } => told(Code::FailedPrecondition, "MAX_COST_EXCEEDED"),
    }
}
