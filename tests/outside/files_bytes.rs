//! Files as bytes: parts, tags and conditions; bodies of any length in constant memory; what is cut leaves nothing.

use crate::files::{Files, escape};
use crate::kit::{Server, needs_root, turn, until};
use serde_json::json;
use std::io::{Read, Write};

const RAW: (&str, &str) = ("Accept", "application/octet-stream");
const MIB: usize = 1 << 20;

#[test]
fn parts_and_tags_are_those_of_the_rfc() {
    let server = Server::start();
    let files = Files::new(&server);
    files.put("f", &[], b"0123456789").expect(200);
    let whole = files.get("f", &[RAW]).expect(200);
    let etag = whole.header("etag").expect("an etag").to_owned();
    assert_eq!(
        (whole.header("accept-ranges"), whole.header("content-type")),
        (Some("bytes"), Some("application/octet-stream"))
    );
    assert!(whole.header("last-modified").is_some_and(|date| date.ends_with("GMT")));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert!(whole.header("content-disposition").is_some_and(|v| v.starts_with("attachment;")));
    assert!(whole.header("content-security-policy").is_some_and(|v| v.contains("sandbox")));
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=0-1,2-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=5-99999999999999999999999", 206, "56789", Some("bytes 5-9/10")),
        ("bytes=x", 200, "0123456789", None),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let part = files.get("f", &[("Range", range)]).expect(status);
        assert_eq!((part.text().as_str(), part.header("content-range")), (body, content_range), "{range}");
    }
    let many = format!("bytes={}", "0-0,".repeat(5000));
    for range in ["bytes=10-", "bytes=-0", "bytes=0-0,9-9", many.as_str()] {
        let refused = files.get("f", &[("Range", range)]);
        refused.expect_error(416, 1001);
        assert_eq!(refused.header("content-range"), Some("bytes */10"));
    }
    assert_eq!(files.get("f", &[("Range", "bytes=0-0"), ("If-Range", &etag)]).expect(206).text(), "0");
    assert_eq!(files.get("f", &[("Range", "bytes=0-0"), ("If-Range", "\"other\"")]).expect(200).body.len(), 10);
    let known = files.get("f", &[RAW, ("If-None-Match", &etag)]).expect(304);
    assert_eq!((known.header("etag"), known.body.len()), (Some(etag.as_str()), 0));
    files.get("f", &[RAW, ("If-None-Match", &format!("W/{etag}"))]).expect(304);
    files.get("f", &[RAW, ("If-Match", "\"other\"")]).expect_error(412, 3009);
    let route = files.route("/files?path=f");
    let head = server.request("HEAD", &route, &[RAW], b"").expect(200);
    assert_eq!((head.header("content-length"), head.header("etag")), (Some("10"), Some(etag.as_str())));
    assert_eq!(
        server.request("HEAD", &route, &[("Range", "bytes=1-2")], b"").expect(206).header("content-length"),
        Some("2")
    );
    files.put("empty", &[], b"").expect(200);
    assert_eq!(files.get("empty", &[RAW]).expect(200).body, b"");
    files.get("empty", &[("Range", "bytes=0-")]).expect_error(416, 1001);
    assert_eq!(files.get("empty", &[]).expect(200).json()["content"], "");
}

#[test]
fn dates_are_looked_at_where_tags_are_not() {
    let server = Server::start();
    let files = Files::new(&server);
    for path in ["/workspace/f", "/tmp/f"] {
        files.put(path, &[], b"0123456789").expect(200);
        files.sh(&format!("touch -d '2020-02-29 12:00:00.7 UTC' {path}"));
        let whole = files.get(path, &[RAW]).expect(200);
        let (date, tag) = ("Sat, 29 Feb 2020 12:00:00 GMT", whole.header("etag").expect("an etag").to_owned());
        assert_eq!(whole.header("last-modified"), Some(date));
        let (before, after) = ("Sat, 29 Feb 2020 11:59:59 GMT", "Saturday, 29-Feb-20 12:00:01 GMT");
        let (since, until, none, this) = ("If-Modified-Since", "If-Unmodified-Since", "If-None-Match", "If-Match");
        for (fields, status) in [
            (&[(since, date)][..], 304),
            (&[(since, after)], 304),
            (&[(since, before)], 200),
            (&[(since, "Sat Feb 29 12:00:00 2020")], 304),
            // What is no date is not there.
            (&[(since, "yesterday")], 200),
            (&[(until, "yesterday")], 200),
            (&[(until, date)], 200),
            (&[(until, before)], 412),
            // Tags come first.
            (&[(none, "\"other\""), (since, date)], 200),
            (&[(none, tag.as_str()), (since, before)], 304),
            (&[(this, tag.as_str()), (until, before)], 200),
            (&[(this, "\"other\""), (until, date)], 412),
            // What must hold comes before what need not be sent.
            (&[(until, before), (since, date)], 412),
            (&[(since, date), ("Range", "bytes=0-1")], 304),
            (&[(since, before), ("Range", "bytes=0-1")], 206),
        ] {
            for method in ["GET", "HEAD"] {
                let all: Vec<_> = fields.iter().copied().chain([RAW]).collect();
                let route = files.route(&format!("/files?path={path}"));
                let answer = server.request(method, &route, &all, b"");
                assert_eq!(answer.status, status, "{method} {path} {fields:?}: {}", answer.text());
                match status {
                    412 if method == "GET" => drop(answer.expect_error(412, 3009)),
                    304 => {
                        let told = (answer.header("last-modified"), answer.header("etag"), answer.body.len());
                        assert_eq!(told, (Some(date), Some(tag.as_str()), 0), "{fields:?}");
                    }
                    _ => {}
                }
            }
        }
        // A change: only what must hold is asked.
        files.put(path, &[(until, before)], b"x").expect_error(412, 3009);
        files.put("/tmp/none", &[(until, date)], b"x").expect_error(412, 3009);
        files.put(path, &[(since, date), (until, date)], b"x").expect(200);
        files.put(path, &[(until, date)], b"y").expect_error(412, 3009);
        assert_eq!(files.get(path, &[RAW]).expect(200).text(), "x");
    }
}

#[test]
fn content_and_names_run_in_no_browser() {
    let server = Server::start();
    let files = Files::new(&server);
    let name = "a\r\nSet-Cookie: x;\"é\u{202e}.html";
    files.put(name, &[], b"<script>alert(1)</script>").expect(200);
    assert_eq!(files.sh("ls -A | wc -l"), "2", "a newline is a part of the name");
    let got = files.get(name, &[RAW]).expect(200);
    assert!(got.header("set-cookie").is_none());
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    let expected = "attachment; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x%3B%22%C3%A9%E2%80%AE.html";
    assert_eq!(got.header("content-disposition"), Some(expected));
    assert_eq!(got.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    let json = files.get(name, &[]).expect(200);
    assert_eq!(
        (json.header("content-type"), json.header("x-content-type-options")),
        (Some("application/json"), Some("nosniff"))
    );
}

#[test]
fn conditions_keep_two_writers_apart() {
    let _turn = turn::heavy();
    let server = Server::start();
    let files = Files::new(&server);
    files.put("f", &[("If-Match", "*")], b"x").expect_error(412, 3009);
    files.put("f", &[("If-None-Match", "*")], b"0").expect(200);
    files.put("f", &[("If-None-Match", "*")], b"x").expect_error(412, 3009);
    let tag = files.put("f", &[], b"1").expect(200).json()["etag"].as_str().expect("etag").to_owned();
    files.put("f", &[("If-Match", &format!("\"{tag}\""))], b"2").expect(200);
    files.put("f", &[("If-Match", &format!("\"{tag}\""))], b"3").expect_error(412, 3009);
    files.sh("printf 4 >f");
    let seen = files.get("f", &[RAW]).header("etag").expect("etag").to_owned();
    files.sh("printf 5 >f");
    files.put("f", &[("If-Match", &seen)], b"6").expect_error(412, 3009);
    assert_eq!(files.sh("cat f"), "5");
    // Each of 4 writers adds one 25 times: none is lost.
    files.put("count", &[], b"0").expect(200);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 25 {
                    let now = files.get("count", &[RAW]).expect(200);
                    let next = now.text().parse::<u32>().expect("a number") + 1;
                    let tag = now.header("etag").expect("etag").to_owned();
                    let put = files.put("count", &[("If-Match", &tag)], next.to_string().as_bytes());
                    match put.status {
                        200 => done += 1,
                        _ => drop(put.expect_error(412, 3009)),
                    }
                }
            });
        }
    });
    assert_eq!(files.sh("cat count"), "100");
    // Of 8 that would make a file one does.
    let made: usize = std::thread::scope(|scope| {
        let one = || files.put("first", &[("If-None-Match", "*")], b"x").status == 200;
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| usize::from(thread.join().expect("a writer"))).sum()
    });
    assert_eq!(made, 1);
}

#[test]
fn large_bodies_take_no_memory() {
    let _turn = turn::heavy();
    let server = Server::start();
    let files = Files::new(&server);
    let size = 300 * MIB;
    let block: Vec<u8> = (0..MIB).map(|i| (i * 7 + i / 251) as u8).collect();
    let resident = || server.server_process().map_or(0, |p| p.status("VmHWM").unwrap_or(0));
    files.put("warm", &[], &block).expect(200);
    let before = resident();
    let mut client = server.client();
    let head = |framing: &str| {
        format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n",
            files.route("/files?path=big"),
            server.address()
        )
    };
    client.send(head(&format!("Content-Length: {size}")).as_bytes()).expect("send");
    for _ in 0..size / MIB {
        client.send(&block).expect("send");
    }
    let put = client.response("PUT").expect("an answer").expect(200).json();
    assert_eq!(put["size"], size);
    client.send(head("Transfer-Encoding: chunked").replace("path=big", "path=chunked").as_bytes()).expect("send");
    for piece in block.repeat(20).chunks(100_003) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes()).expect("send");
        client.send(piece).expect("send");
        client.send(b"\r\n").expect("send");
    }
    client.send(b"0\r\n\r\n").expect("send");
    assert_eq!(client.response("PUT").expect("an answer").expect(200).json()["size"], 20 * MIB);
    let sums = files.sh("for i in $(seq 300); do cat warm; done | md5sum; md5sum <big; for i in $(seq 20); do cat warm; done | md5sum; md5sum <chunked");
    let sums: Vec<&str> = sums.lines().collect();
    assert!(sums[0] == sums[1] && sums[2] == sums[3], "{sums:?}");
    let mut stream = server.raw();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/octet-stream\r\nConnection: close\r\n\r\n",
        files.route("/files?path=big"),
        server.address()
    );
    stream.write_all(request.as_bytes()).expect("send");
    let (mut total, mut piece) = (0, vec![0; MIB]);
    loop {
        match stream.read(&mut piece).expect("read") {
            0 => break,
            n => total += n,
        }
    }
    assert!(total > size && total < size + 1024, "{total}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024, "300 MiB up and down took {grown} KiB more");
}

#[test]
fn a_body_is_asked_for_only_where_it_is_wanted() {
    let server = Server::start();
    let files = Files::new(&server);
    let ask = |path: &str, more: &str| {
        let mut client = server.client();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n{more}\r\n",
            files.route(&format!("/files?path={}", escape(path))),
            server.address()
        );
        client.send(head.as_bytes()).expect("send");
        let answer = client.any_response("PUT").expect("an answer");
        (client, answer)
    };
    let (mut client, answer) = ask("f", "");
    assert_eq!(answer.status, 100);
    client.send(&[b'x'; 200_000]).expect("send");
    client.response("PUT").expect("an answer").expect(200);
    // The connection is in step.
    client.request("GET", "/api/v1/health", &[], b"").expect("an answer").expect(200);
    ask("/workspace", "").1.expect_error(400, 3004);
    ask("f/x", "").1.expect_error(400, 3005);
    let (mut client, refused) = ask("f", "If-None-Match: *\r\n");
    refused.expect_error(412, 3009);
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn what_is_cut_in_the_middle_leaves_nothing() {
    let server = Server::start();
    let files = Files::new(&server);
    files.put("f", &[], b"old").expect(200);
    files.put("/tmp/f", &[], b"old").expect(200);
    let head = |path: &str, framing: &str| {
        let (route, kind) = match path.strip_prefix("tar:") {
            Some(path) => (format!("/files/archive?path={path}"), "application/x-tar"),
            None => (format!("/files?path={path}"), "application/octet-stream"),
        };
        format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n",
            files.route(&route),
            server.address()
        )
    };
    for (path, framing, body) in [
        ("f", "Content-Length: 10000000", &[b'x'; 3_000_000][..]),
        ("new/dir/f", "Content-Length: 10000000", &[b'x'; 3_000_000][..]),
        ("f", "Transfer-Encoding: chunked", b"5\r\nhello\r\n5\r\nhel"),
        ("f", "Transfer-Encoding: chunked", b"5\r\nhello\r\nnonsense\r\n"),
        ("/tmp/f", "Content-Length: 10000000", &[b'x'; 3_000_000][..]),
        ("/tmp/new/dir/f", "Content-Length: 10000000", &[b'x'; 3_000_000][..]),
        ("/tmp/f", "Transfer-Encoding: chunked", b"5\r\nhello\r\n5\r\nhel"),
        // An archive that would be whole with what came.
        ("tar:new/tree", "Content-Length: 10000000", &[0; 3_000_000][..]),
        ("tar:/tmp/new/tree", "Content-Length: 10000000", &[0; 3_000_000][..]),
        ("tar:/tmp", "Transfer-Encoding: chunked", b"200\r\nhello"),
    ] {
        let mut stream = server.raw();
        stream.write_all(head(path, framing).as_bytes()).expect("send");
        stream.write_all(body).expect("send");
        stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    until("nothing unfinished is left", 10, || scratch(&server, &files.id) == 0);
    assert_eq!(files.sh("cat f; ls -A"), "oldf");
    until("nothing is left elsewhere", 10, || files.sh("cat /tmp/f; ls -A /tmp") == "oldf");
}

/// How many unfinished things a sandbox has on the host.
fn scratch(server: &Server, id: &str) -> usize {
    let path = server.data_dir().join("sandboxes").join(id).join("scratch");
    std::fs::read_dir(path).map_or(0, |entries| entries.count())
}

#[test]
fn a_killed_server_leaves_the_old_file_whole() {
    let mut server = Server::start();
    let id = {
        let files = Files::new(&server);
        files.put("f", &[], b"old").expect(200);
        let mut stream = server.raw();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: 100000000\r\n\r\n",
            files.route("/files?path=f"),
            server.address()
        );
        stream.write_all(head.as_bytes()).expect("send");
        stream.write_all(&[b'x'; 4 * MIB]).expect("send");
        until("it is being written", 10, || scratch(&server, &files.id) == 1);
        files.id
    };
    server.kill9_server();
    until("the unit comes back", 30, || server.server_process().is_some());
    server.wait_ready();
    assert_eq!(server.sh(&id, "cat f; ls -A"), "oldf");
    assert_eq!(scratch(&server, &id), 0, "what was unfinished is removed at the start");
}

#[test]
fn a_full_disk_is_507_with_the_old_content() {
    if needs_root() {
        return;
    }
    let server = Server::builder().disk_bytes(24 << 20).start();
    let files = Files::new(&server);
    files.put("f", &[], b"old").expect(200);
    // What failed had been answered before its pages were given back, so that what fits failed as well, now and then; more
    // often where others want the processors.
    let busy = "for i in 1 2 3 4 5 6; do (while :; do :; done) & done; wait";
    let others = server.launch(&files.id, json!({"command": "sh", "args": ["-c", busy]}));
    for _ in 0..20 {
        files.put("f", &[], &vec![b'x'; 40 * MIB]).expect_error(507, 3008);
        files.put("g", &[], &vec![b'x'; 2 * MIB]).expect(200);
    }
    assert_eq!(server.kill(&files.id, others, json!("SIGKILL")).status, 200);
    assert_eq!(files.sh("cat f"), "old");
    files.post("copy", json!({"source": "g", "destination": "h"})).expect(200);
    assert_eq!(files.sh("stat -c %s h"), (2 * MIB).to_string());
    // An archive that does not fit leaves what was there too, in the trees and elsewhere.
    let mut head = vec![0; 512];
    head[..1].copy_from_slice(b"f");
    head[124..135].copy_from_slice(format!("{:011o}", 40 * MIB).as_bytes());
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let archive = [head, vec![b'x'; 40 * MIB]].concat();
    files.put("/tmp/f", &[], b"old").expect(200);
    for place in [".", "/tmp"] {
        let route = files.route(&format!("/files/archive?path={place}"));
        server.request("PUT", &route, &[("Content-Type", "application/x-tar")], &archive).expect_error(507, 3008);
        assert_eq!(scratch(&server, &files.id), 0);
    }
    assert_eq!(files.sh("cat f /tmp/f; ls -A . /tmp | tr '\\n' ' '"), "oldold.: f g h  /tmp: f ");
}

#[test]
fn the_sandboxs_own_limit_holds_for_http_too() {
    let server = Server::start();
    let id = server.create(json!({"resources": {"disk_bytes": 8 << 20}}));
    let files = Files { server: &server, id };
    files.put("f", &[], &vec![b'x'; 5 * MIB]).expect(200);
    files.put("g", &[], &vec![b'x'; 5 * MIB]).expect_error(507, 3008);
    files.post("copy", json!({"source": "f", "destination": "g"})).expect_error(507, 3008);
    let mut client = server.client();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        files.route("/files?path=g"),
        server.address()
    );
    client.send(head.as_bytes()).expect("send");
    for _ in 0..80 {
        let _ = client.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)).as_bytes());
    }
    let _ = client.send(b"0\r\n\r\n");
    client.response("PUT").expect("an answer").expect_error(507, 3008);
    assert_eq!(files.sh("ls -A"), "f");
    files.remove("f", false).expect(200);
    files.put("g", &[], &vec![b'x'; 5 * MIB]).expect(200);
}
