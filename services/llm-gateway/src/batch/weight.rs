//! How many tokens a shared call is likely to take, and how what it took is shared out.

use serde::Serialize;

use super::prompt::{self, Part};
use crate::{conversation::Usage, observation::Observation, price};

/// Tokens the answer about one observation is estimated at.
const ITEM_OUTPUT_TOKENS: u64 = 60;
/// Tokens an assessment is estimated at.
const ASSESSMENT_OUTPUT_TOKENS: u64 = 300;
/// Tokens that punctuation, tag and check of an observation are estimated at.
const FRAME_TOKENS: u64 = 12;

/// Returns what every call takes, whatever it asks about: instructions, schema and question.
#[must_use]
pub(crate) fn overhead(question: &str, assess: bool) -> Usage {
    let input = price::tokens(prompt::INSTRUCTIONS)
        + if assess { price::tokens(prompt::ASSESS) } else { 0 }
        + price::tokens(&prompt::schema(assess).to_string())
        + price::tokens(question);
    Usage { input, ..estimate() }
}

/// Returns what a part adds to a call beside its observations.
#[must_use]
pub(crate) fn part(part: &Part, assess: bool) -> Usage {
    let output = if assess { ASSESSMENT_OUTPUT_TOKENS } else { 0 };
    Usage { input: price::tokens(&part.context), output, ..estimate() }
}

/// Returns what one observation adds to a call.
#[must_use]
pub(crate) fn item(observation: &Observation) -> Usage {
    let figures = written(&observation.values) + written(&observation.labels);
    let input = price::tokens(&observation.subject) + figures + FRAME_TOKENS;
    Usage { input, output: ITEM_OUTPUT_TOKENS, ..estimate() }
}

/// Returns what a call about one observation alone takes.
#[must_use]
pub(crate) fn alone(question: &str, context: &str, observation: &Observation) -> Usage {
    let statistics = Usage { input: price::tokens(context), ..estimate() };
    overhead(question, false) + statistics + item(observation)
}

/// Splits `whole` in proportion to `weights`; the shares add up to the whole, whatever the rounding.
#[must_use]
pub(crate) fn apportion(whole: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum::<u128>().max(1);
    let (mut reached, mut given) = (0_u128, 0_u64);
    let share = |weight: &u64| {
        reached += u128::from(*weight);
        let due = u64::try_from(u128::from(whole) * reached / total).unwrap_or(whole);
        let share = due - given;
        given = due;
        share
    };
    weights.iter().map(share).collect()
}

fn written(facts: &impl Serialize) -> u64 {
    serde_json::to_string(facts).map_or(0, |text| price::tokens(&text))
}

fn estimate() -> Usage {
    Usage { estimated: true, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::apportion;

    #[test]
    fn a_share_follows_its_weight() {
        assert_eq!(apportion(100, &[1, 1, 2]), [25, 25, 50]);
        assert_eq!(apportion(2, &[1, 1, 1, 1]).iter().sum::<u64>(), 2);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole(whole: u64, weights in prop::collection::vec(1_u64..1_000_000, 1..50)) {
            prop_assert_eq!(apportion(whole, &weights).iter().sum::<u64>(), whole);
        }
    }
}
