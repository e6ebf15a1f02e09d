//! Whether two answers say the same.

use embedding::Embedder;

use crate::{
    cache::semantic::{Text, dot, objection},
    conversation::Answer,
};

/// Similarity from which two answers say the same, no guard objecting: an answer is longer than a question, and worded anew each time.
const SAME: f32 = 0.9;

/// Returns whether two answers say the same: the same calls of tools, and words that are equal, or near with no guard objecting; `None` if
/// the embedder fails.
pub(super) async fn agree(embedder: &dyn Embedder, one: &Answer, other: &Answer) -> Option<bool> {
    let calls = |answer: &Answer| {
        let calls = answer.tool_calls.iter();
        calls.map(|call| (call.name.clone(), call.arguments.clone())).collect::<Vec<_>>()
    };
    if calls(one) != calls(other) {
        return Some(false);
    }
    if plain(&one.text) == plain(&other.text) {
        return Some(true);
    }
    if objection(&Text::new(&one.text), &Text::new(&other.text)).is_some() {
        return Some(false);
    }
    let vectors = embedder.embed(&[&one.text, &other.text]).await.ok()?;
    let [first, second] = &vectors[..] else { return None };
    Some(dot(first, second) >= SAME)
}

fn plain(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use embedding::Hashing;

    use super::agree;
    use crate::conversation::{Answer, ToolCall, Usage};

    fn says(text: &str) -> Answer {
        Answer::text(text, Usage::default())
    }

    #[tokio::test]
    async fn answers_agree_by_what_they_say() {
        let embedder = Hashing::new(512);
        let agree = async |one: &Answer, other: &Answer| agree(&embedder, one, other).await;
        assert_eq!(agree(&says("Gas is  low."), &says("gas is low.")).await, Some(true));
        assert_eq!(agree(&says("the fee is 25 gwei"), &says("the fee is 250 gwei")).await, Some(false));
        assert_eq!(agree(&says("yes"), &says("the moon is made of cheese")).await, Some(false));
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
        let calls = Answer { tool_calls: [call].into(), ..says("") };
        assert_eq!(agree(&calls, &says("")).await, Some(false));
    }
}
