//! A real browser: Chromium, driven by `tests/browser/driver.js`, a command a line.
//!
//! What is missing for it on this machine is said as the reason of a skip. The driver bounds every wait and its own life.

use super::server::Server;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/browser");
const CHROMIUM: &str = "/usr/bin/chromium";
const END_S_MAX: u64 = 10;

/// One page in a browser of its own.
pub(crate) struct Browser {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// Debian 12's own node is 18.
const NODE_IS_NEW: &str = "process.exit(Number(process.versions.node.split('.')[0]) >= 20 ? 0 : 1)";

impl Browser {
    /// Starts it; `None`, and says so, where something is missing.
    pub(crate) fn start(server: &Server) -> Option<Browser> {
        let found =
            |program: &str, arg: &str| Command::new(program).arg(arg).output().is_ok_and(|o| o.status.success());
        let missing = if !Path::new(CHROMIUM).exists() {
            "no chromium"
        } else if !found("node", "--version") {
            "no node"
        } else if !Command::new("node").args(["-e", NODE_IS_NEW]).status().is_ok_and(|status| status.success()) {
            "node is older than 20, which playwright-core wants"
        } else if !Path::new(FOLDER).join("node_modules/playwright-core").exists() {
            "no playwright-core: npm --prefix tests/browser ci"
        } else if server.get(&format!("/terminal/{}", "0".repeat(32))).status == 501 {
            "the terminal page is not in this build"
        } else {
            let mut child = Command::new("node")
                .args(["driver.js", CHROMIUM])
                .current_dir(FOLDER)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start node");
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("stdout"));
            return Some(Browser { child, stdin, stdout: BufReader::new(stdout) });
        };
        println!("skipped: {missing}");
        None
    }

    /// Does one thing; panics with what the page showed where it could not.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: Value) -> Value {
        writeln!(self.stdin.as_mut().expect("stdin"), "{command}").expect("the driver reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the driver answers");
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the driver ended at {command}: {line:?}"));
        if let Some(error) = answer["error"].as_str() {
            panic!("{error}");
        }
        answer["value"].clone()
    }

    /// Goes to an address; gives the status of the answer.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) -> u64 {
        // A change behind `#` alone is no load.
        self.ask(json!({"do": "open", "url": "about:blank"}));
        self.ask(json!({"do": "open", "url": url})).as_u64().expect("a status")
    }

    /// Presses the keys of a text, and Enter.
    #[track_caller]
    pub(crate) fn enter(&mut self, text: &str) {
        self.ask(json!({"do": "type", "text": format!("{text}\n")}));
    }

    /// Presses one key, by its name.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &str) {
        self.ask(json!({"do": "press", "key": key}));
    }

    /// Waits until the terminal shows `text`; gives all that is seen.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) -> Value {
        self.until("screen", text)
    }

    /// Waits until the status line says `text`; gives all that is seen.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> Value {
        self.until("status", text)
    }

    /// Waits until a part of the page contains `text`; gives all that is seen.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str, text: &str) -> Value {
        self.ask(json!({"do": "until", "part": part, "text": text, "present": true}))
    }

    /// Waits until the terminal shows `text` no more.
    #[track_caller]
    pub(crate) fn hides(&mut self, text: &str) -> Value {
        self.ask(json!({"do": "until", "part": "screen", "text": text, "present": false}))
    }

    /// Sets the size of the page, in pixels.
    #[track_caller]
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        self.ask(json!({"do": "size", "width": width, "height": height}));
    }

    /// All that is seen now.
    #[track_caller]
    pub(crate) fn look(&mut self) -> Value {
        self.ask(json!({"do": "look"}))
    }

    /// What the page sent over its WebSocket since the last time.
    #[track_caller]
    pub(crate) fn sent(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask(json!({"do": "sent"}))).expect("texts")
    }

    /// Keeps a picture beside the test's binaries, for people.
    #[track_caller]
    pub(crate) fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        self.ask(json!({"do": "picture", "path": folder.join(format!("terminal-{name}.png"))}));
    }

    /// Panics where the page ran into an error, or its policy refused something.
    #[track_caller]
    pub(crate) fn assert_content(&mut self) {
        assert_eq!(self.ask(json!({"do": "complaints"})), json!([]));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stdin = None;
        if !super::wait::within(END_S_MAX, || self.child.try_wait().ok().flatten().is_some()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}
