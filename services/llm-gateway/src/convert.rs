//! Wire ⇄ domain, naming the bad field.

mod answer;
mod question;

pub(crate) use self::{
    answer::{evaluation, generated, pattern, report, resized, stats, stream_piece},
    question::{analyze, capacity, generate, generate_stream, model, observation_of},
};
