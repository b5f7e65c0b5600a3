//! What does the repository hold, and which of its text is code?

use std::fs;
use std::path::Path;

/// Folders that are made by tools, not by us.
const FOREIGN: &[&str] = &["target", "data", "node_modules", "dist", "__pycache__"];
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One text file; the path is relative to the repository, with `/`.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The files of a tree, ascending by path.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// The repository that this test was built from.
    pub(crate) fn of_repository() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("net/ has a parent");
        let mut files = Vec::new();
        walk(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.len() > 20, "the walk found the repository");
        Tree { files }
    }

    /// A made-up tree, for the rules' own tests.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        Tree { files: files.iter().map(file).collect() }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    /// True for a file or a folder of the tree.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.iter().any(|f| f.path == path || f.path.starts_with(&folder))
    }

    /// Files that people read as source: Rust, and what the browser runs and shows.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| [".rs", ".ts", ".js", ".css", ".html"].iter().any(|end| f.path.ends_with(end)))
    }

    /// Rust files. The rules' own files quote what they refuse, so they are left out.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.path.ends_with(".rs") && !f.is_tidy())
    }
}

impl File {
    pub(crate) fn is_tidy(&self) -> bool {
        self.path == "tests/tidy.rs" || self.path.starts_with("tests/tidy/")
    }

    /// The code alone: comments and the insides of literals become blanks, lines stay where they are.
    pub(crate) fn code(&self) -> String {
        code_of(&self.text)
    }

    /// The code without its `#[cfg(test)]` items; lines stay where they are.
    pub(crate) fn code_without_tests(&self) -> String {
        let (mut in_test, mut kept) = (false, String::new());
        for line in self.code().lines() {
            in_test |= line == "#[cfg(test)]";
            if in_test {
                // rustfmt ends an item at the margin: a bracket, or a semicolon on its only line.
                let one_line = !line.starts_with(['#', ' ', '}']) && (line.ends_with(';') || line.ends_with('}'));
                in_test = line != "}" && !one_line;
            } else {
                kept.push_str(line);
            }
            kept.push('\n');
        }
        kept
    }

    /// `path:line: text` for each line of `code` where `wrong` holds.
    pub(crate) fn findings(&self, code: &str, advice: &str, wrong: impl Fn(&str) -> bool) -> Vec<String> {
        let line = |(i, line): (usize, &str)| wrong(line).then(|| format!("{}:{}: {advice}", self.path, i + 1));
        code.lines().enumerate().filter_map(line).collect()
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a file has a type"));
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            if (!name.starts_with('.') || name == ".ci" || name == ".cargo") && !FOREIGN.contains(&name.as_str()) {
                walk(root, &path, files);
            }
        } else if kind.is_file()
            && name != ".git"
            && !name.ends_with(".log")
            && entry.metadata().is_ok_and(|m| m.len() <= FILE_BYTES_MAX)
            && let Ok(text) = fs::read_to_string(&path)
        {
            let relative = path.strip_prefix(root).expect("beneath the root").to_string_lossy().into_owned();
            files.push(File { path: relative, text });
        }
    }
}

/// True where `word` stands in `line` as a whole identifier.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

/// Blanks comments and the insides of string and character literals. Not a parser: enough for searching.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !at.checked_sub(1).is_some_and(|i| is_word(bytes[i])) => raw_string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole literals were blanked")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            (depth, i) = (depth + 1, i + 2);
        } else if bytes[i..].starts_with(b"*/") {
            (depth, i) = (depth - 1, i + 2);
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// `r"…"` and `r#"…"#`; `at` itself where it is only a word that begins with r.
fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return at;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = at + 2 + hashes;
    bytes[body..].windows(close.len()).position(|w| w == close).map_or(bytes.len(), |n| body + n + close.len())
}

/// A character literal; `at` itself where the quote begins a lifetime.
fn character_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => bytes[at + 3..].iter().position(|b| *b == b'\'').map_or(at, |n| at + 4 + n),
        Some(first) => {
            let close = at
                + 1
                + std::str::from_utf8(&bytes[at + 1..(at + 5).min(bytes.len())])
                    .map_or(if *first < 0x80 { 1 } else { 4 }, |s| s.chars().next().map_or(1, char::len_utf8));
            if bytes.get(close) == Some(&b'\'') { close + 1 } else { at }
        }
        None => at,
    }
}

#[test]
fn test_items_are_left_out() {
    let text =
        "a\n#[cfg(test)]\nuse b;\nc\n#[cfg(test)]\npub(crate) fn d() {\n    e;\n}\nf\n#[cfg(test)]\nmod g {}\nh\n";
    let file = File { path: String::new(), text: text.into() };
    assert_eq!(file.code_without_tests().split_whitespace().collect::<String>(), "acfh");
    assert_eq!(file.code_without_tests().lines().count(), 12);
}

#[test]
fn literals_and_comments_are_blanked() {
    let text = "a(\"x\\\"y\"); // c\nb('\"', '\\'', r#\"q\"z\"#); /* /* n */ o */ let c: &'a str = \"é\";";
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.lines().count(), 2);
    assert_eq!(code.split_whitespace().collect::<String>(), "a();b(,,);letc:&'astr=;");
    assert!(has_word("x unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
}
