//! Answers prompts and analyses observations, asking a model only where nothing cheaper does.
//!
//! Design facts:
//!
//! 1. An observation goes by a pattern template, then the exact cache, then, where asked for, an answer about close figures of the same
//!    entity, then one call shared with all that is left; a conversation by the exact cache, then an identical call in flight, then
//!    a call of its own. Every answer says which, with age, tokens, cost and time.
//! 2. `builtin/statistics` is no language model and says so wherever it speaks. It needs no key, uses no tokens and costs nothing.
//! 3. Identity is a keyed 256-bit hash of a canonical form (tenant, model, parameters, whole history), and the form itself: two requests
//!    never share an answer by accident or by design, two tenants never at all.
//! 4. Errors, cut or filtered answers and incomplete streams are never stored; what was refused is counted.
//! 5. Those who wait for a call in flight wait as long as their own deadline. A caller that leads and goes away hands over its turn.
//! 6. A shared answer is taken apart entry by entry: what is missing or invalid is asked for again, together, then singly, then failed by
//!    name. Callers of one tenant, model and question share calls when they come together; each pays its share.
//! 7. Age is event time, on the agent clock; timeouts, retries and phases are wall time.
//! 8. Whom a model's call goes to is a pure plan over upstreams, each with a queue, a breaker and a budget of repetitions; a tenant's limits
//!    count what asks them.
//! 9. Neither words nor keys are logged or traced. No state of the process is used: several gateways live in one.

pub mod analyze;
pub mod batch;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cache;
pub mod config;
pub mod conversation;
mod convert;
mod dialect;
pub mod error;
pub mod gateway;
mod generate;
pub mod journey;
pub mod merge;
pub mod meter;
pub mod observation;
pub mod pattern;
pub mod price;
pub mod provider;
pub mod route;
pub mod semantic;
pub mod served;
mod server;
pub mod stream;
pub mod tenant;
mod verify;

pub use crate::{
    config::Config,
    error::Error,
    server::{Bound, assemble, bind},
};
