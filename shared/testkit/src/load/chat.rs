//! The questions of a load, in the OpenAI dialect.

use axum::body::Bytes;
use serde_json::json;

/// Returns the body of a chat completion for `model`. Each `topic` and `number` gives another question; there is no long run of
/// digits in it, since some gateways take those for personal data, and temperature 0, since some store nothing else.
#[must_use]
pub fn chat(model: &str, topic: &str, number: u64) -> Bytes {
    let text = question(topic, number);
    let messages = json!([
        { "role": "system", "content": "You advise on when to send transactions. Be brief." },
        { "role": "user", "content": text },
    ]);
    json!({ "model": model, "messages": messages, "temperature": 0 }).to_string().into()
}

/// Returns the user's words of [`chat`].
#[must_use]
pub fn question(topic: &str, number: u64) -> String {
    format!(
        "Case {}-{}: the base fee is at its weekly mean, blocks are half full. Should I wait an hour?",
        topic,
        letters(number)
    )
}

fn letters(mut number: u64) -> String {
    let mut letters = String::new();
    loop {
        letters.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return letters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_topic_is_another_question() {
        let mut questions: Vec<Bytes> = (0..2_000).map(|number| chat("m", "a", number)).collect();
        questions.push(chat("m", "b", 0));
        questions.sort_unstable();
        questions.dedup();
        assert_eq!(questions.len(), 2_001);
        assert!(!question("a", u64::MAX).contains(|letter: char| letter.is_ascii_digit()));
    }
}
