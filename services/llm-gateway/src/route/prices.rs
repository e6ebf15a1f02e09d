//! What upstreams charge, as the routes file has it.

use crate::price::Price;

/// Prices by upstream and model, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Prices(Vec<Row>);

#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The upstream; `None` for all.
    pub(super) upstream: Option<String>,
    /// The model as the upstream names it; a `*` at its end stands for any rest.
    pub(super) model: String,
    pub(super) price: Price,
}

impl Prices {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    /// Returns the price of a model: of the first row that fits.
    pub(super) fn of(&self, upstream: &str, model: &str) -> Option<Price> {
        let fits = |row: &&Row| {
            let is_upstream = row.upstream.as_deref().is_none_or(|named| named == upstream);
            let is_model = match row.model.strip_suffix('*') {
                Some(beginning) => model.starts_with(beginning),
                None => model == row.model,
            };
            is_upstream && is_model
        };
        self.0.iter().find(fits).map(|row| row.price)
    }
}

#[cfg(test)]
mod tests {
    use super::{Price, Prices, Row};

    #[test]
    fn the_first_row_that_fits_counts() {
        let row = |upstream: Option<&str>, model: &str, input_per_mtok| Row {
            upstream: upstream.map(str::to_owned),
            model: model.to_owned(),
            price: Price { input_per_mtok, ..Price::default() },
        };
        let prices = Prices::new(vec![
            row(Some("a"), "small", 1.0),
            row(None, "small*", 2.0),
            row(Some("b"), "*", 3.0),
        ]);
        let of = |upstream, model| prices.of(upstream, model).map(|price| price.input_per_mtok);
        assert_eq!(
            (of("a", "small"), of("b", "small-2"), of("b", "large")),
            (Some(1.0), Some(2.0), Some(3.0))
        );
        assert_eq!(of("a", "large"), None);
    }
}
