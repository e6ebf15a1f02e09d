//! Field paths in Firestore's notation: names with `.` between. A name that is no plain identifier stands in backquotes, with `\` before a
//! backquote or a backslash in it.

/// Returns the names of `path`, from the outermost inwards; `None` if it is no field path.
#[must_use]
pub fn parse(path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = match rest.strip_prefix('`') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (name, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                (is_plain(name).then(|| name.to_owned())?, after)
            }
        };
        if name.is_empty() {
            return None;
        }
        names.push(name);
        match after {
            "" => return Some(names),
            _ => rest = after.strip_prefix('.')?,
        }
    }
}

/// Returns the field path of `names`.
#[must_use]
pub fn format(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(".")
}

fn quoted(name: &str) -> String {
    if is_plain(name) {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
    }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Returns the name before the closing backquote, and what comes after it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '`' => return Some((name, letters.as_str())),
            '\\' => name.push(letters.next()?),
            letter => name.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{format, parse};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_that_are_no_identifiers_stand_in_backquotes() {
        assert_eq!(format(&names(&["pools", "0x12", "apr_7d"])), "pools.`0x12`.apr_7d");
        assert_eq!(format(&names(&["a-b", "aé", "a.b"])), "`a-b`.`aé`.`a.b`");
        assert_eq!(format(&names(&["tick`\\"])), "`tick\\`\\\\`");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", ".", "a.", ".a", "a..b", "0x1", "a-b", "`a", "`a`b", "``", "a b", "`a\\"] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse("`a`.b"), Some(names(&["a", "b"])));
    }

    proptest! {
        #[test]
        fn a_path_comes_back_as_it_was(names in prop::collection::vec(".{1,4}|[`\\\\.]{1,3}", 1..5)) {
            prop_assert_eq!(parse(&format(&names)), Some(names));
        }
    }
}
