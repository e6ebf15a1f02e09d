//! Many observations, few questions to a model: who shares a call, what is asked, how the answer is taken apart, what is asked again,
//! and what looks wrong with the input. Nothing here asks anyone.

mod codes;
mod degenerate;
mod merger;
mod progress;
mod prompt;
mod split;
pub(crate) mod weight;

pub use self::{
    degenerate::warnings,
    merger::{Departure, Limits, Load, Merger},
    progress::{Course, Item, Progress, alone},
    prompt::{Call, Line, Mark, Part, Prompt},
    split::{Split, split},
};
