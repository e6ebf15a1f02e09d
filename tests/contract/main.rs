//! The contracts: the text they are stored as, the rules they keep, and that a running mesh honours them.
//!
//! `ATHENA_BLESS=1 cargo test -p tests --test contract` rewrites the stored text; the difference shows in review.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod fixture;
mod frames;
mod inputs;
mod rendering;
mod rules;
mod serving;
mod sources;
mod storm;
