//! Are the house rules kept? Each rule is a plain function over the tree's text, and each has a bad example that it
//! must find: a rule that cannot fail is no rule.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use tree::Tree;

/// One rule as two tests: the repository holds it, and a snippet that breaks it is found.
macro_rules! rules {
    ($($name:ident = $rule:path, broken by [$(($path:literal, $bad:expr)),+ $(,)?], kept by [$(($good_path:literal, $good:expr)),* $(,)?];)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn holds() {
                let findings = $rule(&Tree::of_repository());
                assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
            }

            #[test]
            fn can_fail() {
                $(assert!(!$rule(&Tree::of(&[($path, $bad)])).is_empty(), "not found in {}: {}", $path, $bad);)+
                $(assert_eq!($rule(&Tree::of(&[($good_path, $good)])), Vec::<String>::new(), "{}", $good);)*
            }
        }
    )*};
}

rules! {
    every_file_answers_a_question = source::heads,
        broken by [("core/src/a.rs", "fn a() {}\n"), ("core/src/a.rs", "// plain\n"), ("net/terminal/src/a.ts", "import \"b\";\n")],
        kept by [("core/src/a.rs", "//! What?\n"), ("net/terminal/build.js", "// What?\n"), ("net/src/sys/a.rs", "#![allow(unsafe_code)]\n//! What?\n")];
    files_are_short = source::lengths,
        broken by [("core/src/a.rs", &"//! a\n".repeat(401)), ("net/terminal/src/page.css", &"a\n".repeat(401))],
        kept by [("core/src/a.rs", &"//! a\n".repeat(400)), ("core/src/a.rs", &("//! Long because: one table.\n".to_owned() + &"//! a\n".repeat(400)))];
    unsafe_lives_in_sys = source::unsafe_homes,
        broken by [("core/src/a.rs", "fn a() { unsafe { b() } }"), ("core/src/a.rs", "#![allow(unsafe_code)]"), ("core/src/sysx/a.rs", "unsafe fn a() {}")],
        kept by [("core/src/sys/a.rs", "unsafe fn a() {}"), ("core/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\"; // unsafe")];
    nothing_is_unfinished = source::unfinished,
        broken by [("a/src/a.rs", "fn a() { todo!() }"), ("a/src/a.rs", "dbg!(1);"), ("a/src/a.rs", "unimplemented!()"), ("a/src/a.rs", "#[ignore]\n#[test]"), ("a/src/a.rs", "#[ignore = \"slow\"]")],
        kept by [("a/src/a.rs", "// todo! is refused\nlet a = \"dbg!\";")];
    names_say_what = source::names,
        broken by [("core/src/utils.rs", ""), ("core/src/common/mod.rs", ""), ("core/src/a.rs", "pub struct PoolManager;"), ("core/src/a.rs", "mod helpers {}"), ("core/src/a.rs", "enum MiscKind {}"), ("net/terminal/src/utils.ts", "")],
        kept by [("core/src/pool.rs", "struct Pool; impl Service<Request> for Pool {}")];
    simulated_code_has_no_clock = source::simulated,
        broken by [("core/src/sandbox/state.rs", "let now = Instant::now();"), ("proto/src/link.rs", "use std::collections::HashMap;"), ("core/src/sandbox/deadlines.rs", "std::thread::sleep(d);")],
        kept by [("core/src/sandbox/state.rs", "#[cfg(test)]\nmod tests { use std::collections::HashMap; }"), ("core/src/store/env.rs", "Instant::now()")];
    monoio_is_used_safely = crates::monoio_forms,
        broken by [
            ("net/src/a.rs", "use monoio::net::UnixListener;\nfn a() { UnixListener::bind(p); }"),
            ("net/src/a.rs", "fn a() { monoio::net::UnixListener::bind(p); }"),
            ("net/src/a.rs", "use monoio::time::timeout;\ntimeout(d, stream.read(buf)).await"),
            ("net/src/a.rs", "monoio::time::timeout(d, listener\n    .accept()).await"),
            ("net/src/a.rs", "monoio::select! { a = stream.read(buf) => {}, _ = stop => {} }"),
            ("net/src/a.rs", "fn poll() { cx.waker().wake_by_ref(); }"),
            ("net/src/a.rs", "use monoio::io::{AsyncReadRent, BufWriter};"),
            ("net/src/a.rs", "monoio::fs::File::open(p).await"),
            ("net/src/a.rs", "use monoio_http::h1::codec::decoder::FixedBodyDecoder;"),
        ],
        kept by [
            ("net/src/a.rs", "use std::os::unix::net::UnixListener;\nuse monoio::net::UnixStream;\nfn a() { UnixListener::bind(p); }"),
            ("net/src/a.rs", "use monoio::net::UnixListener;\nlet l = UnixListener::from_std(std::os::unix::net::UnixListener::bind(p)?);"),
            ("net/src/a.rs", "monoio::time::timeout(d, stream.readable(false)).await"),
            ("bench/src/a.rs", "use tokio::time::timeout;\ntimeout(d, stream.read(buf)).await"),
        ];
    dependencies_point_one_way = crates::direction,
        broken by [
            ("core/Cargo.toml", "[dependencies]\nhttp.workspace = true\n"), ("core/Cargo.toml", "[dependencies]\nh2 = \"0.4\"\n"),
            ("core/Cargo.toml", "[dependencies]\nworkspace-server.workspace = true\n"), ("agent/Cargo.toml", "[dependencies]\nworkspace-core.workspace = true\n"),
            ("proto/Cargo.toml", "[dependencies]\nworkspace-core = { path = \"../core\" }\n"), ("agent/Cargo.toml", "[dependencies]\nmonoio.workspace = true\n"),
        ],
        kept by [("core/Cargo.toml", "[dependencies]\nworkspace-proto.workspace = true\nmonoio.workspace = true\n"), ("agent/Cargo.toml", "[dependencies]\nworkspace-proto.workspace = true\nh2.workspace = true\n")];
    wire_code_is_pure = crates::wire,
        broken by [("net/src/wire/sse.rs", "use monoio::io::AsyncReadRent;"), ("net/src/wire/sse.rs", "use workspace_core::shard::Shard;"), ("net/src/wire/sse.rs", "let now = Instant::now();"), ("net/src/wire/sse.rs", "std::net::TcpStream::connect(a)")],
        kept by [("net/src/wire/sse.rs", "use bytes::BytesMut; // monoio stays outside"), ("net/src/http/a.rs", "use monoio::net::TcpStream;")];
    operations_stand_alone = crates::operations,
        broken by [("net/src/operations/pty.rs", "use super::process::Finished;"), ("net/src/operations/pty.rs", "crate::operations::sandbox::Id")],
        kept by [("net/src/operations/mod.rs", "use super::operations::process::Run;"), ("net/src/operations/pty.rs", "mod tests { use super::*; }")];
    docker_stays_in_its_folder = crates::docker,
        broken by [("core/src/shard/drive.rs", "use docker_api::Docker;")],
        kept by [("core/src/runtime/docker/image.rs", "use docker_api::Docker;")];
    fixtures_stay_in_tests = crates::fixtures,
        broken by [
            ("net/Cargo.toml", "[features]\ndefault = [\"mcp-conformance\"]\n"), ("net/Cargo.toml", "[features]\nall = [\"a\", \"mcp-conformance\"]\n"),
            ("bench/Cargo.toml", "workspace-server = { path = \"../net\", features = [\"mcp-conformance\"] }"), ("images/server/Dockerfile", "RUN cargo build --release --features mcp-conformance"),
        ],
        kept by [("net/Cargo.toml", "# The feature mcp-conformance\nrequired-features = [\"mcp-conformance\"]\n[features]\nmcp-conformance = [\"dep:siphasher\"]\n"), ("docs/mcp.md", "the feature `mcp-conformance`")];
    lock_file_is_kept = text::lock_file,
        broken by [(".gitignore", "Cargo.lock\n"), ("Cargo.lock", "source = \"git+https://example.org/a#1\"\n"), ("Cargo.toml", "[workspace]"), ("a/package-lock.json", "  \"resolved\": \"b\""), ("a/package.json", "{}")],
        kept by [("Cargo.lock", "name = \"a\"\n")];
    no_registry_host_is_named = text::hosts,
        broken by [("docs/a.md", &format!("see https://{}/simple", text::host("pypi", "org"))), (".cargo/config.toml", "[source.mirror]\nregistry = \"x\"")],
        kept by [("docs/a.md", "see the crate's own page")];
    no_machine_is_named = text::machine_paths,
        broken by [("docs/a.md", &format!("in {}main", text::machine_folder())), ("a.sh", &format!("{}/target-x", "/tmp"))],
        kept by [("docs/a.md", "in /workspace/main"), ("core/src/a.rs", "let p = \"/home/user\";")];
    readme_says_the_same_twice = text::readmes,
        broken by [("README.md", "# A\n\n`cargo run --release`\n`./tests/run`\n")],
        kept by [];
    ci_calls_the_tests = text::ci,
        broken by [(".ci/run", "echo ok"), ("tests/run", "cargo test")],
        kept by [];
    decisions_have_one_form = text::decisions,
        broken by [("docs/decisions/1-a.md", "# A"), ("docs/decisions/0001-use-a.md", "# A\n\n## Status\n"), ("docs/decisions/0002-use-a.md", text::DECISION_FORM)],
        kept by [("docs/decisions/0001-use-a.md", text::DECISION_FORM)];
    claims_have_tests = text::claims,
        broken by [("tests/escape/main.rs", "fn n01_no_real_root() {}")],
        kept by [("core/src/a.rs", "")];
    links_lead_somewhere = text::links,
        broken by [("docs/a.md", "[b](b.md)"), ("README.md", "see `tests/none/a.rs`")],
        kept by [("docs/a.md", "[self](a.md#x) [web](https://example.org) `docs/a.md`")];
}

#[test]
fn readmes_with_equal_headings_and_both_commands_pass() {
    let readme = "# A\n\n## B\n\n```sh\ncargo run --release\n./tests/run\n```\n";
    let pair = [("README.md", readme), ("README_zh.md", readme)];
    assert_eq!(text::readmes(&Tree::of(&pair)), Vec::<String>::new());
    let short = [("README.md", readme), ("README_zh.md", "# A\n\ncargo run --release ./tests/run\n")];
    assert!(!text::readmes(&Tree::of(&short)).is_empty());
    let silent = [("README.md", "# A\n"), ("README_zh.md", "# A\n")];
    assert!(!text::readmes(&Tree::of(&silent)).is_empty());
}

#[test]
fn ci_that_calls_the_tests_passes() {
    let pair = [(".ci/run", "exec ./tests/run"), ("tests/run", "cargo test --workspace --locked")];
    assert_eq!(text::ci(&Tree::of(&pair)), Vec::<String>::new());
}
