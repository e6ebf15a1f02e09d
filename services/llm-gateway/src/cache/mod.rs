//! The caches: identity of a request, stored answers, which of them are about close figures, and calls in flight.
//!
//! 1. A key is a keyed 256-bit hash of a canonical form, and the form itself: equal hashes of different requests are told apart.
//! 2. The canonical form starts with the tenant: no tenant is ever served another's answer.
//! 3. Only complete answers are stored; what was refused is counted.
//! 4. Bands only say which stored answer is about close figures; answers have one home.

pub mod bands;
mod exact;
mod flight;
mod form;
mod key;
pub mod semantic;

pub use self::{
    bands::Bands,
    exact::{Entry, Exact, Found, MAX_ENTRY_BYTES, Room, StoredAnalysis, StoredAnswer},
    flight::{Flights, Lead, MOST_LEADERS, Seat},
    key::{Key, Keys},
};
