//! Large uploads at a client's own pace: little by little, with a rest in the middle, many at once, and with the next request
//! right behind. What waits for many bytes at once must not wait for bytes that never come.

use crate::files::Files;
use crate::kit::Server;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Far less than what a client has for the next part of a body.
const SOON: Duration = Duration::from_secs(20);

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 4099) as u8).collect()
}

fn head(files: &Files<'_>, path: &str, length: usize) -> String {
    format!(
        "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n",
        files.route(&format!("/files?path={path}")),
        files.server.address()
    )
}

#[test]
fn a_body_that_trickles_is_taken_as_it_comes() {
    let server = Server::start();
    let files = Files::new(&server);
    let body = bytes(3 * MIB + 5);
    for (path, piece, rest) in [("little", 40_000, 2), ("packets", 1448, 0), ("rests", 2 * MIB, 700)] {
        let begun = Instant::now();
        let mut client = server.client();
        client.send(head(&files, path, body.len()).as_bytes()).expect("send");
        for piece in body.chunks(piece) {
            client.send(piece).expect("send");
            std::thread::sleep(Duration::from_millis(rest));
        }
        assert_eq!(client.response("PUT").expect("an answer").expect(200).json()["size"], body.len(), "{path}");
        assert!(begun.elapsed() < SOON, "{path}: {:?}", begun.elapsed());
        let got = files.get(path, &[("Accept", "application/octet-stream")]).expect(200).body;
        assert!(got == body, "{path}: other bytes came");
    }
}

#[test]
fn what_follows_a_large_body_is_the_next_request() {
    let server = Server::start();
    let files = Files::new(&server);
    let (first, second) = (bytes(2 * MIB + 1), bytes(MIB));
    let mut stream = server.raw();
    let get = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        files.route("/files/info?path=b"),
        server.address()
    );
    let all = [
        head(&files, "a", first.len()).as_bytes(),
        &first,
        head(&files, "b", second.len()).as_bytes(),
        &second,
        get.as_bytes(),
    ]
    .concat();
    stream.write_all(&all).expect("send");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("read");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    for (path, body) in [("a", first), ("b", second)] {
        let got = files.get(path, &[("Accept", "application/octet-stream")]).expect(200).body;
        assert!(got == body, "{path}: other bytes came");
    }
}

/// More than may have pipes: the rest goes by memory.
#[test]
fn a_crowd_of_uploads_is_taken_whole() {
    let server = Server::start();
    let files = Files::new(&server);
    let body = bytes(2 * MIB);
    std::thread::scope(|scope| {
        let open: Vec<_> = (0..40)
            .map(|number| {
                let mut client = server.client();
                client.send(head(&files, &format!("f{number}"), body.len()).as_bytes()).expect("send");
                client.send(&body[..MIB]).expect("send");
                client
            })
            .collect();
        for mut client in open {
            let body = &body;
            scope.spawn(move || {
                client.send(&body[MIB..]).expect("send");
                client.response("PUT").expect("an answer").expect(200);
            });
        }
    });
    let sum = files.sh("md5sum f* | cut -d ' ' -f 1 | sort | uniq -c | wc -l; ls | wc -l; stat -c %s f7");
    assert_eq!(sum, format!("1\n40\n{}", body.len()));
}
