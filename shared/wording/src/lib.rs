//! Compares two wordings: what they share, and what no likeness may overrule.
//!
//! A text is taken apart once ([`Text`]): its words with their stems and forms, its numbers with their units. Two of them are put side
//! by side ([`Pairing`]) and asked whether they can mean the same ([`objection`]). Everything here is pure, and English where it
//! has to be of a language.

mod guards;
mod lexicon;
mod number;
mod pairing;
mod sameness;
mod symbol;
mod text;

pub use self::{
    guards::{MOST_WORDS, Objection, object, objection},
    lexicon::Classes,
    number::Number,
    pairing::{Gap, Pairing, Side},
    sameness::{Sameness, bare, compare, telling},
    symbol::Symbol,
    text::{Form, Text, Word},
};
