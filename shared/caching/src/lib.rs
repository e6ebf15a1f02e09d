//! A measured cache: TTL on the agent clock, limits in entries and bytes, and the curve of what another size would bring.
//!
//! Eviction is moka's TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", 2017). Age is kept
//! beside each value and judged on the clock at every read, because an answer's age is event time: a replay that moves the clock by a day
//! must not be served yesterday's answers.
//!
//! A cache that is watched ([`Options::sizing`]) shows in [`Cache::outlook`] what other sizes and TTLs would bring, and may take another
//! size by itself ([`Sizer`]).

mod cache;
mod curve;
mod ghost;
mod sizing;
mod store;

pub use self::{
    cache::{Bytes, Cache, Hit, Options, Outlook, Stats, Told},
    curve::{Curve, Point},
    ghost::{Forecast, MOST_HASHES},
    sizing::{Change, Resize, SLACK, STAKE, Seen, Sizer, Sizing, Why},
};
