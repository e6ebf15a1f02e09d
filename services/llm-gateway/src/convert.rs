//! Wire ⇄ domain, naming the bad field.

mod answer;
mod conversation;
mod question;

pub(crate) use self::{
    answer::{evaluation, generated, pattern, report, resized, stats, stream_part},
    conversation::{generate, generate_stream},
    question::{analyze, capacity, model, observation_of},
};
