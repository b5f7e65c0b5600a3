//! Server-sent events by hand, read as a browser reads them: whatever it would take for an event is one here.
//!
//! Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".

use super::client::{Client, Response, encode};
use super::server::Server;
use serde_json::Value;
use std::collections::VecDeque;

/// What a browser would dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The last id that the stream has named, what a browser sends as Last-Event-ID.
    pub(crate) id: String,
    /// Of an `event:` line; empty without one.
    pub(crate) name: String,
    /// All `data:` lines, joined by line feeds.
    pub(crate) data: String,
    /// How many of them there were.
    pub(crate) data_lines: usize,
    /// Lines of other fields but `id`, comments left out.
    pub(crate) other_lines: Vec<String>,
}

impl Event {
    /// Its data, which must be a JSON object on one line, and its `type`.
    #[track_caller]
    pub(crate) fn json(&self) -> (String, Value) {
        assert!(self.data_lines == 1 && self.name.is_empty() && self.other_lines.is_empty(), "{self:?}");
        let value: Value = serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"));
        let kind = value["type"].as_str().unwrap_or_else(|| panic!("no type: {self:?}"));
        (kind.to_owned(), value)
    }
}

/// Bytes in, events out.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    id: String,
    name: String,
    data: String,
    data_lines: usize,
    other_lines: Vec<String>,
    /// Comment lines so far: signs of life.
    pub(crate) comments: usize,
}

impl Parser {
    /// Takes bytes in any cuts; gives what they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            let ends = *byte == b'\n' || *byte == b'\r';
            // A line feed behind a carriage return belongs to it.
            if !(*byte == b'\n' && self.after_cr) {
                if ends {
                    events.extend(self.end_line());
                } else {
                    self.line.push(*byte);
                }
            }
            self.after_cr = *byte == b'\r';
        }
        events
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let line =
            if std::mem::replace(&mut self.begun, true) { line.as_str() } else { line.trim_start_matches('\u{feff}') };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            "event" => self.name = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
                self.data_lines += 1;
            }
            _ => self.other_lines.push(line.to_owned()),
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = Event {
            id: self.id.clone(),
            name: std::mem::take(&mut self.name),
            data: std::mem::take(&mut self.data),
            data_lines: std::mem::take(&mut self.data_lines),
            other_lines: std::mem::take(&mut self.other_lines),
        };
        let data = event.data.strip_suffix('\n')?.to_owned();
        Some(Event { data, ..event })
    }
}

/// A stream of events on a connection of its own; dropping it is what a client does that goes away.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) client: Client,
    pub(crate) parser: Parser,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Server {
    /// Asks for events; an answer that is none comes whole.
    pub(crate) fn try_events(
        &self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Events, Response> {
        let key = self.key_header();
        let mut headers: Vec<(&str, &str)> = more.to_vec();
        headers.extend(key.iter().map(|key| ("x-api-key", key.as_str())));
        let mut client = self.client();
        let request = encode(&self.address().to_string(), method, path, &headers, body);
        client.send(&request).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        Events::of(client)
    }

    /// Asks for events, which must come.
    #[track_caller]
    pub(crate) fn events(&self, method: &str, path: &str, body: &Value) -> Events {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let events = self.try_events(method, path, &[], body.as_bytes());
        events.unwrap_or_else(|answer| panic!("{method} {path}: {} {}", answer.status, answer.text()))
    }
}

impl Events {
    /// Reads the head of the answer that comes on this connection.
    pub(crate) fn of(mut client: Client) -> Result<Events, Response> {
        let mut head = client.head().unwrap_or_else(|e| panic!("no answer: {e}"));
        let is_stream = head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !is_stream {
            let length = head.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            head.body = client.exactly(length).unwrap_or_else(|e| panic!("no body: {e}"));
            return Err(head);
        }
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")), "{head:?}");
        Ok(Events { client, parser: Parser::default(), ready: VecDeque::new(), ended: false })
    }

    /// Waits for the next event; `None` where the body has ended as it must.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.try_next().unwrap_or_else(|e| panic!("the stream broke off: {e}"))
    }

    /// The same where the connection may break.
    pub(crate) fn try_next(&mut self) -> std::io::Result<Option<Event>> {
        while self.ready.is_empty() && !self.ended {
            match self.client.chunk()? {
                Some(bytes) => self.ready.extend(self.parser.feed(&bytes)),
                None => self.ended = true,
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The next event as JSON, which must be of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().unwrap_or_else(|| panic!("the stream ended before {kind}"));
        let (found, value) = event.json();
        assert_eq!(found, kind, "{event:?}");
        value
    }

    /// All that is left, read to the end of the connection.
    #[track_caller]
    pub(crate) fn rest(mut self) -> Vec<Event> {
        let all = std::iter::from_fn(|| self.next()).collect();
        assert!(self.client.is_closed(), "nothing follows the end of events");
        all
    }
}
