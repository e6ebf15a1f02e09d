//! Splits text into lower-cased words and numbers.

/// A word or a number of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A run of letters and digits, lower-cased.
    Word(String),
    /// Digits with at most inner points and commas: "4.25" or "1,000,000" is one token, kept as written.
    Number(String),
}

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Word(text) | Self::Number(text) => text,
        }
    }
}

/// Splits `text` at everything that is no letter and no digit, but not at a point or a comma between two digits.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut current = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_inside_number = matches!(character, '.' | ',')
            && is_number(&current)
            && characters.peek().is_some_and(char::is_ascii_digit);
        if character.is_alphanumeric() {
            current.extend(character.to_lowercase());
        } else if is_inside_number {
            current.push(character);
        } else {
            end(&mut current, &mut tokens);
        }
    }
    end(&mut current, &mut tokens);
    tokens
}

fn end(current: &mut String, tokens: &mut Vec<Token>) {
    if current.is_empty() {
        return;
    }
    let text = std::mem::take(current);
    tokens.push(if is_number(&text) { Token::Number(text) } else { Token::Word(text) });
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |token: &Token| match token {
            Token::Word(text) => text.clone(),
            Token::Number(text) => format!("#{text}"),
        };
        tokens(text).iter().map(show).collect()
    }

    #[test]
    fn words_are_lower_cased_and_numbers_stay_whole() {
        assert_eq!(
            shown("USDC-WETH pays 4.25%, TVL 1,000,000."),
            ["usdc", "weth", "pays", "#4.25", "tvl", "#1,000,000"]
        );
        assert_eq!(shown("v2.1 and 3."), ["v2", "#1", "and", "#3"]);
        assert_eq!(shown("ÉTÉ 池子"), ["été", "池子"]);
        assert!(shown(" …!? ").is_empty());
    }
}
