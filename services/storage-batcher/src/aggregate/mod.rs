//! Aggregation by rules: which samples become which buckets, when a bucket becomes a document, and which documents many buckets share.
//!
//! A bucket is one window of one entity of one collection. Its life, told by the watermark of its rule, which is the agent clock less the
//! rule's lateness ([`watermark`]):
//!
//! | state | is | a sample of it | ends when |
//! |---|---|---|---|
//! | none | nobody has measured | opens it | a sample comes |
//! | open | in memory and on disk, served from memory | is added; one of the same time is replaced | the watermark reaches its end: it is written once, and closed |
//! | closed | a document, and its samples on disk | opens it again with all its samples; the watermark being past its end, it is written and closed at once | the last moment of it is a day old: its samples go |
//! | over | a document | is refused | never |
//!
//! [`rules`] says what is kept of a collection, [`figure`] computes it, [`pack`] lays several buckets into one document, and
//! [`places`] remembers which entity lies in which.

pub mod figure;
pub mod file;
pub mod pack;
pub mod places;
pub mod rules;
pub mod watermark;
