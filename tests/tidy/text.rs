//! Do documents, lock file and scripts say what is true, and nothing about the machine they were written on?

use crate::tree::{File, Tree};

const LOCK_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
const COMMANDS: &[&str] = &["cargo run --release", "./tests/run"];
const DECISION_PARTS: &[&str] = &["Status", "Question", "Measured", "Choice", "Price", "What would change our mind"];
/// Attacks N01 to N25.
const ATTACKS: u32 = 25;
/// The smallest page that has the form.
pub(crate) const DECISION_FORM: &str =
    "# 1 A\n\n## Status\n\n## Question\n\n## Measured\n\n## Choice\n\n## Price\n\n## What would change our mind\n";

/// Built of parts, so that this file names none.
pub(crate) fn host(name: &str, end: &str) -> String {
    format!("{name}.{end}")
}

pub(crate) fn machine_folder() -> String {
    format!("/{}/", "work")
}

/// The lock file is there, is kept, and takes from one place; those of npm name no place at all.
pub(crate) fn lock_file(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    if tree.get(".gitignore").is_some_and(|f| f.text.lines().any(|l| l.trim_matches('/') == "Cargo.lock")) {
        findings.push(".gitignore: Cargo.lock is committed here".into());
    }
    match tree.get("Cargo.lock") {
        None => findings.push("Cargo.lock: commit it".into()),
        Some(lock) => findings.extend(lock.findings(&lock.text, "only the default registry", |line| {
            line.starts_with("source = ") && !line.contains(LOCK_SOURCE)
        })),
    }
    let of_npm = tree.files.iter().filter(|f| f.path.ends_with("package-lock.json"));
    let advice = "lock with --omit-lockfile-registry-resolved";
    findings.extend(of_npm.flat_map(|f| f.findings(&f.text, advice, |l| l.trim_start().starts_with("\"resolved\""))));
    for manifest in tree.files.iter().filter(|f| f.path.ends_with("package.json")) {
        let lock = manifest.path.replace("package.json", "package-lock.json");
        if tree.get(&lock).is_none() {
            findings.push(format!("{lock}: commit it"));
        }
    }
    findings
}

/// No registry or mirror by name: the clients know theirs.
pub(crate) fn hosts(tree: &Tree) -> Vec<String> {
    let names = [
        host("index.crates", "io"),
        host("static.crates", "io"),
        host("pypi", "org"),
        host("files.pythonhosted", "org"),
        host("registry.npmjs", "org"),
        host("deb.debian", "org"),
        host("proxy.golang", "org"),
        host("static.rust-lang", "org"),
    ];
    let wrong = |line: &str| names.iter().any(|n| line.contains(n.as_str()));
    let mut findings: Vec<String> =
        tree.files.iter().flat_map(|f| f.findings(&f.text, "name no registry host", wrong)).collect();
    let settings = tree.files.iter().filter(|f| f.path.starts_with(".cargo/"));
    findings.extend(settings.flat_map(|f| f.findings(&f.text, "no source replacement", |l| l.contains("[source"))));
    findings
}

/// No path of a machine that this was written on.
pub(crate) fn machine_paths(tree: &Tree) -> Vec<String> {
    let refused = [machine_folder(), format!("/{}/", "farm"), format!("{}/target-", "/tmp"), format!(".{}", "pyenv")];
    let wrong = |line: &str| refused.iter().any(|r| starts_a_path(line, r));
    tree.files.iter().flat_map(|f| f.findings(&f.text, "a path of somebody's machine", wrong)).collect()
}

/// True where `path` stands in the line and nothing of a longer path stands before it.
fn starts_a_path(line: &str, path: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '}' | ')');
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(part))
}

/// Both languages have the same shape, and the two commands.
pub(crate) fn readmes(tree: &Tree) -> Vec<String> {
    let (Some(english), Some(chinese)) = (tree.get("README.md"), tree.get("README_zh.md")) else {
        return vec!["README.md and README_zh.md: both are needed".into()];
    };
    let mut findings = Vec::new();
    if headings(english) != headings(chinese) {
        let (a, b) = (headings(english), headings(chinese));
        findings.push(format!("README_zh.md: heading levels {b:?} differ from README.md {a:?}"));
    }
    for file in [english, chinese] {
        let missing = COMMANDS.iter().filter(|c| !file.text.contains(**c));
        findings.extend(missing.map(|c| format!("{}: the command `{c}` is missing", file.path)));
    }
    findings
}

/// The level of each heading, in order; `#` lines in code blocks are none.
fn headings(file: &File) -> Vec<usize> {
    let mut in_code = false;
    let mut levels = Vec::new();
    for line in file.text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code && line.starts_with('#') {
            levels.push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    levels
}

/// CI runs what a developer runs.
pub(crate) fn ci(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, call) in [(".ci/run", "./tests/run"), ("tests/run", "cargo test --workspace --locked")] {
        if !tree.get(path).is_some_and(|f| f.text.contains(call)) {
            findings.push(format!("{path}: must call `{call}`"));
        }
    }
    findings
}

/// `NNNN-verb-object.md`, numbered without a gap, with the six parts in order.
pub(crate) fn decisions(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    let pages = tree.files.iter().filter(|f| f.path.starts_with("docs/decisions/") && f.path.ends_with(".md"));
    for (i, page) in pages.enumerate() {
        let name = page.path.trim_start_matches("docs/decisions/");
        if !name.starts_with(&format!("{:04}-", i + 1)) {
            findings.push(format!("{}: expected number {:04}", page.path, i + 1));
        }
        let parts: Vec<&str> = page.text.lines().filter_map(|l| l.strip_prefix("## ")).map(str::trim).collect();
        if parts != DECISION_PARTS {
            findings.push(format!("{}: the parts are {DECISION_PARTS:?}, here {parts:?}", page.path));
        }
    }
    findings
}

/// Each attack of the first version is a claim in docs/security.md and a test that begins with its number, as soon as
/// there are such tests. A claim without one says `no test yet`.
pub(crate) fn claims(tree: &Tree) -> Vec<String> {
    let tests: Vec<&File> = tree.files.iter().filter(|f| f.path.starts_with("tests/escape/")).collect();
    if tests.is_empty() {
        return Vec::new();
    }
    let claims = tree.get("docs/security.md").map_or("", |f| &f.text);
    let mut findings = Vec::new();
    for number in 1..=ATTACKS {
        let (claim, test) = (format!("| N{number:02} |"), format!("n{number:02}"));
        match claims.lines().find(|line| line.starts_with(&claim)) {
            None => findings.push(format!("docs/security.md: N{number:02} is missing")),
            Some(line) if line.contains("no test yet") => {}
            Some(_) if tests.iter().any(|f| f.path.contains(&test) || f.text.contains(&test)) => {}
            Some(_) => findings.push(format!("docs/security.md: N{number:02} has no test {test}… in tests/escape")),
        }
    }
    findings
}

/// Relative links in documents, and test files that they name in code, exist.
pub(crate) fn links(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for page in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local =
            links.map(|l| l.split('#').next().unwrap_or_default()).filter(|l| !l.is_empty() && !l.contains("://"));
        let named = page.text.split('`').skip(1).step_by(2).filter(|t| is_file_of_ours(t)).map(str::to_owned);
        for path in local.map(|l| resolve(folder, l)).chain(named) {
            if !tree.has(&path) {
                findings.push(format!("{}: {path} does not exist", page.path));
            }
        }
    }
    findings
}

fn is_file_of_ours(text: &str) -> bool {
    (text.starts_with("tests/") || text.starts_with("docs/")) && (text.ends_with(".rs") || text.ends_with(".md"))
}

/// `folder/link` with its `..` taken away.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}
