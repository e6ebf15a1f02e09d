//! What two neighbouring points of a series have in common.

/// Takes in a later value of the same kind.
pub trait Merge {
    /// Adds `later` to what is here.
    fn absorb(&mut self, later: Self);
}

/// What a counter rose by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increment(pub f64);

/// Where a gauge stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level(pub f64);

impl Merge for Increment {
    fn absorb(&mut self, later: Self) {
        self.0 += later.0;
    }
}

impl Merge for Level {
    fn absorb(&mut self, later: Self) {
        *self = later;
    }
}

/// Returns the range that covers both; `None` where one side has values of unknown range. `first` says that the other
/// side is all there is.
pub(super) fn extremes(
    mine: Option<(f64, f64)>,
    theirs: Option<(f64, f64)>,
    first: bool,
) -> Option<(f64, f64)> {
    match (mine, theirs) {
        (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
        (None, theirs) if first => theirs,
        _ => None,
    }
}
