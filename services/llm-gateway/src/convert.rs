//! Wire ⇄ domain, naming the bad field.

mod answer;
mod bands;
mod cache;
mod conversation;
mod pattern;
mod question;
mod semantic;

pub(crate) use self::{
    answer::{generated, report, stream_part},
    cache::{resized, stats},
    conversation::{generate, generate_stream},
    pattern::{outcome, patterns, reinstated, told, tried},
    question::{Condemned, MODEL_BYTES, analyze, capacity, condemned, observation_of, within},
    semantic::{calibrated, compared, pairs},
};
