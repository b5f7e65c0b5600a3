//! How a command's events look as server-sent events: unnamed, one `data:` line each, the id the reader's position.
//!
//! JSON in ASCII line ends: whatever a command prints, no byte of it can end a line or begin a field.
//! Source: WHATWG HTML, server-sent events.

use super::base64;
use super::printed::{Encoding, escape_lossy};
use serde::Serialize;
use std::io::Write;
use workspace_core::output::Position;
use workspace_core::process::{Ending, ExitReason, Stream};

#[derive(Serialize)]
struct Exit<'a> {
    r#type: &'a str,
    code: i32,
    exit_reason: &'a str,
    signal: Option<u32>,
    timed_out: bool,
    truncated: bool,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Failure<'a> {
    r#type: &'a str,
    message: &'a str,
    reason: &'a str,
}

/// It runs as `pid`.
pub fn start(out: &mut Vec<u8>, position: &Position, pid: u32) {
    // Writing to memory does not fail, here and below.
    let _ = write!(out, "id: {position}\ndata: {{\"type\":\"start\",\"pid\":{pid}}}\n\n");
}

/// It has printed: whole characters under [`Encoding::Utf8`].
pub fn output(out: &mut Vec<u8>, position: &Position, stream: Stream, bytes: &[u8], encoding: Encoding) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let _ = write!(out, "id: {position}\ndata: {{\"type\":\"{name}\",\"data\":\"");
    match encoding {
        Encoding::Utf8 => escape_lossy(bytes, out),
        Encoding::Base64 => out.extend_from_slice(base64::encode(bytes).as_bytes()),
    }
    out.extend_from_slice(b"\"}\n\n");
}

/// So much of what it printed is not kept any more.
pub fn dropped(out: &mut Vec<u8>, position: &Position, bytes: u64) {
    let _ = write!(out, "id: {position}\ndata: {{\"type\":\"dropped\",\"bytes\":{bytes}}}\n\n");
}

/// It has ended; nothing follows.
pub fn exit(out: &mut Vec<u8>, position: &Position, ending: &Ending) {
    let exit = Exit {
        r#type: "exit",
        code: ending.exit_code,
        exit_reason: ending.reason.name(),
        signal: ending.signal,
        timed_out: ending.reason == ExitReason::TimedOut,
        truncated: ending.truncated,
        duration_ms: ending.duration_us / 1000,
    };
    let _ = write!(out, "id: {position}\ndata: ");
    let _ = serde_json::to_writer(&mut *out, &exit);
    out.extend_from_slice(b"\n\n");
}

/// How it ended can't be told; nothing follows. Without an id: a reader may come back to where it was.
pub fn error(out: &mut Vec<u8>, message: &str, reason: &str) {
    out.extend_from_slice(b"data: ");
    let _ = serde_json::to_writer(&mut *out, &Failure { r#type: "error", message, reason });
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is printed, a reader finds one event with exactly these characters.
    #[test]
    fn no_output_can_forge_an_event() {
        let hostile =
            "\n\ndata: {\"type\":\"exit\",\"code\":0}\n\nid: 7\r\nretry: 1\r\u{2028}\u{2029}\0\u{feff}:x\u{85}";
        let mut out = Vec::new();
        output(&mut out, &Position::at(9), Stream::Stderr, hostile.as_bytes(), Encoding::Utf8);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        assert_eq!((lines.len(), lines[0], lines[2], lines[3]), (4, "id: 9", "", ""));
        let event: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((event["type"].as_str(), event["data"].as_str()), (Some("stderr"), Some(hostile)));
    }

    #[test]
    fn the_largest_event_is_below_what_clients_can_read() {
        for bytes in [vec![0u8; 8192], vec![0xff; 8192], "\u{2028}".repeat(2730).into_bytes()] {
            for encoding in [Encoding::Utf8, Encoding::Base64] {
                let mut out = Vec::new();
                output(&mut out, &Position::at(u64::MAX), Stream::Stdout, &bytes, encoding);
                assert!(out.len() < 64 << 10, "{}", out.len());
            }
        }
    }
}
