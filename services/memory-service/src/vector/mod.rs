//! Vectors: which of a set of rows are nearest to a query, proven.
//!
//! A row keeps 8 bits a value in memory; its full vector is in the store. With `u` the row's vector of length 1, `c` its
//! code and `s` its scale, `u = s·c + e`; with `v` the query's, `v = t·p + f`. Then by Cauchy and Schwarz
//!
//! ```text
//! |<u, v> - s·t·<c, p>| = |<e, v> + s·<c, f>| <= |e| + (1 + |e|)·|f|
//! ```
//!
//! where `|e|` is kept with each row and `|f|` is known. So a scan knows for each row between what its score lies. It keeps
//! every row that may still be among the best, and these are scored from their full vectors, the most promising first, until
//! no other can come in between: the answer is exact, whatever the data.
//!
//! The 8 bits lie in two planes of 4. The upper plane alone gives a bound, 16 times as wide: a scan reads it first, and the lower
//! plane only of the rows this leaves in doubt. That is less than what reading the codes once takes, and never more.

pub(crate) mod arena;
pub(crate) mod code;
pub(crate) mod interval;
pub(crate) mod kernel;
pub(crate) mod metric;
pub(crate) mod pool;
pub(crate) mod scan;
pub(crate) mod search;
mod sieve;
pub(crate) mod source;
mod stretch;
#[cfg(test)]
mod tests;
