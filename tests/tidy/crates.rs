//! Do crates know only what they may, and are the crates from outside used in the ways that hold?

use crate::tree::{File, Tree, has_word};

/// Manifest, and the packages that it must not name.
const REFUSED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("proto/Cargo.toml", &["workspace-core", "workspace-server", "workspace-agent", "monoio", "tokio"]),
    (
        "core/Cargo.toml",
        &[
            "workspace-server",
            "workspace-agent",
            "tokio",
            "hyper",
            "axum",
            "http",
            "httparse",
            "h2",
            "monoio-http",
            "monoio-codec",
            "monoio-compat",
            "rmcp",
            "nfsserve",
            "tungstenite",
        ],
    ),
    ("agent/Cargo.toml", &["workspace-core", "workspace-server", "monoio", "serde_json", "heed"]),
    ("net/Cargo.toml", &["workspace-agent", "monoio-compat", "axum", "hyper", "anyhow"]),
];

/// `proto <- core <- net` and `proto <- agent`.
pub(crate) fn direction(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, refused) in REFUSED_DEPENDENCIES {
        let Some(manifest) = tree.get(path) else { continue };
        let mut section = "";
        for (i, line) in manifest.text.lines().enumerate() {
            if line.starts_with('[') {
                section = line.trim();
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            // Tests may use what the program must not.
            if section.contains("dependencies") && !section.contains("dev-") && refused.contains(&name) {
                findings.push(format!("{path}:{}: {name} must stay unknown here", i + 1));
            }
        }
    }
    findings
}

/// Protocol code takes bytes and gives bytes.
pub(crate) fn wire(tree: &Tree) -> Vec<String> {
    let refused = ["monoio", "tokio", "shard", "Shard", "Instant", "SystemTime", "TcpStream", "UnixStream", "File"];
    let files = tree.rust().filter(|f| f.path.starts_with("net/src/wire/"));
    files
        .flat_map(|f| {
            f.findings(&f.code_without_tests(), "wire code does no I/O and knows no clock and no shard", |line| {
                refused.iter().any(|word| has_word(line, word))
            })
        })
        .collect()
}

/// An operation never imports another.
pub(crate) fn operations(tree: &Tree) -> Vec<String> {
    let of_list = |f: &&File| f.path.starts_with("net/src/operations/") && !f.path.ends_with("/mod.rs");
    let siblings: Vec<&str> = ["health", "sandbox", "process", "pty", "file", "template", "port", "event"].to_vec();
    let wrong = |line: &str| {
        siblings.iter().any(|s| {
            [format!("super::{s}::"), format!("operations::{s}::")].iter().any(|path| line.contains(path.as_str()))
        })
    };
    let files = tree.rust().filter(of_list);
    files.flat_map(|f| f.findings(&f.code(), "an operation imports no other operation", wrong)).collect()
}

/// The Docker client has its own `http`; its types stay where they are.
pub(crate) fn docker(tree: &Tree) -> Vec<String> {
    let outside = tree.rust().filter(|f| !f.path.starts_with("core/src/runtime/docker/"));
    outside
        .flat_map(|f| {
            f.findings(&f.code(), "docker_api stays in core/src/runtime/docker", |line| has_word(line, "docker_api"))
        })
        .collect()
}

/// What a foreign suite needs to find is in no program that people build: no other feature, manifest or script asks for it.
pub(crate) fn fixtures(tree: &Tree) -> Vec<String> {
    const FEATURE: &str = "mcp-conformance";
    let may_name =
        |f: &&File| f.path.ends_with(".rs") || f.path.ends_with(".md") || f.path.starts_with("tests/conformance/");
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| !may_name(f)) {
        for (i, line) in file.text.lines().enumerate() {
            let of_its_program = line.starts_with("required-features") || line.starts_with("mcp-conformance =");
            let is_fine =
                file.path == "net/Cargo.toml" && (of_its_program || !line.contains(&format!("\"{FEATURE}\"")));
            if line.contains(FEATURE) && !is_fine {
                findings.push(format!("{}:{}: the feature {FEATURE} is for its test alone", file.path, i + 1));
            }
        }
    }
    findings
}

/// Forms of monoio 0.2.4 and monoio-http that lose data, hang, or buffer without bound (docs/decisions say which).
pub(crate) fn monoio_forms(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let code = file.code();
        findings.extend(file.findings(&code, "a future that wakes itself starves its core; sleep instead", |line| {
            line.contains(".waker().wake_by_ref()")
        }));
        findings.extend(file.findings(&code, "this decoder buffers whole bodies; stream them", |line| {
            has_word(line, "FixedBodyDecoder") || has_word(line, "ChunkedBodyDecoder")
        }));
        if !has_word(&code, "monoio") {
            continue;
        }
        let imports = imports_of(&code, "monoio");
        let wrong_bind = |line: &str| {
            line.contains("monoio::net::UnixListener::bind")
                || (has_word(&imports, "UnixListener")
                    && line.replace("std::os::unix::net::UnixListener::bind", "").contains("UnixListener::bind"))
        };
        findings.extend(file.findings(&code, "bind a std listener, then UnixListener::from_std", wrong_bind));
        let wrong_writer = |line: &str| line.contains("monoio::io::BufWriter");
        findings.extend(file.findings(&code, "monoio's BufWriter overruns; write through an own buffer", wrong_writer));
        if has_word(&imports, "BufWriter") {
            findings.push(format!("{}: monoio's BufWriter overruns; write through an own buffer", file.path));
        }
        findings.extend(file.findings(&code, "an open that is dropped in flight leaks; use the file pool", |line| {
            line.contains("monoio::fs")
        }));
        for (opener, close) in
            [("timeout(", ('(', ')')), ("select! {", ('{', '}')), ("select!{", ('{', '}')), ("select!(", ('(', ')'))]
        {
            for (at, _) in code.match_indices(opener) {
                if drops_a_read(balanced(&code[at + opener.len() - 1..], close)) {
                    let line = code[..at].matches('\n').count() + 1;
                    findings
                        .push(format!("{}:{line}: a dropped read loses bytes; cancelable_read or readable", file.path));
                }
            }
        }
    }
    findings
}

/// All `use NAME…;` statements of the code, in one text.
fn imports_of(code: &str, name: &str) -> String {
    let start = format!("use {name}::");
    code.match_indices(&start).map(|(at, _)| code[at..].split(';').next().unwrap_or_default()).collect()
}

/// What stands between the first opening and its closing sign.
fn balanced(code: &str, (open, close): (char, char)) -> &str {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return &code[..i];
            }
        }
    }
    code
}

/// A bare owned-buffer read or an accept: dropped in flight on io_uring, its bytes or its connection are lost.
fn drops_a_read(code: &str) -> bool {
    [".read(", ".read_exact(", ".readv(", ".accept("].iter().any(|call| code.contains(call))
}
