//! What tokens cost, and how many a text is likely to be.

use crate::conversation::{Conversation, Message, Usage};

/// Tokens an answer is estimated at where the caller sets no limit.
pub const LIKELY_OUTPUT_TOKENS: u64 = 1_024;

/// Tokens a chat format adds to each message, by estimate.
const MESSAGE_OVERHEAD_TOKENS: u64 = 4;

/// Prices of a model, in USD per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Of a million tokens read.
    pub input_per_mtok: f64,
    /// Of a million tokens read that the upstream had cached.
    pub cached_input_per_mtok: f64,
    /// Of a million tokens written.
    pub output_per_mtok: f64,
}

impl Price {
    /// Returns what `usage` costs, in USD.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a call has far fewer than 2^52 tokens")]
    pub fn cost(&self, usage: Usage) -> f64 {
        let cached = usage.cached_input.min(usage.input);
        let input =
            (usage.input - cached) as f64 * self.input_per_mtok + cached as f64 * self.cached_input_per_mtok;
        (input + usage.output as f64 * self.output_per_mtok) / 1e6
    }

    /// Returns the prices of both that are the higher ones.
    #[must_use]
    pub fn or_dearer(&self, other: Self) -> Self {
        Self {
            input_per_mtok: self.input_per_mtok.max(other.input_per_mtok),
            cached_input_per_mtok: self.cached_input_per_mtok.max(other.cached_input_per_mtok),
            output_per_mtok: self.output_per_mtok.max(other.output_per_mtok),
        }
    }

    /// Adds `share` of another price.
    #[must_use]
    pub fn plus(&self, other: Self, share: f64) -> Self {
        Self {
            input_per_mtok: self.input_per_mtok + share * other.input_per_mtok,
            cached_input_per_mtok: self.cached_input_per_mtok + share * other.cached_input_per_mtok,
            output_per_mtok: self.output_per_mtok + share * other.output_per_mtok,
        }
    }
}

/// Estimates the tokens of answering `conversation`.
#[must_use]
pub fn estimate(conversation: &Conversation) -> Usage {
    Usage {
        input: input_tokens(conversation),
        output: conversation.parameters.max_output_tokens().unwrap_or(LIKELY_OUTPUT_TOKENS),
        cached_input: 0,
        estimated: true,
    }
}

/// Estimates the tokens of a text: four characters a token, rounded up.
#[must_use]
pub fn tokens(text: &str) -> u64 {
    of_characters(text.chars().count())
}

/// Estimates the tokens a model reads of a conversation: turns with their roles, tools and schemas.
#[must_use]
pub fn input_tokens(conversation: &Conversation) -> u64 {
    let turn = |message: &Message| of_characters(message.characters()) + MESSAGE_OVERHEAD_TOKENS;
    of_characters(conversation.parameters.characters()) + conversation.messages.iter().map(turn).sum::<u64>()
}

fn of_characters(characters: usize) -> u64 {
    u64::try_from(characters.div_ceil(4)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Price, tokens};
    use crate::conversation::Usage;

    #[test]
    fn a_cost_is_tokens_times_price_per_million() {
        let price = Price { input_per_mtok: 2.0, cached_input_per_mtok: 0.5, output_per_mtok: 8.0 };
        let mut usage = Usage { input: 1_000_000, output: 500_000, ..Usage::default() };
        assert!((price.cost(usage) - 6.0).abs() < 1e-12);
        usage.cached_input = 400_000;
        assert!((price.cost(usage) - 5.4).abs() < 1e-12);
    }

    #[test]
    fn a_token_is_four_characters_not_four_bytes() {
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens("abcde"), 2);
        assert_eq!(tokens("ééééé"), 2);
    }
}
