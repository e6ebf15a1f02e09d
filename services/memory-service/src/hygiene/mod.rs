//! Keeps what is remembered clean without asking anybody: what was said before is not stored twice, what was just recalled is not
//! stored back, and what contradicts each other says so.
//!
//! 1. **A merge loses no word that carries meaning.** Two memories are one where only case, spacing, punctuation, articles, plurals,
//!    spellings of one number or the place of a phrase tell them apart, whatever the likeness of their vectors. "APR 25" is never
//!    "APR 250", pool A never pool B.
//! 2. **Who names a memory gets it.** A memory that comes with an id is stored under it, unless the caller asks for merging.
//! 3. **Nothing is left out for an echo of what is not there.** What was recalled is looked up before it is called repeated, and pools count.
//! 4. **Nothing is deleted for contradicting something.** Both say so in every answer until one of them goes.

pub(crate) mod claims;
pub(crate) mod echo;
pub(crate) mod form;
pub(crate) mod merge;
pub(crate) mod near;
pub(crate) mod saying;
pub(crate) mod settle;
pub(crate) mod turns;
