//! What if a client is cut at any byte: of a request, of a frame? Nothing of it runs, nothing of it stays.

use crate::kit::{Server, WebSocket, encode, until};
use crate::pty::{open, plain_shell};
use serde_json::json;

fn descriptors(server: &Server) -> usize {
    server.server_process().map_or(0, |process| process.descriptors())
}

#[test]
fn a_request_cut_at_every_byte_starts_nothing() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    let before = descriptors(&server);
    let body = json!({"command": "sh", "args": ["-c", "echo ran >> /workspace/ran"]}).to_string();
    for route in ["process/run", "process/run/stream", "process/start"] {
        let path = format!("/api/v1/sandboxes/{id}/{route}");
        let json = [("content-type", "application/json")];
        let whole = encode(&server.address().to_string(), "POST", &path, &json, body.as_bytes());
        assert!(whole.ends_with(body.as_bytes()));
        for cut in 0..whole.len() {
            let mut client = server.client();
            client.send(&whole[..cut]).expect("send");
        }
    }
    assert_eq!(server.sh(&id, "ls /workspace"), "", "a cut request ran");
    until("descriptors come back", 20, || descriptors(&server) <= before + 8);
    let processes = server.get(&format!("/api/v1/sandboxes/{id}/process")).json();
    assert_eq!(processes["processes"], json!([]));
}

#[test]
fn a_frame_cut_at_every_byte_is_not_typed() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut other = WebSocket::connect(&server, &path, &[]);
    let before = descriptors(&server);
    let whole = WebSocket::masked(0x82, b"echo ran >> /workspace/ran\r");
    for cut in 0..whole.len() {
        let mut viewer = WebSocket::connect(&server, &path, &[]);
        viewer.raw(&whole[..cut]);
    }
    until("descriptors come back", 20, || descriptors(&server) <= before + 8);
    other.send("echo well-$((6 * 7))\r");
    other.see("well-42\r\n");
    assert_eq!(server.sh(&id, "ls /workspace"), "", "a cut frame was typed");
    let mut viewer = WebSocket::connect(&server, &path, &[]);
    viewer.raw(&whole);
    until("the whole frame is typed", 20, || server.sh(&id, "cat /workspace/ran 2>/dev/null; true") == "ran");
}
