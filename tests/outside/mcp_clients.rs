//! Do the clients that people have work unchanged? Each as it comes from PyPI or npm, installed once into a cache.

use crate::kit::{Place, Server, turn, until};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXECUTOR: &str = "process_run";
const DEVELOPER: &str = "process_run file_read file_write file_list file_mkdir file_remove";
const FULL: &str = "sandbox_create sandbox_list sandbox_get sandbox_delete process_run process_kill file_read file_write \
                    file_list file_info file_mkdir file_move file_copy file_remove";

fn cache(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    cache.join("elevo-mcp").join(name)
}

fn kit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kit/mcp").join(name)
}

fn shell(script: &str, directory: &Path) -> Output {
    Command::new("bash").args(["-euc", script, "install"]).arg(directory).output().expect("bash")
}

/// Installs into a directory of the cache, whole or not at all. `None`, said as a skip: it can't be had here.
fn installed(name: &str, install: &str) -> Option<PathBuf> {
    let directory = cache(name);
    let script = format!(
        r#"mkdir -p "$1"; exec 8>"$1.lock"; flock 8; cd "$1"
        [[ "$(cat ready 2>/dev/null)" == {wanted:?} ]] && exit
        rm -rf ./* && {install} && echo {wanted:?} >ready"#,
        wanted = install.replace(['"', '\'', '$'], "")
    );
    let done = shell(&script, &directory);
    if done.status.success() {
        return Some(directory);
    }
    println!("skipped: {name} can't be installed here: {}", String::from_utf8_lossy(&done.stderr).trim());
    None
}

fn python(name: &str, packages: &str) -> Option<PathBuf> {
    let pip = "bin/pip -q --disable-pip-version-check install";
    installed(name, &format!("/usr/bin/python3 -m venv . && {pip} {packages}")).map(|venv| venv.join("bin/python"))
}

#[track_caller]
fn printed(mut client: Command, server: &Server, id: &str) -> String {
    let output = client.arg(format!("http://{}", server.address())).arg(id).output().expect("a client");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn pythons_clients_with_a_handshake() {
    let packages = "mcp==1.30.0 langchain-mcp-adapters==0.3.2 openai-agents==0.24.0";
    let Some(python) = python("python-1", packages) else { return };
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let run = |name: &str| {
        let mut client = Command::new(&python);
        client.arg(kit("clients.py")).arg(name);
        printed(client, &server, &id)
    };
    let sets = format!("executor 2025-11-25 {EXECUTOR}\ndeveloper 2025-11-25 {DEVELOPER}\nfull 2025-11-25 {FULL}");
    assert_eq!(run("mcp1"), sets);
    assert_eq!(run("langchain"), "True");
    assert_eq!(run("agents"), "True");
    server.sh(&id, "echo first >note");
    assert_eq!(run("resources1"), "True note True written");
}

#[test]
fn pythons_clients_without_a_handshake() {
    let Some(python) = python("python-2", "mcp==2.3.0 fastmcp==4.2.3") else { return };
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let run = |name: &str| {
        let mut client = Command::new(&python);
        client.arg(kit("clients.py")).arg(name);
        printed(client, &server, &id)
    };
    assert_eq!(run("mcp2"), format!("executor {EXECUTOR}\ndeveloper {DEVELOPER}\nfull {FULL}"));
    assert_eq!(run("fastmcp"), "x");
    assert_eq!(server.sh(&id, "cat by-fastmcp"), "x");
    server.sh(&id, "echo first >note");
    assert_eq!(run("resources2"), "2026-07-28 True note True again");
}

#[test]
fn nodes_clients_of_both_eras() {
    let packages = "@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0";
    let install = format!("echo {{}} >package.json && npm i --silent --no-fund --no-audit {packages}");
    let Some(modules) = installed("node", &install) else { return };
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let run = |name: &str| {
        let mut client = Command::new("node");
        client.current_dir(&modules).arg(kit("clients.mjs")).arg(name);
        printed(client, &server, &id)
    };
    for name in ["sdk", "default", "auto"] {
        assert_eq!(run(name), r#"14 "Hello, World!\n""#, "{name}");
    }
    assert_eq!(run("resources"), "true by node");
}

/// What a client's configuration says is the program and its variables; a client over stdio starts it by itself.
#[track_caller]
fn spoken(mut client: Command) -> String {
    let place = Place::new();
    let program = place.command();
    client.env_remove("RUST_LOG");
    client.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = client.arg(program.get_program()).arg("-").output().expect("a client");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?}: {errors}");
    // Each of them ends the program by closing its input, and not all of them wait for its end.
    until("nothing is left", 20, || place.left().is_empty());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn pythons_clients_over_stdio() {
    let old = python("python-1", "mcp==1.30.0 langchain-mcp-adapters==0.3.2 openai-agents==0.24.0");
    let new = python("python-2", "mcp==2.3.0 fastmcp==4.2.3");
    let _turn = turn::heavy();
    let speak = |python: &Path, name: &str| {
        let mut client = Command::new(python);
        client.arg(kit("clients.py")).arg(name);
        spoken(client)
    };
    if let Some(python) = old {
        assert_eq!(speak(&python, "stdio1"), "2025-11-25 6 1 2");
    }
    if let Some(python) = new {
        assert_eq!(speak(&python, "stdio2"), "6 1 2");
        assert_eq!(speak(&python, "stdiofast"), "1 2");
    }
}

#[test]
fn nodes_clients_over_stdio() {
    let packages = "@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0";
    let install = format!("echo {{}} >package.json && npm i --silent --no-fund --no-audit {packages}");
    let Some(modules) = installed("node", &install) else { return };
    let _turn = turn::heavy();
    for name in ["stdio-sdk", "stdio-default", "stdio-auto"] {
        let mut client = Command::new("node");
        client.current_dir(&modules).arg(kit("clients.mjs")).arg(name);
        assert_eq!(spoken(client), "6 1 2", "{name}");
    }
}
