//! Five hundred MCP sessions at once, each running commands: no error, and nothing is left of them.

use crate::kit::{Mcp, Server, turn};
use serde_json::json;
use std::sync::Barrier;

const SESSIONS: usize = 500;
const SANDBOXES: usize = 4;
const CALLS: usize = 3;

#[test]
fn five_hundred_sessions_call_at_once() {
    let _turn = turn::heavy();
    let server = Server::start();
    let ids: Vec<String> = (0..SANDBOXES).map(|_| server.create(json!({}))).collect();
    let all_there = Barrier::new(SESSIONS);
    std::thread::scope(|scope| {
        for at in 0..SESSIONS {
            let (server, ids, all_there) = (&server, &ids, &all_there);
            let work = move || {
                let mut session = Mcp::begin(server, "executor");
                all_there.wait();
                for call in 0..CALLS {
                    let word = format!("{at}-{call}");
                    let id = &ids[at % SANDBOXES];
                    let result =
                        session.call("process_run", json!({"sandbox_id": id, "command": "echo", "args": [word]}));
                    assert_eq!(result["structuredContent"]["stdout"], format!("{word}\n"), "{result}");
                }
                assert_eq!(session.end().status, 204);
            };
            std::thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, work).expect("a thread");
        }
    });
    for id in &ids {
        assert_eq!(server.sh(id, "ps -e 2>/dev/null | grep -c [e]cho || true"), "0");
    }
}
