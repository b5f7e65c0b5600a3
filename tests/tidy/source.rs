//! Is each source file named, headed, sized and finished as the house wants it?

use crate::tree::{File, Tree, has_word};

const FILE_LINES_MAX: usize = 400;
/// A file may be longer when it says why on a line with this text.
const LONG_BECAUSE: &str = "Long because:";
const REFUSED_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "service"];
/// What runs under seeds: it is given the time and keeps an order.
const SIMULATED: &[&str] = &[
    "proto/src/link.rs",
    "core/src/sandbox/state.rs",
    "core/src/sandbox/deadlines.rs",
    "core/src/shard/mailbox.rs",
    "core/src/output.rs",
];

/// The first line that is not an attribute is the file's question.
pub(crate) fn heads(tree: &Tree) -> Vec<String> {
    let mark = |f: &File| match f.path.rsplit_once('.').map(|(_, end)| end) {
        Some("rs") => Some("//!"),
        Some("ts" | "js") => Some("// "),
        _ => None,
    };
    let headless =
        |(f, mark): &(&File, &str)| !f.text.lines().find(|l| !l.starts_with("#!")).is_some_and(|l| l.starts_with(mark));
    let all = tree.files.iter().filter_map(|f| Some((f, mark(f)?))).filter(headless);
    all.map(|(f, mark)| format!("{}:1: begin with `{mark}` and the question this file answers", f.path)).collect()
}

/// At most 400 lines, or a reason.
pub(crate) fn lengths(tree: &Tree) -> Vec<String> {
    let long = |f: &&File| f.text.lines().count() > FILE_LINES_MAX && !f.text.contains(LONG_BECAUSE);
    tree.sources()
        .filter(long)
        .map(|f| format!("{}: {} lines, split it (at most {FILE_LINES_MAX})", f.path, f.text.lines().count()))
        .collect()
}

/// `unsafe` and the permission for it stand in folders named sys alone.
pub(crate) fn unsafe_homes(tree: &Tree) -> Vec<String> {
    let outside = tree.rust().filter(|f| !f.path.split('/').rev().skip(1).any(|folder| folder == "sys"));
    let wrong = |line: &str| has_word(line, "unsafe") || (line.contains("allow") && has_word(line, "unsafe_code"));
    outside.flat_map(|f| f.findings(&f.code(), "unsafe belongs into a folder named sys", wrong)).collect()
}

/// Nothing is left for later in the code.
pub(crate) fn unfinished(tree: &Tree) -> Vec<String> {
    let wrong = |line: &str| {
        ["todo!", "dbg!", "unimplemented!"].iter().any(|m| line.contains(m))
            || line.contains("#[ignore]")
            || line.contains("#[ignore ")
            || line.contains("#[ignore=")
    };
    tree.rust().flat_map(|f| f.findings(&f.code(), "finish it or leave it out", wrong)).collect()
}

/// No drawer names: neither as file or folder nor as module or type.
pub(crate) fn names(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.sources() {
        if file.path.split('/').any(|part| REFUSED_NAMES.contains(&part.split('.').next().unwrap_or_default())) {
            findings.push(format!("{}: name it after what it holds", file.path));
        }
    }
    for file in tree.rust() {
        findings.extend(file.findings(&file.code(), "name it after what it is", |line| {
            declared_name(line).is_some_and(|name| words(name).any(|w| REFUSED_NAMES.contains(&w.as_str())))
        }));
    }
    findings
}

/// The name that a line declares, if it declares a module, type or trait.
fn declared_name(line: &str) -> Option<&str> {
    let mut tokens = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|t| !t.is_empty());
    let kind = tokens.find(|t| !matches!(*t, "pub" | "crate" | "super" | "in"))?;
    if matches!(kind, "mod" | "struct" | "enum" | "trait" | "union") { tokens.next() } else { None }
}

/// `PoolManager` and `pool_manager` as lowercase words.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut split = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            split.push('_');
        }
        split.extend(c.to_lowercase());
    }
    split.split('_').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Simulated code asks for no time, starts no thread and iterates over nothing without an order.
pub(crate) fn simulated(tree: &Tree) -> Vec<String> {
    let refused = ["Instant::now", "SystemTime", "thread::", "sleep", "HashMap", "HashSet"];
    let files = tree.rust().filter(|f| SIMULATED.contains(&f.path.as_str()));
    files
        .flat_map(|f| {
            let code = f.code_without_tests();
            f.findings(&code, "simulated code is given the time and keeps an order", |line| {
                refused.iter().any(|r| line.contains(r))
            })
        })
        .collect()
}
