//! A body that goes on: framed as it comes, alive while it is silent, ended with its client.

use crate::kit::{Driver, Server, eventually, get};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};
use workspace_server::http::{Deadlines, Settings};
use workspace_server::operation::*;

static EVENTS: &[Entry] = &[entry::<Ticks>()];

/// Streams of `/ticks` that are under way, by `slot`.
static UNDER_WAY: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    slot: usize,
    count: u32,
    #[serde(default)]
    gap_ms: u64,
}

struct Ticking(Wanted);

impl Drop for Ticking {
    fn drop(&mut self) {
        UNDER_WAY[self.0.slot].fetch_sub(1, Ordering::SeqCst);
    }
}

impl Events for Ticking {
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool> {
        async move {
            monoio::time::sleep(Duration::from_millis(self.0.gap_ms)).await;
            out.extend_from_slice(format!("data: {}\n\n", self.0.count).as_bytes());
            self.0.count -= 1;
            self.0.count > 0
        }
        .boxed_local()
    }
}

struct Ticks;

impl Operation for Ticks {
    const NAME: &'static str = "ticks";
    const SUMMARY: &'static str = "Tick.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/ticks")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = &[];
    type Input = Wanted;
    type Output = Follow;

    async fn call(_: &Shard, call: Call<Wanted>) -> Result<Follow, Error> {
        match call.last_event_id {
            Some(_) => Ok(Follow(None)),
            None => {
                UNDER_WAY[call.input.slot].fetch_add(1, Ordering::SeqCst);
                Ok(Follow(Some(Box::new(Ticking(call.input)))))
            }
        }
    }
}

fn servers() -> [Server; 2] {
    [Driver::Uring, Driver::Legacy].map(|driver| {
        let deadlines = Deadlines { heartbeat: Duration::from_millis(60), ..Deadlines::default() };
        Server::with(driver, Settings { deadlines, ..Settings::default() }, EVENTS)
    })
}

fn whole(server: &Server, request: &str) -> (String, String) {
    let mut client = server.client();
    client.send(request);
    let mut text = String::new();
    client.stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn events_are_chunks_and_the_connection_ends_with_them() {
    for server in servers() {
        let (head, body) = whole(&server, &get("/ticks?slot=0&count=3"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for field in [
            "content-type: text/event-stream",
            "transfer-encoding: chunked",
            "cache-control: no-store",
            "connection: close",
        ] {
            assert!(head.lines().any(|line| line == field), "{field}: {head}");
        }
        assert!(!head.contains("content-length"), "{head}");
        assert_eq!(body, "9\r\ndata: 3\n\n\r\n9\r\ndata: 2\n\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n");
        let (head, body) = whole(&server, "GET /ticks?slot=0&count=2 HTTP/1.0\r\n\r\n");
        assert!(!head.contains("transfer-encoding") && head.contains("connection: close"), "{head}");
        assert_eq!(body, "data: 2\n\ndata: 1\n\n");
    }
}

#[test]
fn a_silent_stream_shows_that_it_lives() {
    for server in servers() {
        let (_, body) = whole(&server, &get("/ticks?slot=1&count=1&gap_ms=400"));
        assert!(body.starts_with("3\r\n:\n\n\r\n3\r\n:\n\n\r\n"), "{body:?}");
        assert!(body.ends_with("9\r\ndata: 1\n\n\r\n0\r\n\r\n"), "{body:?}");
    }
}

/// Noticed by the socket: there is nothing to write for an hour.
#[test]
fn a_client_that_leaves_ends_its_stream() {
    for (slot, server) in (2..).zip(servers()) {
        let mut client = server.client();
        client.send(get(&format!("/ticks?slot={slot}&count=1&gap_ms=3600000")));
        eventually("the stream begins", || UNDER_WAY[slot].load(Ordering::SeqCst) == 1);
        drop(client);
        eventually("the stream ends", || UNDER_WAY[slot].load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn what_was_read_is_not_begun_again_and_nothing_runs_for_a_head() {
    for server in servers() {
        let (again, _) = server.ask("GET /ticks?slot=4&count=1 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7\r\n\r\n");
        assert_eq!((again.status, again.field("content-length")), (204, None));
        let mut client = server.client();
        client.send("HEAD /ticks?slot=4&count=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.answer_to("HEAD").unwrap();
        assert_eq!((head.status, head.field("allow")), (405, Some("GET, OPTIONS")));
        assert_eq!(UNDER_WAY[4].load(Ordering::SeqCst), 0);
    }
}
