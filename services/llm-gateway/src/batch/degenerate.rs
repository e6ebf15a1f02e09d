//! Input that cannot be right although every single value is valid.

use std::collections::BTreeMap;

use crate::observation::Observation;

/// Fewest observations of a type that are compared: one alone is always equal to itself.
const FEWEST: usize = 2;

/// Returns a sentence for every value that is zero, or the same, in all observations of a type.
#[must_use]
pub fn warnings(observations: &[Observation]) -> Vec<String> {
    let mut columns: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for observation in observations {
        for (name, value) in &observation.values {
            columns.entry((&observation.kind, name)).or_default().push(*value);
        }
    }
    columns.into_iter().filter_map(|((kind, name), values)| warning(kind, name, &values)).collect()
}

fn warning(kind: &str, name: &str, values: &[f64]) -> Option<String> {
    let first = *values.first()?;
    #[expect(clippy::float_cmp, reason = "bit-for-bit repetition is the fault looked for")]
    let same = values.iter().all(|value| *value == first);
    if values.len() < FEWEST || !same {
        return None;
    }
    let count = values.len();
    Some(if first == 0.0 {
        format!("`{name}` is 0 in all {count} observations of type `{kind}`")
    } else {
        format!("`{name}` is {first} in all {count} observations of type `{kind}`")
    })
}

#[cfg(test)]
mod tests {
    use super::warnings;
    use crate::observation::Observation;

    fn pools(values: &[(f64, f64)]) -> Vec<Observation> {
        let pool = |&(apr, tvl): &(f64, f64)| Observation {
            kind: "pool".into(),
            values: [("apr".to_owned(), apr), ("tvl".to_owned(), tvl)].into(),
            ..Observation::default()
        };
        values.iter().map(pool).collect()
    }

    #[test]
    fn all_zero_and_all_equal_are_named() {
        let found = warnings(&pools(&[(0.0, 5.0), (0.0, 5.0), (-0.0, 5.0)]));
        assert_eq!(
            found,
            [
                "`apr` is 0 in all 3 observations of type `pool`",
                "`tvl` is 5 in all 3 observations of type `pool`"
            ]
        );
    }

    #[test]
    fn sound_or_single_values_are_not() {
        assert!(warnings(&pools(&[(0.0, 5.0), (1.0, 6.0)])).is_empty());
        assert!(warnings(&pools(&[(0.0, 5.0)])).is_empty());
    }
}
