//! Renders settings as a table for people.

use std::fmt::Write;

use crate::Setting;

/// Renders settings as a Markdown table: name, default, unit, range, the values of profiles, and what it is for. Ends with a
/// newline. The default of a secret is not shown.
#[must_use]
pub fn table(settings: &[&Setting]) -> String {
    let mut out = String::from("| setting | default | unit | range | what |\n|---|---|---|---|---|\n");
    for setting in settings {
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            setting.name,
            default(setting),
            cell(setting.unit),
            range(setting),
            cell(setting.doc)
        );
    }
    out
}

fn default(setting: &Setting) -> String {
    let shown = |value: &str| match value {
        "" => "none".to_owned(),
        _ if setting.kind.is_secret() => "`***`".to_owned(),
        value => format!("`{}`", cell(value)),
    };
    let mut out = shown(setting.default);
    for (profile, value) in [("development", setting.development), ("production", setting.production)] {
        if let Some(value) = value {
            let _ = write!(out, ", {profile} {}", shown(value));
        }
    }
    out
}

fn range(setting: &Setting) -> String {
    match (setting.range, setting.kind) {
        (Some((low, high)), _) => format!("{low} to {high}"),
        (None, crate::Kind::Choice(words)) => words.join(", "),
        (None, crate::Kind::Switch) => "true, false".to_owned(),
        (None, _) => String::new(),
    }
}

/// Puts text on one line and keeps it from ending its cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
