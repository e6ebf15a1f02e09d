//! Wire ⇄ domain, naming the bad field.

mod answer;
mod conversation;
mod pattern;
mod question;

pub(crate) use self::{
    answer::{generated, report, resized, stats, stream_part},
    conversation::{generate, generate_stream},
    pattern::{outcome, patterns, reinstated, told, tried},
    question::{analyze, capacity, model, observation_of},
};
