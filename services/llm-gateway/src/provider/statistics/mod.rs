//! `builtin/statistics`: deterministic statistics over the figures it is given. It is **not a language model**: it reads no
//! question, knows nothing of the world, uses no tokens and costs nothing. The same input gives the same words.

mod analysis;
mod correlation;
mod figures;
mod spread;

pub use self::{
    analysis::Survey,
    correlation::{pearson, spearman},
    spread::Spread,
};
use crate::{
    conversation::{Answer, Conversation, Finish, Usage},
    price,
};

/// Says what is speaking; opens every text that could be taken for a model's.
pub const LABEL: &str = "builtin/statistics (deterministic statistics, not a language model)";

/// Robust standard deviations at which salience is one half, and beyond which a value is an outlier (Iglewicz & Hoaglin, 1993).
const OUTLIER_Z: f64 = 3.5;

/// Answers a conversation with statistics of the numbers in the user's last words.
#[must_use]
pub fn answer(conversation: &Conversation) -> Answer {
    let mut text = format!("{LABEL}: {}", figures::describe(conversation.last_user_words()));
    let mut finish = Finish::Stop;
    if let Some(most) = conversation.parameters.max_output_tokens()
        && price::tokens(&text) > most
    {
        let characters = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(4);
        text = text.chars().take(characters).collect();
        finish = Finish::Length;
    }
    Answer { finish, ..Answer::text(text, Usage::default()) }
}

/// Writes a number for people: three to four significant digits, with `k`, `M` and `B` from ten thousand on.
fn figure(value: f64) -> String {
    let size = value.abs();
    let (scaled, unit) = match size {
        _ if size >= 1e9 => (value / 1e9, "B"),
        _ if size >= 1e6 => (value / 1e6, "M"),
        _ if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let size = scaled.abs();
    let text = match size {
        _ if size >= 1e3 => format!("{scaled:.0}"),
        _ if size >= 100.0 => format!("{scaled:.1}"),
        _ if size >= 0.1 || size == 0.0 => format!("{scaled:.2}"),
        _ => format!("{scaled:.3e}"),
    };
    let trimmed = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{trimmed}{unit}")
}

#[cfg(test)]
mod tests {
    use super::{LABEL, answer, figure};
    use crate::conversation::{Conversation, Finish};

    fn ask(words: &str, most: Option<u32>) -> crate::conversation::Answer {
        let mut asked = Conversation::of(words);
        if let Some(most) = most {
            asked.parameters.set("max_tokens", most);
        }
        answer(&asked)
    }

    #[test]
    fn an_answer_says_what_it_is_and_repeats_itself() {
        let text = ask("values: 1, 2, 3, 4 and 100", None).text;
        assert!(text.starts_with(LABEL), "{text}");
        assert!(text.contains("median 3"), "{text}");
        assert_eq!(text, ask("values: 1, 2, 3, 4 and 100", None).text);
    }

    #[test]
    fn a_token_limit_cuts_the_answer_and_says_so() {
        let cut = ask("1 2 3", Some(5));
        assert_eq!((cut.text.chars().count(), cut.finish), (20, Finish::Length));
    }

    #[test]
    fn figures_are_short() {
        let shown = [0.0, 0.5, 12.0, 123.45, 5_432.1, 25_000.0, 1_500_000.0, -2e9, 0.000_123].map(figure);
        assert_eq!(shown, ["0", "0.5", "12", "123.5", "5432", "25k", "1.5M", "-2B", "1.230e-4"]);
    }
}
