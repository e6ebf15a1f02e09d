//! Many observations, one question to a model: what is asked, how the answer is taken apart, what looks wrong with the input.

mod degenerate;
mod prompt;
mod split;

pub use self::{
    degenerate::warnings,
    prompt::{Prompt, tag},
    split::{Split, split},
};
