//! Can a command forge an event? Attack T13: whatever it prints, its reader finds the same bytes and one true end.
//!
//! The commands are real, and so is the reader: `kit::Parser` takes for an event what a browser takes for one.

use crate::kit::{Event, Parser, Server, with_query};
use serde_json::{Value, json};

/// What a command would print to end its own stream, or to move its reader.
const FORGED: &str = concat!(
    "\n\ndata: {\"type\":\"exit\",\"code\":0}\n\n",
    "\r\rdata: {\"type\":\"exit\",\"code\":0}\r\r",
    "\r\n\r\ndata: {\"type\":\"exit\",\"code\":0}\r\n\r\n",
    "\"}\n\ndata: {\"type\":\"exit\",\"code\":0}\n\n",
    "\u{2028}data: {\"type\":\"exit\",\"code\":0}\u{2028}\u{2029}\u{85}\u{b}\u{c}",
    "\u{feff}:comment\nid: 99-end\nevent: exit\nretry: 1\ndata\n\n",
    "\\u000a\\n\\\" 0\r\n\r\n1;ext\r\n\0",
);
const TRUE_CODE: i64 = 7;

fn stream_path(id: &str) -> String {
    format!("/api/v1/sandboxes/{id}/process/run/stream")
}

/// What a reader was told, checked event by event.
#[derive(Default)]
struct Told {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The pieces of stdout.
    pieces: Vec<Vec<u8>>,
}

/// Reads all events of a stream, which must be a start, output and one exit with [`TRUE_CODE`].
#[track_caller]
fn told(events: &[Event], base64: bool) -> Told {
    let mut told = Told::default();
    let mut cursor = 0;
    for (at, event) in events.iter().enumerate() {
        let (kind, value) = event.json();
        let (place, end) = match event.id.strip_suffix("-end") {
            Some(place) => (place, true),
            None => (event.id.as_str(), false),
        };
        let now: u64 = place.split('-').next().and_then(|digits| digits.parse().ok()).expect("an id of ours");
        assert!(now >= cursor, "ids ascend: {event:?}");
        cursor = now;
        let last = at + 1 == events.len();
        assert_eq!((end, kind == "start", kind == "exit"), (last, at == 0, last), "{event:?}");
        match kind.as_str() {
            "start" => assert!(value["pid"].as_u64().is_some_and(|pid| pid > 1), "{event:?}"),
            "exit" => assert_eq!(value["code"], TRUE_CODE, "{event:?}"),
            "stdout" | "stderr" => {
                let text = value["data"].as_str().expect("data");
                let bytes = if base64 { decoded(text) } else { text.as_bytes().to_vec() };
                if kind == "stderr" {
                    told.stderr.extend(bytes);
                } else {
                    told.stdout.extend(&bytes);
                    told.pieces.push(bytes);
                }
            }
            other => panic!("an event {other}: {event:?}"),
        }
    }
    told
}

fn decoded(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{byte} is not base64"),
    };
    let quads = text.as_bytes().chunks(4).map(|quad| quad.iter().filter(|b| **b != b'=').map(|b| value(*b)));
    let bytes = quads.flat_map(|quad| {
        let (count, bits) = quad.fold((0, 0_u32), |(count, bits), six| (count + 1, bits << 6 | u32::from(six)));
        let bits = bits << (6 * (4 - count));
        bits.to_be_bytes()[1..count].to_vec()
    });
    bytes.collect()
}

/// The control: the same text without our writing does move this reader, and ends its stream with a lie.
#[test]
fn the_reader_believes_what_a_browser_believes() {
    let mut parser = Parser::default();
    let naive = format!("id: 1\ndata: {{\"type\":\"stdout\",\"data\":\"{FORGED}\"}}\n\n");
    let events = parser.feed(naive.as_bytes());
    let exits = events.iter().filter(|e| e.data == "{\"type\":\"exit\",\"code\":0}").count();
    assert_eq!(exits, 4, "{events:#?}");
    assert!(events.iter().any(|e| e.id == "99-end" && e.name == "exit"), "{events:#?}");
    for cut in 0..naive.len() {
        let mut parser = Parser::default();
        let mut again = parser.feed(&naive.as_bytes()[..cut]);
        again.extend(parser.feed(&naive.as_bytes()[cut..]));
        assert_eq!(again, events, "cut at {cut}");
    }
    let odd = Parser::default().feed(b"\xef\xbb\xbfdata\n\n:c\nid\ndata: \ndata:x\nid: a\0b\n\nid: 5\n\n");
    let shown: Vec<_> = odd.iter().map(|e| (e.id.as_str(), e.data.as_str(), e.data_lines)).collect();
    assert_eq!(shown, [("", "", 1), ("", "\nx", 2)]);
}

#[test]
fn output_that_looks_like_events_is_output() {
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "cat; printf '%s' \"$1\" >&2; exit 7";
    let more = "id: 7\n\ndata: {\"type\":\"exit\",\"code\":0}\n\n";
    for encoding in ["utf8", "base64"] {
        let body = json!({"command": "sh", "args": ["-c", script, "sh", more], "stdin": FORGED, "encoding": encoding});
        let events = server.events("POST", &stream_path(&id), &body).rest();
        let told = told(&events, encoding == "base64");
        assert_eq!((told.stdout, told.stderr), (FORGED.as_bytes().to_vec(), more.as_bytes().to_vec()), "{encoding}");
        // No NUL fits into an argument.
        let without_nul = FORGED.trim_end_matches('\0');
        let args = json!(["-c", "printf '%s' \"$1\"; printf '%s' \"$FORGED\" >&2; exit 7", "sh", without_nul]);
        let env = json!({"FORGED": more});
        let pairs = [("command", "sh"), ("args", &args.to_string()), ("env", &env.to_string()), ("encoding", encoding)];
        let events = server.events("GET", &with_query(&stream_path(&id), &pairs), &Value::Null).rest();
        let told = self::told(&events, encoding == "base64");
        assert_eq!((told.stdout, told.stderr), (without_nul.into(), more.into()), "{encoding}");
    }
}

#[test]
fn names_that_look_like_events_are_answers() {
    let server = Server::start();
    let id = server.create(json!({}));
    for (field, code) in [("command", 127), ("cwd", 126)] {
        let mut body = json!({"command": "true"});
        body[field] = json!("./x\n\ndata: {\"type\":\"exit\",\"code\":0}\n\n");
        let events = server.events("POST", &stream_path(&id), &body).rest();
        let kinds: Vec<(String, Value)> = events.iter().map(Event::json).collect();
        let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(names, ["start", "stderr", "exit"], "{events:#?}");
        assert_eq!(kinds[2].1["code"], code);
        assert!(kinds[1].1["data"].as_str().is_some_and(|said| said.contains("data: {")), "the reason names it");
    }
}

/// A text cut at each of its bytes, by two writes with a pause between them.
#[test]
fn cut_characters_are_whole_again_and_no_byte_is_lost() {
    let server = Server::start();
    let id = server.create(json!({}));
    let whole = "a€😀\u{2028}é".as_bytes();
    let broken = b"\xe2\x82\xff\xf0\x9f\x98\xed\xa0\x80\xc3";
    let script = "import os, sys, time\nfor text in sys.argv[1:]:\n  data = bytes.fromhex(text)\n  \
        for cut in range(len(data) + 1):\n    for piece in (data[:cut], data[cut:]):\n      os.write(1, piece); time.sleep(0.015)\nsys.exit(7)";
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let printed = [whole.repeat(whole.len() + 1), broken.repeat(broken.len() + 1)].concat();
    let run = |encoding: &str| {
        let args = json!(["-c", script, hex(whole), hex(broken)]);
        let body = json!({"command": "python3", "args": args, "encoding": encoding});
        told(&server.events("POST", &stream_path(&id), &body).rest(), encoding == "base64")
    };
    let (exact, text) = std::thread::scope(|scope| {
        let exact = scope.spawn(|| run("base64"));
        let text = run("utf8");
        (exact.join().expect("join"), text)
    });
    assert_eq!(exact.stdout, printed);
    assert_eq!(String::from_utf8(text.stdout).expect("UTF-8"), String::from_utf8_lossy(&printed));
    // The control: the cuts were real, some piece ended within a character.
    let cut = exact.pieces.iter().filter(|piece| std::str::from_utf8(piece).is_err()).count();
    assert!(cut > whole.len() / 2, "{cut} pieces were cut");
}
