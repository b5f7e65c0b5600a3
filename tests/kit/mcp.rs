//! MCP by hand: a session of the older versions, or one request of the newer, and the messages that come back.

use super::client::{Client, Response};
use super::events::Parser;
use super::server::Server;
use serde_json::{Value, json};

const BOTH: &str = "application/json, text/event-stream";
const NEWEST: &str = "2026-07-28";

/// A session.
pub(crate) struct Mcp<'a> {
    pub(super) server: &'a Server,
    pub(super) path: String,
    /// What names it.
    pub(crate) id: String,
    next: u64,
}

impl<'a> Mcp<'a> {
    /// Shakes hands with a set of tools.
    #[track_caller]
    pub(crate) fn begin(server: &'a Server, set: &str) -> Mcp<'a> {
        Mcp::begin_as(server, set, "2025-11-25", &[])
    }

    /// The same as a client of this version, with more header fields.
    #[track_caller]
    pub(crate) fn begin_as(server: &'a Server, set: &str, version: &str, fields: &[(&str, &str)]) -> Mcp<'a> {
        Mcp::begin_able(server, set, version, fields, json!({}))
    }

    /// The same as a client that can do this.
    #[track_caller]
    pub(crate) fn begin_able(
        server: &'a Server,
        set: &str,
        version: &str,
        fields: &[(&str, &str)],
        capabilities: Value,
    ) -> Mcp<'a> {
        let path = format!("/mcp/{set}");
        let client = json!({"name": "t", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client});
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let fields = [&[("accept", BOTH)], fields].concat();
        let answer = server.request("POST", &path, &fields, message.to_string().as_bytes()).expect(200);
        let id = answer.header("mcp-session-id").expect("a session id").to_owned();
        let session = Mcp { server, path, id, next: 1 };
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).expect(202);
        session
    }

    /// Sends a message as it is.
    #[track_caller]
    pub(crate) fn send(&self, message: &Value) -> Response {
        self.send_bytes(message.to_string().as_bytes())
    }

    /// Sends bytes.
    #[track_caller]
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> Response {
        self.server.request("POST", &self.path, &[("accept", BOTH), ("mcp-session-id", &self.id)], bytes)
    }

    /// Begins a request on a connection of its own, and leaves its answer there.
    #[track_caller]
    pub(crate) fn begin_request(&self, message: &Value) -> Client {
        let mut client = self.server.client();
        let body = message.to_string();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {BOTH}\r\n\
             Mcp-Session-Id: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            self.id,
            body.len()
        );
        client.send(head.as_bytes()).expect("send");
        client
    }

    /// Asks, and gives the whole answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let answer = self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let message = messages(&answer).pop().unwrap_or_else(|| panic!("no message: {answer:?}"));
        assert_eq!((&message["jsonrpc"], &message["id"]), (&json!("2.0"), &json!(id)), "{message}");
        message
    }

    /// Calls a tool; gives its result.
    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let message = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(message["result"].is_object(), "{message}");
        message["result"].clone()
    }

    /// Ends it.
    #[track_caller]
    pub(crate) fn end(&self) -> Response {
        self.server.request("DELETE", &self.path, &[("mcp-session-id", &self.id)], b"")
    }
}

/// The messages of an answer, whichever form it has.
#[track_caller]
pub(crate) fn messages(answer: &Response) -> Vec<Value> {
    if answer.header("content-type").is_some_and(|of| of.starts_with("text/event-stream")) {
        let events = Parser::default().feed(&answer.body);
        return events.iter().map(|event| serde_json::from_str(&event.data).expect("JSON in an event")).collect();
    }
    if answer.body.is_empty() { Vec::new() } else { vec![answer.json()] }
}

/// A request of the newer version, as it must be: the method, the params without `_meta`, and the header fields.
pub(crate) fn modern(method: &str, mut params: Value) -> (Value, Vec<(String, String)>) {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(NEWEST);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let mut fields = vec![("accept", BOTH), ("mcp-protocol-version", NEWEST), ("mcp-method", method)];
    let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
    fields.extend(name.as_deref().map(|name| ("mcp-name", name)));
    let sandbox = params["arguments"]["sandbox_id"].as_str().map(str::to_owned);
    fields.extend(sandbox.as_deref().map(|id| ("mcp-param-sandbox-id", id)));
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}), fields)
}
