//! The files of the workspace, and Rust text without what is not code.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A text file of the workspace.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the workspace, with `/` between parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Folders that hold what we write.
const FOLDERS: [&str; 5] = ["proto", "services", "shared", "deploy", "tests"];

/// Returns the workspace's folder.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the workspace is one folder up").to_owned()
}

/// Returns every text file of the workspace, sorted by path; not what git or cargo made, and not the lock file.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = root();
        let mut files = Vec::new();
        for folder in FOLDERS.into_iter().chain([".ci", ".cargo"]) {
            collect(&root, &root.join(folder), &mut files);
        }
        for entry in fs::read_dir(&root).expect("the workspace").flatten() {
            // In a second working tree, `.git` is a file that says where the first one lies.
            let is_ours = !["Cargo.lock", ".git"].iter().any(|other| entry.file_name() == *other);
            if entry.path().is_file() && is_ours {
                add(&root, &entry.path(), &mut files);
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        files
    })
}

/// Returns the Rust files among [`files`].
pub(crate) fn rust() -> impl Iterator<Item = &'static File> {
    files().iter().filter(|file| file.path.ends_with(".rs"))
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    // A folder that is not there yet has no files; the layout's own rule asks for those that must exist.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            add(root, &path, files);
        }
    }
}

fn add(root: &Path, path: &Path, files: &mut Vec<File>) {
    let relative = path.strip_prefix(root).expect("below the workspace");
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    // What is no text (bundled data, images) has no rules of text.
    if let Ok(text) = fs::read_to_string(path) {
        files.push(File { path: parts.join("/"), text });
    }
}

/// Rust text in which every byte that is not code is a space; offsets and lines stay.
#[derive(Debug)]
pub(crate) struct Masked {
    /// Without comments and without what strings hold.
    pub(crate) code: String,
    /// Without comments only.
    pub(crate) strings: String,
}

/// What a stretch of Rust text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Code,
    Comment,
    Quoted,
}

/// Blanks comments and strings.
pub(crate) fn mask(text: &str) -> Masked {
    let mut code = String::with_capacity(text.len());
    let mut strings = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let (kind, length) = stretch(rest, before);
        let (part, after) = rest.split_at(length);
        for character in part.chars() {
            let blank = |out: &mut String| match character {
                '\n' => out.push('\n'),
                _ => out.extend(std::iter::repeat_n(' ', character.len_utf8())),
            };
            if kind == Stretch::Code {
                code.push(character)
            } else {
                blank(&mut code)
            }
            if kind == Stretch::Comment { blank(&mut strings) } else { strings.push(character) }
        }
        before = part.chars().last().unwrap_or(first);
        rest = after;
    }
    Masked { code, strings }
}

/// Returns what `rest` begins with and how many bytes of it belong to that.
fn stretch(rest: &str, before: char) -> (Stretch, usize) {
    let to_end = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (Stretch::Comment, to_end(rest.find('\n')));
    }
    if rest.starts_with("/*") {
        return (Stretch::Comment, block_comment(rest));
    }
    let is_word = before.is_alphanumeric() || before == '_';
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    if let (Some(raw), false) = (raw, is_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - raw.len() + hashes + 1;
            return (
                Stretch::Quoted,
                to_end(rest[start..].find(&end).map(|found| start + found + end.len())),
            );
        }
    }
    if rest.starts_with('"') {
        return (Stretch::Quoted, quoted(rest, '"'));
    }
    if rest.starts_with('\'') {
        let mut after = rest.chars().skip(1);
        let is_character = after.next() == Some('\\') || after.next() == Some('\'');
        return if is_character { (Stretch::Quoted, quoted(rest, '\'')) } else { (Stretch::Code, 1) };
    }
    (Stretch::Code, rest.chars().next().map_or(1, char::len_utf8))
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (offset, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == mark => return offset + 1,
            _ => {}
        }
    }
    rest.len()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut offset = 0;
    while offset < rest.len() {
        let here = &rest[offset..];
        if here.starts_with("/*") {
            depth += 1;
            offset += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            offset += 2;
            if depth == 0 {
                return offset;
            }
        } else {
            offset += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Says for each line of a Rust file whether it belongs to tests: all lines of a file in a `tests` folder or called
/// `tests.rs`, and the items marked `#[cfg(test)]`.
pub(crate) fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let count = code.lines().count();
    if path.split('/').any(|part| part == "tests" || part == "tests.rs") {
        return vec![true; count];
    }
    let mut is_test = vec![false; count];
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let after = start + attribute.len();
        let end = end_of_item(&code[after..]) + after;
        let (first, last) = (line(code, start), line(code, end));
        is_test[first - 1..last.min(count)].fill(true);
    }
    is_test
}

/// Returns where the first item of `code` ends: at a `;` before any brace, or at the brace that closes its first one.
pub(crate) fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, character) in code.char_indices() {
        match character {
            ';' if depth == 0 => return offset,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset;
                }
            }
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

/// Returns the line, counted from 1, of the byte at `offset`.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Returns every identifier and number in code, with its offset.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let mut offset = 0;
    std::iter::from_fn(move || {
        let start = offset + code[offset..].find(is_part)?;
        let end =
            code[start..].find(|character| !is_part(character)).map_or(code.len(), |length| start + length);
        offset = end;
        Some((start, &code[start..end]))
    })
}

#[test]
fn comments_and_strings_are_blanked_in_place() {
    let text = "let a = \"x // y\"; // tonic\nlet b = r#\"\"q\"\"#; /* a /* b */ c */ let c = '\"'; fn f<'a>(x: &'a str) {}";
    let masked = mask(text);
    assert_eq!(masked.code.len(), text.len());
    assert!(!masked.code.contains("tonic") && !masked.strings.contains("tonic"));
    assert!(!masked.code.contains('x') || masked.code.contains("x: &'a str"));
    assert!(masked.strings.contains("x // y") && masked.strings.contains("\"q\""));
    assert!(masked.code.contains("let c =") && masked.code.contains("fn f<'a>(x: &'a str) {}"));
}

#[test]
fn lines_of_tests_are_told_from_the_others() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if x { } }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
    let expected = [false, true, true, true, true, false, true, true, false];
    assert_eq!(test_lines("shared/x/src/lib.rs", &mask(text).code), expected);
    assert!(test_lines("services/x/tests/a.rs", text).iter().all(|is_test| *is_test));
}

#[test]
fn this_workspace_has_files_to_look_at() {
    assert!(rust().any(|file| file.path == "tests/tidy/source.rs"));
    assert!(files().iter().any(|file| file.path == "Cargo.toml"));
}
