//! The semantic tier's decision: may the answer to one text be served to another?

mod features;
mod guards;
mod lexicon;
mod number;
mod pairing;
mod text;

pub use self::{
    guards::{Objection, objection},
    text::Text,
};
