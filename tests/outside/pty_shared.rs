//! Terminals that several people look at: all see the same, who comes late too, and who is slow slows nobody.

use crate::kit::{Message, Server, WebSocket, turn};
use crate::pty::{open, plain_shell};
use serde_json::json;
use std::time::{Duration, Instant};

/// Lines `first` to `last` of `seq`, as a terminal shows them.
fn lines(first: u32, last: u32) -> String {
    (first..=last).map(|line| format!("{line}\r\n")).collect()
}

#[test]
fn all_viewers_see_the_same_and_may_type() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut viewers: Vec<WebSocket> = (0..3).map(|_| WebSocket::connect(&server, &path, &[])).collect();
    for (i, typist) in (0..3).zip([2, 0, 1]) {
        viewers[typist].send(format!("echo word-$(({i} * 7))\r"));
        for viewer in &mut viewers {
            viewer.see(&format!("word-{}\r\n", i * 7));
        }
    }
    assert!(viewers.iter().all(|viewer| viewer.seen == viewers[0].seen));
}

/// Joining is atomic with the replay: no byte twice, none missing, at whatever moment one comes.
#[test]
fn who_joins_in_the_middle_misses_nothing() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut first = WebSocket::connect(&server, &path, &[]);
    first.send(
        "for i in 1 2 3 4 5 6 7 8 9 10; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); sleep 0.05; done; echo e''nd\r",
    );
    let joiners: Vec<WebSocket> = std::thread::scope(|scope| {
        let joining: Vec<_> = (0..8)
            .map(|i| {
                let (server, path) = (&server, &path);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(i * 60));
                    let mut viewer = WebSocket::connect(server, path, &[]);
                    viewer.see("end\r\n");
                    viewer
                })
            })
            .collect();
        joining.into_iter().map(|thread| thread.join().expect("viewer")).collect()
    });
    first.see("end\r\n");
    let whole = lines(1001, 11000) + "end\r\n";
    assert!(first.seen.ends_with(&whole), "{} bytes", first.seen.len());
    for joiner in &joiners {
        // 70 KB are less than what is kept.
        assert!(joiner.seen.ends_with(&whole), "{:?}", &joiner.seen[..joiner.seen.len().min(100)]);
    }
}

#[test]
fn two_hundred_viewers_see_a_line() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut viewers: Vec<WebSocket> = (0..200).map(|_| WebSocket::connect(&server, &path, &[])).collect();
    viewers[199].send("echo to-all-$((6 * 7))\r");
    let began = Instant::now();
    for viewer in &mut viewers {
        viewer.see("to-all-42\r\n");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// T18: 30 MiB past a viewer that does not read. It is sent away, the program and the commands beside it are not held
/// back; who is sent away comes again and finds what is kept.
#[test]
fn a_viewer_that_does_not_read_is_sent_away() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut slow = WebSocket::connect_narrow(&server, &path);
    let mut lively = WebSocket::connect(&server, &path, &[]);
    lively.send("head -c 31457280 /dev/zero | tr '\\0' x; echo; echo end-of-$((5 * 5))\r");
    let (began, mut last) = (Instant::now(), Vec::new());
    while !String::from_utf8_lossy(&last).contains("end-of-25") {
        match lively.next().expect("output") {
            Message::Binary(bytes) => {
                // What is looked for may be cut by a message's end.
                last.drain(..last.len().saturating_sub(100));
                last.extend_from_slice(&bytes[bytes.len().saturating_sub(1000)..]);
            }
            // The fastest viewer sets the pace, and what lies in its buffers makes it the one that does not read, at first.
            Message::Close(1013, _) => lively = WebSocket::connect(&server, &path, &[]),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
    assert_eq!(server.sh(&id, "echo beside"), "beside");
    let (output, _, close) = slow.until_closed();
    assert_eq!(close.0, 1013, "{close:?}");
    assert!(output.len() < 31_457_280, "{}", output.len());
    let again = WebSocket::connect(&server, &path, &[]).see("end-of-25");
    assert!((256 << 10..=2 << 20).contains(&again.len()), "what is kept is bounded: {}", again.len());
}

#[test]
fn one_viewer_gets_every_byte_of_a_large_output() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut viewer = WebSocket::connect(&server, &path, &[]);
    viewer.send("head -c 31457280 /dev/zero | tr '\\0' '\\101'; echo; exit\r");
    let (output, _, close) = viewer.until_closed();
    assert_eq!(output.bytes().filter(|b| *b == b'A').count(), 31_457_280, "not a byte is missing");
    assert_eq!(close.0, 1000);
}
