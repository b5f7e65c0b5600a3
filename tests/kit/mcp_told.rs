//! What a server tells an MCP client without being asked: the stream of a session, and the answer to `subscriptions/listen`.

use super::client::{Response, encode};
use super::events::Events;
use super::mcp::{Mcp, modern};
use super::server::Server;
use serde_json::{Value, json};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Messages as they come. Dropping it is what a client does that goes away.
pub(crate) struct Told {
    events: Events,
}

impl Mcp<'_> {
    /// Opens the session's stream; an answer that is none comes whole.
    pub(crate) fn try_listen(&self) -> Result<Told, Response> {
        let fields = [("accept", "text/event-stream"), ("mcp-session-id", self.id.as_str())];
        self.server.try_events("GET", &self.path, &fields, b"").map(|events| Told { events })
    }

    /// Opens the session's stream.
    #[track_caller]
    pub(crate) fn listen(&self) -> Told {
        self.try_listen().unwrap_or_else(|answer| panic!("{} {}", answer.status, answer.text()))
    }
}

impl Told {
    /// Listens as a client of the newer version; gives what the server agrees to, too.
    #[track_caller]
    pub(crate) fn modern(server: &Server, set: &str, notifications: Value) -> (Told, Value) {
        let (message, fields) = modern("subscriptions/listen", json!({"notifications": notifications}));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut client = server.client();
        let request = encode("localhost", "POST", &format!("/mcp/{set}"), &fields, message.to_string().as_bytes());
        client.send(&request).expect("send");
        let events = Events::of(client).unwrap_or_else(|answer| panic!("{} {}", answer.status, answer.text()));
        let mut told = Told { events };
        let first = told.next().expect("an acknowledgment");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        assert_eq!(first["params"]["_meta"][SUBSCRIPTION], 7, "{first}");
        (told, first["params"]["notifications"].clone())
    }

    /// The next message; `None` where the stream has ended as it must.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Value> {
        let event = self.events.next()?;
        assert_eq!((event.name.as_str(), event.data_lines), ("message", 1), "{event:?}");
        Some(serde_json::from_str(&event.data).expect("JSON"))
    }

    /// The next resource that is told to have changed, by its URI.
    #[track_caller]
    pub(crate) fn updated(&mut self) -> String {
        let message = self.next().expect("a message before the end");
        assert_eq!((&message["method"], &message["id"]), (&json!("notifications/resources/updated"), &Value::Null));
        message["params"]["uri"].as_str().unwrap_or_else(|| panic!("no uri: {message}")).to_owned()
    }

    /// Reads until this resource is told of; meanwhile nothing but `others` may be.
    #[track_caller]
    pub(crate) fn until_updated(&mut self, uri: &str, others: &[&str]) {
        loop {
            let told = self.updated();
            if told == uri {
                return;
            }
            assert!(others.contains(&told.as_str()), "{told} is told, and {uri} was to be");
        }
    }
}
