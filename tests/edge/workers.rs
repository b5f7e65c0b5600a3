//! Workers that lie: whatever a process inside says in the place of the one that works on files there, its caller gets an error
//! with a code or a cut, in time, and nobody else anything.

use crate::agent::{Answers, Requests, machine};
use crate::kit::{Driver, Server, get, post};
use bytes::Bytes;
use std::io::Read;
use std::time::{Duration, Instant};
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::*;
use workspace_server::http::Settings;
use workspace_server::operations::OPERATIONS;

const FILE: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
/// The agent's patience is a second here.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What one says to each request, in order; behind it, silence.
struct Script {
    name: &'static str,
    route: &'static str,
    says: fn() -> Vec<Vec<Reply>>,
    /// The answer's status and code; 0: it begins well and is cut.
    answer: (u16, u64),
}

const FORGED: (u16, u64) = (500, 4003);
const CUT: (u16, u64) = (200, 0);

const fn script(name: &'static str, route: &'static str, answer: (u16, u64), says: fn() -> Vec<Vec<Reply>>) -> Script {
    Script { name, route, says, answer }
}

fn node(mode: u32, size: u64) -> Reply {
    Reply::Node(FileNode { mode, size, inode: 7, ..FileNode::default() })
}

fn entries(names: &[&'static str]) -> Reply {
    let node = FileNode { mode: FILE, ..FileNode::default() };
    let entry = |name: &&'static str| FileEntry { name: Bytes::from_static(name.as_bytes()), node: Some(node.clone()) };
    Reply::Entries(FileEntries { entries: names.iter().map(entry).collect(), more: false })
}

fn data(bytes: usize) -> Reply {
    Reply::Data(vec![b'x'; bytes].into())
}

fn part(path: &'static str, mode: u32, size: u64) -> Reply {
    let target = if mode == LINK { Bytes::from_static(b"/etc") } else { Bytes::new() };
    Reply::Part(FilePart { path: path.into(), mode, size, target, ..FilePart::default() })
}

fn found(path: &'static str, line: u64, text: &str) -> Reply {
    Reply::Matches(FileMatches { matches: vec![FileMatch { path: path.into(), line, text: text.into() }] })
}

fn done() -> Reply {
    Reply::Done(FileDone {})
}

fn working(times: usize) -> Vec<Reply> {
    vec![Reply::Working(FileWorking {}); times]
}

static SCRIPTS: &[Script] = &[
    // The control: an honest one is believed.
    script("honest", "files/info", (200, 0), || vec![vec![node(FILE, 5)]]),
    script("honest-list", "files/list", (200, 0), || vec![vec![entries(&["a", "b"])]]),
    script("honest-read", "files", (200, 0), || vec![vec![node(FILE, 5)], vec![data(5), done()]]),
    script("honest-search", "files/search", (200, 0), || {
        vec![vec![found("a", 1, "x"), Reply::Searched(FileSearched { files: 1, truncated: false })]]
    }),
    script("silent", "files/info", (504, 5002), Vec::new),
    script("no-kind", "files/info", FORGED, || vec![vec![node(0o030_000, 0)]]),
    script("no-mode", "files/info", FORGED, || vec![vec![node(u32::MAX, 0)]]),
    script("target-of-a-file", "files/info", FORGED, || {
        vec![vec![Reply::Node(FileNode { mode: FILE, target: "a".into(), ..FileNode::default() })]]
    }),
    script("target-with-a-nul", "files/info", FORGED, || {
        vec![vec![Reply::Node(FileNode { mode: LINK, target: "a\0b".into(), ..FileNode::default() })]]
    }),
    script("another-answer", "files/info", FORGED, || vec![vec![done()]]),
    script("bytes-for-a-node", "files/info", FORGED, || vec![vec![data(10)]]),
    script("working", "files/info", FORGED, || vec![working(100_000)]),
    script("errno", "files/info", (400, 3004), || {
        vec![vec![Reply::Failed(FileFailed { errno: u32::MAX, destination: true, part: u64::MAX })]]
    }),
    script("large-message", "files/info", FORGED, || vec![vec![data(5 << 20)]]),
    script("order", "files/list", FORGED, || vec![vec![entries(&["b", "a"])]]),
    script("twice", "files/list", FORGED, || vec![vec![entries(&["a", "a"])]]),
    script("up", "files/list", FORGED, || vec![vec![entries(&[".."])]]),
    script("slash", "files/list", FORGED, || vec![vec![entries(&["a/b"])]]),
    script("empty-name", "files/list", FORGED, || vec![vec![entries(&[""])]]),
    script("many", "files/list?limit=1&path=", FORGED, || vec![vec![entries(&["a", "b", "c", "d", "e"])]]),
    script("of-nothing", "files/list", FORGED, || {
        vec![vec![Reply::Entries(FileEntries {
            entries: vec![FileEntry { name: "a".into(), node: None }],
            more: false,
        })]]
    }),
    script("more-bytes", "files", FORGED, || vec![vec![node(FILE, 5)], vec![data(64 << 10), data(64 << 10), done()]]),
    script("no-bytes", "files", FORGED, || vec![vec![node(FILE, 5)], vec![data(0), done()]]),
    script("large-piece", "files", FORGED, || vec![vec![node(FILE, 5)], vec![data((64 << 10) + 1), done()]]),
    script("endless-file", "files", (400, 1002), || vec![vec![node(FILE, u64::MAX)]]),
    script("stopped", "files", (504, 5002), || vec![vec![node(FILE, 5)], vec![data(2)]]),
    script("few-matches", "files/search?limit=1&path=", FORGED, || vec![vec![found("a", 1, "x"), found("b", 1, "x")]]),
    script("long-text", "files/search", FORGED, || vec![vec![found("a", 1, &"x".repeat(1001))]]),
    script("nul-path", "files/search", FORGED, || vec![vec![found("a\0", 1, "x")]]),
    script("text-of-a-file", "files/search", FORGED, || vec![vec![found("a", 0, "x")]]),
    script("searching", "files/search", FORGED, || vec![working(100_000)]),
    script("searched-a-node", "files/search", FORGED, || vec![vec![node(FILE, 1)]]),
    script("large-match", "files/search", FORGED, || {
        vec![(0..5000).map(|_| found("a", 1, &"é".repeat(1000))).collect()]
    }),
    script("refused-archive", "files/archive", (400, 3005), || {
        vec![vec![Reply::Failed(FileFailed { errno: 20, destination: false, part: 0 })]]
    }),
    script("absolute-part", "files/archive", CUT, || vec![vec![part("/etc/passwd", FILE, 0), done()]]),
    script("absolute-name", "files/archive", CUT, || vec![vec![part("/evil", FILE, 0), done()]]),
    script("part-above", "files/archive", CUT, || vec![vec![part("../evil", FILE, 0), done()]]),
    script("part-through-a-link", "files/archive", CUT, || {
        vec![vec![part("l", LINK, 0), part("l/evil", FILE, 0), done()]]
    }),
    script("part-over-a-link", "files/archive", CUT, || {
        vec![vec![part("l", LINK, 0), part("l", DIRECTORY, 0), part("l/evil", FILE, 0), done()]]
    }),
    script("part-without-its-end", "files/archive", CUT, || vec![vec![part("f", FILE, 10), data(5), done()]]),
    script("part-beyond-its-end", "files/archive", CUT, || vec![vec![part("f", FILE, 5), data(10), done()]]),
    script("part-of-a-device", "files/archive", CUT, || vec![vec![part("d", 0o020_644, 0), done()]]),
];

/// Plays the worker whose script the first path names.
pub(crate) async fn play(mut requests: Requests, mut answers: Answers) -> Option<()> {
    let mut says = None;
    loop {
        let asked = requests.next::<FileRequest>().await?.request?;
        let path = match &asked {
            Request::Look(look) | Request::Open(look) | Request::Pack(look) => look.path.clone(),
            Request::Entries(window) => window.path.clone(),
            Request::Search(search) => search.path.clone(),
            _ => Bytes::new(),
        };
        let says = says.get_or_insert_with(|| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let script = SCRIPTS.iter().find(|script| script.name.as_bytes() == name).expect("a script");
            (script.says)().into_iter()
        });
        let Some(replies) = says.next() else {
            // Not for ever without a clock: what nobody can wake is dropped.
            monoio::time::sleep(Duration::from_secs(3600)).await;
            return None;
        };
        for reply in replies {
            answers.say(&FileReply { reply: Some(reply) }).await?;
        }
    }
}

#[test]
fn a_worker_that_lies_harms_its_caller_alone_and_in_time() {
    let server = Server::on(machine, Driver::Uring, Settings::default(), OPERATIONS);
    let create = || server.ask(post("/api/v1/sandboxes", "{}")).0.json()["id"].as_str().unwrap().to_owned();
    let (id, other) = (create(), create());
    for script in SCRIPTS {
        let begun = Instant::now();
        let query = if script.route.contains('?') { "" } else { "?path=" };
        let path = format!("/api/v1/sandboxes/{id}/{}{query}/tmp/{}", script.route, script.name);
        if script.answer == CUT && script.route == "files/archive" {
            let mut client = server.client();
            client.send(get(&path));
            let mut all = Vec::new();
            client.stream.read_to_end(&mut all).unwrap();
            let text = String::from_utf8_lossy(&all);
            // Cut before its head was sent, or behind it.
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 200 "), "{}: {text}", script.name);
            assert!(!text.contains("evil") && !text.contains("passwd"), "{}", script.name);
            assert!(!text.ends_with("0\r\n\r\n"), "{}: cut, never ended well", script.name);
        } else {
            let answer = server.ask(get(&path)).0;
            assert_eq!(
                (answer.status, answer.code()),
                script.answer,
                "{}: {} {}",
                script.name,
                answer.head,
                String::from_utf8_lossy(&answer.body)
            );
        }
        assert!(begun.elapsed() < ANSWER_MAX, "{}: {:?}", script.name, begun.elapsed());
        let neighbours = server.ask(get(&format!("/api/v1/sandboxes/{other}/files/info?path=/tmp/honest"))).0;
        assert_eq!(neighbours.json()["size"], 5, "{}", script.name);
    }
}
