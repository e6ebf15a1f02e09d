//! What a recall says about its stages.

use std::time::Duration;

/// One stage of a recall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Its name, such as `filter.pool`.
    pub(crate) name: &'static str,
    /// What it did, in words.
    pub(crate) detail: String,
    /// Memories that entered it.
    pub(crate) rows_in: u64,
    /// Memories that left it.
    pub(crate) rows_out: u64,
    /// Wall time.
    pub(crate) duration: Duration,
}

/// Says which bitmaps a filter joined; of several names only their number, as there may be many.
#[must_use]
pub(crate) fn named(what: &str, names: &[String]) -> String {
    match names {
        [] => format!("every one of the {what}"),
        [name] => format!("bitmap of {name}"),
        names => format!("union of the bitmaps of {} {what}", names.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_filter_says_what_it_joined() {
        assert_eq!(named("pools", &[]), "every one of the pools");
        assert_eq!(named("pools", &["weth".into()]), "bitmap of weth");
        assert_eq!(named("pools", &["a".into(), "b".into()]), "union of the bitmaps of 2 pools");
    }
}
