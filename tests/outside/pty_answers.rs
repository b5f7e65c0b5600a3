//! Who answers a terminal's questions? Attack T19: a program asks what the terminal is, where its cursor stands, what
//! is on the clipboard. The server passes the bytes on and never answers; only a viewer could.

use crate::kit::{Server, WebSocket};
use crate::pty::open;
use serde_json::{Value, json};

/// Device attributes (three), cursor and status reports, a setting, clipboard, colours, title and window reports, a
/// version, an answer-back.
const QUESTIONS: &str = "\u{1b}[c\u{1b}[>c\u{1b}[=c\u{1b}[5n\u{1b}[6n\u{1b}[?6n\u{1b}P$q\"p\u{1b}\\\u{1b}]52;c;?\u{7}\
\u{1b}]10;?\u{7}\u{1b}]11;?\u{1b}\\\u{1b}]4;1;?\u{7}\u{1b}[21t\u{1b}[18t\u{1b}[14t\u{1b}[>q\u{1b}[?2026$p\u{5}\u{1b}Z";
/// How long nobody must answer.
const SILENCE_S: &str = "1.5";
/// What a viewer types as an answer.
const ANSWER: &str = "\u{1b}[?1;2c";

/// Asks, and says what has come within the time.
fn asking() -> Value {
    let script = "import os, select, sys, tty\ntty.setraw(0)\nquestions = bytes.fromhex(sys.argv[1])\nos.write(1, questions + b'asked;')\n\
        got = b''\nwhile select.select([0], [], [], float(sys.argv[2]))[0]:\n  got += os.read(0, 4096)\n\
        os.write(1, b'got:%s;' % got.hex().encode())\nos.read(0, 1)\n";
    let hex: String = QUESTIONS.bytes().map(|byte| format!("{byte:02x}")).collect();
    json!({"command": "python3", "args": ["-c", script, hex, SILENCE_S]})
}

#[test]
fn nobody_answers_but_a_viewer() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, asking());
    let mut viewers: Vec<WebSocket> = (0..2).map(|_| WebSocket::connect(&server, &path, &[])).collect();
    let whole = format!("{QUESTIONS}asked;got:;");
    for viewer in &mut viewers {
        assert_eq!(viewer.see("got:;"), whole, "the bytes as they are, and no answer came");
    }
    // Nor is one made of what is kept: a late viewer is shown the questions again, and the program hears nothing.
    let mut late = WebSocket::connect(&server, &path, &[]);
    assert_eq!(late.see("got:;"), whole);
    let ended = server.request("DELETE", &path, &[], b"");
    assert_eq!(ended.status, 200, "{}", ended.text());
    // The control: an answer would be heard.
    let path = open(&server, &id, asking());
    let mut viewer = WebSocket::connect(&server, &path, &[]);
    viewer.see("asked;");
    viewer.send(ANSWER);
    let hex: String = ANSWER.bytes().map(|byte| format!("{byte:02x}")).collect();
    viewer.see(&format!("got:{hex};"));
}
