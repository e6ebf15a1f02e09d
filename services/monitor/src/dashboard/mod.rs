//! The dashboard: one page at `/`, and the JSON behind it.
//!
//! The page asks for nothing from elsewhere and sets what it is told as text. The JSON needs a caller that is let in; the
//! page itself holds no data.

mod routes;
mod view;

pub(crate) use routes::routes;
