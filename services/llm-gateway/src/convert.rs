//! Wire ⇄ domain, naming the bad field.

mod answer;
mod bands;
mod cache;
mod conversation;
mod question;

pub(crate) use self::{
    answer::{evaluation, generated, pattern, report, stream_part},
    cache::{resized, stats},
    conversation::{generate, generate_stream},
    question::{analyze, capacity, model, observation_of},
};
