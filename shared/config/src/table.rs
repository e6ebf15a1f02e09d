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

#[cfg(test)]
mod tests {
    use crate::{Profile, Secret, Settings};

    crate::settings! {
        /// One of each kind of row.
        struct Config {
            /// Most answers kept,
            /// all tenants together.
            cache_size: u64 = "1000", unit "entries", range "1" to "5000", development "100", production "2000";
            /// Key | token of the upstream.
            llm_api_key: Secret = "dummy", unit "text";
            /// Which profile.
            which: Option<String> = "", unit "text";
            /// Which of two.
            choice: Profile = "production", unit "choice";
        }
    }

    #[test]
    fn every_setting_is_one_row_and_no_secret_is_shown() {
        let Config { cache_size, llm_api_key, which, choice } = Config::defaults();
        assert_eq!(
            (cache_size, llm_api_key.expose(), which, choice),
            (1000, "dummy", None, Profile::Production)
        );
        assert!(Config::load(&crate::Sources::none()).is_ok());
        let expected = "\
| setting | default | unit | range | what |
|---|---|---|---|---|
| `cache_size` | `1000`, development `100`, production `2000` | entries | 1 to 5000 | Most answers kept, all tenants together. |
| `llm_api_key` | `***` | text |  | Key \\| token of the upstream. |
| `which` | none | text |  | Which profile. |
| `choice` | `production` | choice | development, production | Which of two. |
";
        assert_eq!(super::table(&Config::declared()), expected);
    }
}
