//! The parsers, each with what must hold for any input: no panic, no contradiction, the same result for any cut.

use bytes::BytesMut;
use monoio_codec::{Decoded, Decoder};
use monoio_http::h1::codec::decoder::RequestHeadDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use tracing_subscriber::filter::{LevelFilter, Targets};
use workspace_core::config::Config;
use workspace_core::files::Tags;
use workspace_proto::agent::{HelloRequest, RunEvent};
use workspace_proto::grpc_frame;
use workspace_server::websocket::codec::{Codec, Ended};
use workspace_server::websocket::{Close, Message};
use workspace_server::wire::chunked;
use workspace_server::wire::head::{HEAD_BYTES_MAX, Progress, Scan};
use workspace_server::wire::printed::{Encoding, Printed};
use workspace_server::wire::{
    base64, date as wire_date, entity as wire_entity, fields as wire_fields, framing as wire_framing,
    json as wire_json, query as wire_query, range as wire_range, terminal as wire_terminal,
};

/// Whole or byte by byte, the walk ends at the same place; and the decoder behind it takes no byte more or less.
pub(crate) fn head(input: &[u8]) {
    let whole = Scan::default().feed(input);
    let mut scan = Scan::default();
    let pieces = (0..=input.len()).map(|end| scan.feed(&input[..end])).find(|p| *p != Ok(Progress::Partial));
    assert_eq!(pieces.unwrap_or(Ok(Progress::Partial)), whole);
    let Ok(Progress::Complete { start, end }) = whole else { return };
    assert!(end - start <= HEAD_BYTES_MAX);
    let head = &input[start..end];
    assert!(head.ends_with(b"\r\n\r\n") && head.windows(4).position(|w| w == b"\r\n\r\n") == Some(head.len() - 4));
    assert!(head.iter().enumerate().all(|(i, b)| *b != b'\n' || head[i - 1] == b'\r'));
    let mut bytes = BytesMut::from(head);
    match RequestHeadDecoder.decode(&mut bytes) {
        Ok(Decoded::Some(_)) | Err(_) => {}
        Ok(_) => panic!("the decoder wants more of a whole head"),
    }
}

/// Any head that is let through has one length, one host, and at most one of each framing field.
pub(crate) fn framing(input: &[u8]) {
    let Ok(Progress::Complete { start, end }) = Scan::default().feed(input) else { return };
    let Ok(Decoded::Some(head)) = RequestHeadDecoder.decode(&mut BytesMut::from(&input[start..end])) else { return };
    let Ok(framing) = wire_framing::read(&head) else { return };
    let count = |name: &str| head.headers.get_all(name).iter().count();
    assert!(count("content-length") + count("transfer-encoding") <= 1 && count("host") <= 1);
    assert!(count("host") == 1 || head.version == http::Version::HTTP_10);
    match framing.body {
        wire_framing::Body::Chunked => {
            assert_eq!((count("transfer-encoding"), head.version), (1, http::Version::HTTP_11))
        }
        wire_framing::Body::Length(n) => assert!(n == 0 || count("content-length") == 1),
    }
}

/// Whole or byte by byte, the same data; never more data than input.
pub(crate) fn chunked(input: &[u8]) {
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut rest, mut data, mut done) =
            (chunked::Decoder::default(), BytesMut::new(), Vec::new(), false);
        for piece in pieces {
            rest.extend_from_slice(piece);
            if !done {
                done = decoder.decode(&mut rest, &mut data).ok()?;
            }
            assert!(done || rest.len() <= 258, "kept {} bytes", rest.len());
        }
        Some((done, data, rest))
    };
    let whole = decode(&mut std::iter::once(input));
    assert_eq!(decode(&mut input.chunks(1)), whole);
    if let Some((_, data, rest)) = whole {
        assert!(data.len() + rest.len() <= input.len());
    }
}

/// What is read is text without NUL, and reading it again as a path component decodes nothing twice.
pub(crate) fn query(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(object) = wire_query::object(&text) else { return };
    for (name, value) in object.as_object().unwrap() {
        let strings: Vec<&str> = match value {
            serde_json::Value::Object(inner) => inner.values().map(|v| v.as_str().unwrap()).collect(),
            value => vec![value.as_str().unwrap()],
        };
        assert!(!name.contains('\0') && strings.iter().all(|s| !s.contains('\0')));
    }
    let plain: String = text.bytes().filter(u8::is_ascii_alphanumeric).map(char::from).collect();
    assert_eq!(wire_query::decode(&plain).unwrap(), plain);
    let escaped: String = plain.bytes().map(|b| format!("%{b:02x}")).collect();
    assert_eq!(wire_query::decode(&escaped).unwrap(), plain);
}

/// A part lies within the body and has bytes; one range alone is what its numbers say.
pub(crate) fn range(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for size in [0, 1, 10, u64::MAX] {
        if let wire_range::Part::Of(part) = wire_range::read(&text, size) {
            assert!(part.start < part.end && part.end <= size, "{part:?} of {size}");
            let one = format!("bytes={}-{}", part.start, part.end - 1);
            assert_eq!(wire_range::read(&one, size), wire_range::Part::Of(part));
        }
    }
}

/// What is read as a date is written as one, and read as the same.
pub(crate) fn date(input: &[u8]) {
    let Some(second) = wire_date::read(&String::from_utf8_lossy(input)) else { return };
    let written = wire_date::write(second);
    assert_eq!(std::str::from_utf8(&written).ok().and_then(wire_date::read), Some(second));
}

/// Tags are those between the quotes; a strong comparison never has more than a weak one.
pub(crate) fn entity(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let strong = wire_entity::tags(&text, wire_entity::Comparison::Strong);
    let weak = wire_entity::tags(&text, wire_entity::Comparison::Weak);
    assert_eq!(strong.is_some(), weak.is_some());
    let (Some(Tags::These(strong)), Some(Tags::These(weak))) = (strong, weak) else { return };
    assert!(!weak.is_empty() && strong.iter().all(|tag| weak.contains(tag)));
    assert!(weak.iter().all(|tag| text.contains(&format!("\"{tag}\"")) && !tag.contains(['"', ' ', '\n'])));
}

/// What is accepted is what a plain parser reads, and survives being written.
pub(crate) fn json(input: &[u8]) {
    let Ok(value) = wire_json::parse(input) else { return };
    assert_eq!(serde_json::from_slice::<serde_json::Value>(input).unwrap(), value);
    // Numbers with a fraction may come back a bit different: reading them is fast, not exact to the last bit.
    let written = serde_json::to_vec(&value).unwrap();
    if !written.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        assert_eq!(wire_json::parse(&written).unwrap(), value);
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Everything {
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout: Option<u64>,
    signed: Option<i32>,
    ratio: Option<f64>,
    #[serde(default)]
    partial: bool,
    choice: Option<Choice>,
    inner: Option<Box<Everything>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    One,
    Two,
}

/// Messages stay short and never show a value.
pub(crate) fn fields(input: &[u8]) {
    for name in ["timeout", "signed", "ratio", "choice", "inner", "args", "env"] {
        let text = String::from_utf8_lossy(input).replace("\"a\"", &format!("\"{name}\""));
        let Ok(value) = wire_json::parse(text.as_bytes()) else { continue };
        for source in [wire_fields::Source::Json, wire_fields::Source::Text] {
            if let Err(wrong) = wire_fields::decode::<Everything>(&value, source) {
                assert!(wrong.path.len() <= 128 && wrong.to_string().len() < 512, "{wrong}");
            }
        }
    }
}

/// One text for one value, both ways.
pub(crate) fn base64_url(input: &[u8]) {
    assert_eq!(base64::decode_url(&base64::encode_url(input)).as_deref(), Some(input));
    assert!(base64::encode(input).len().is_multiple_of(4));
    if let Some(bytes) = std::str::from_utf8(input).ok().and_then(base64::decode_url) {
        assert_eq!(base64::encode_url(&bytes).as_bytes(), input);
    }
}

/// Whole or byte by byte, the same messages and the same end.
pub(crate) fn grpc_frame(input: &[u8]) {
    fn messages<M: workspace_proto::Message + Default + PartialEq>(
        pieces: &mut dyn Iterator<Item = &[u8]>,
    ) -> (Vec<M>, Option<grpc_frame::FrameError>) {
        let (mut decoder, mut messages) = (grpc_frame::Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next_message::<M>() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, decoder.finish().err())
    }
    let one = std::iter::once;
    assert_eq!(messages::<HelloRequest>(&mut one(input)), messages::<HelloRequest>(&mut input.chunks(1)));
    assert_eq!(messages::<RunEvent>(&mut one(input)), messages::<RunEvent>(&mut input.chunks(1)));
}

/// What is a control message is a JSON object, within the bounds; what is none is left alone.
pub(crate) fn terminal(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let object = wire_json::parse(text.as_bytes()).ok().filter(serde_json::Value::is_object);
    match wire_terminal::read(&text) {
        Ok(wire_terminal::Control::Resize { cols, rows }) => {
            assert!((1..=4096).contains(&cols) && (1..=4096).contains(&rows));
            assert_eq!(object.unwrap()["cols"], cols);
        }
        Ok(wire_terminal::Control::Input(data)) => assert_eq!(object.unwrap()["data"], data),
        Ok(wire_terminal::Control::Ping) => assert_eq!(object.unwrap()["type"], "ping"),
        Err(wire_terminal::Wrong::Field(_)) => assert!(object.unwrap()["type"].is_string()),
        Err(wire_terminal::Wrong::Unknown) => {}
    }
}

/// Cut anywhere, the same messages, the same answers and the same end; never more of a message than was sent.
pub(crate) fn websocket(input: &[u8]) {
    let hear = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut codec, mut rest, mut out) = (Codec::new(1000), BytesMut::new(), Vec::new());
        let mut messages: Vec<Message> = Vec::new();
        for piece in pieces {
            rest.extend_from_slice(piece);
            loop {
                match codec.receive(&mut rest, &mut out) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(ended) => return (messages, out, Some(ended)),
                }
            }
            assert!(codec.held_bytes() <= 1000 && rest.len() <= input.len());
        }
        (messages, out, None)
    };
    let whole = hear(&mut std::iter::once(input));
    assert_eq!(hear(&mut input.chunks(1)), whole);
    assert_eq!(hear(&mut input.chunks(7)), whole);
    let (messages, out, ended) = whole;
    let bytes = messages.iter().map(|message| match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
    });
    assert!(bytes.map(|bytes| bytes + 6).sum::<usize>() <= input.len());
    match ended {
        Some(Ended::Broken(Close { code, .. })) => {
            assert!([1002, 1007, 1009].contains(&(code as u16)) && !out.is_empty())
        }
        Some(Ended::ByPeer) => assert!(!out.is_empty(), "a close is answered"),
        None => {}
    }
}

/// A record is read or refused, and what is read can be written and read again.
pub(crate) fn record(input: &[u8]) {
    workspace_core::store::record::fuzz_record(input);
}

/// The walk over a database's file ends, whatever lies in it.
pub(crate) fn database_file(input: &[u8]) {
    let whole = workspace_core::store::check::is_whole(input);
    assert!(whole || input != crate::corpus::database_file[0], "the smallest database is whole");
}

/// What the configuration takes as RUST_LOG is what the log can be filtered by.
pub(crate) fn log_filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(config) = Config::from_env([("RUST_LOG".into(), text.into())]) else { return };
    let targets: Targets = config.log.parse().unwrap();
    for (target, level) in config.log.split(',').filter_map(|directive| directive.split_once('=')) {
        assert!(level.parse::<LevelFilter>().is_ok() && targets.iter().any(|(known, _)| known == target), "{target:?}");
    }
}

/// As a JSON string, what was printed is what a lossy reader sees, and as long as was said.
pub(crate) fn printed(input: &[u8]) {
    for encoding in [Encoding::Utf8, Encoding::Base64] {
        let mut printed = Printed::new(input.to_vec(), encoding);
        let (length, mut json) = (printed.json_bytes(), vec![b'"']);
        while printed.write_next(&mut json) {}
        json.push(b'"');
        assert_eq!(json.len() as u64, length + 2);
        let text: String = serde_json::from_slice(&json).unwrap();
        match encoding {
            Encoding::Utf8 => assert_eq!(text, String::from_utf8_lossy(input)),
            Encoding::Base64 => assert_eq!(text, base64::encode(input)),
        }
    }
}
