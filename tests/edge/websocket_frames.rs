//! Attack T15: frames that no client should send, and frames that only look wrong.

use crate::kit::{Client, Driver};
use crate::websocket::{MASK, closed, connected, frame, heard, start};
use std::io::Write;
use std::time::{Duration, Instant};
use workspace_server::http::Deadlines;

/// A header that declares `length` bytes in 64 bits.
fn declares(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], &length.to_be_bytes()[..], &MASK].concat()
}

#[test]
fn each_breach_ends_with_its_code() {
    let server = start(Driver::Uring, Deadlines::default());
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    for (what, bytes, code) in [
        ("an unmasked text", unmasked(0x81, b"hi"), 1002),
        ("an unmasked close", unmasked(0x88, b""), 1002),
        ("RSV1, as compression would set it", frame(0xc1, b"hi"), 1002),
        ("RSV2", frame(0xa1, b"hi"), 1002),
        ("RSV3 on a ping", frame(0x99, b""), 1002),
        ("opcode 3", frame(0x83, b""), 1002),
        ("opcode 7", frame(0x87, b""), 1002),
        ("opcode 11", frame(0x8b, b""), 1002),
        ("opcode 15", frame(0x8f, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a close of 126 bytes", frame(0x88, &[3; 126]), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a fragmented close", frame(0x08, b""), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a text inside a text", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("a length of 2^63", declares(0x82, 1 << 63), 1002),
        ("a length of 2^64 - 1", declares(0x82, u64::MAX), 1002),
        ("a length of 2^62", declares(0x82, 1 << 62), 1009),
        ("a declared GiB", declares(0x82, 1 << 30), 1009),
        ("one byte too much", declares(0x82, (16 << 20) + 1), 1009),
        ("text that is not UTF-8", frame(0x81, b"a\xc0\xaf"), 1007),
        ("a surrogate as text", frame(0x81, b"\xed\xa0\x80"), 1007),
        ("text cut inside a character", frame(0x81, b"\xe2\x82"), 1007),
        ("a fragment that is not UTF-8", frame(0x01, b"\xff"), 1007),
        ("a close of one byte", frame(0x88, b"\x03"), 1002),
        ("a close of 999", frame(0x88, b"\x03\xe7"), 1002),
        ("a close of 1005", frame(0x88, b"\x03\xed"), 1002),
        ("a close of 65535", frame(0x88, b"\xff\xff"), 1002),
        ("a close whose reason is not UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
    ] {
        let mut whole = connected(&server, "/echo?slot=8");
        whole.send(&bytes);
        assert_eq!(closed(&mut whole).0, code, "{what}");
        let mut slowly = connected(&server, "/echo?slot=8");
        for byte in &bytes {
            slowly.send([*byte]);
        }
        assert_eq!(closed(&mut slowly).0, code, "{what}, a byte at a time");
    }
}

/// Judged when the bytes that decide it are here: nothing else need ever come.
#[test]
fn a_breach_is_told_before_its_payload() {
    let server = start(Driver::Uring, Deadlines::default());
    for bytes in [vec![0xc1], vec![0x83], vec![0x81, 0x05], vec![0x09], declares(0x82, 1 << 30)[..10].to_vec()] {
        let mut client = connected(&server, "/echo?slot=8");
        client.send(&bytes);
        assert!([1002, 1009].contains(&closed(&mut client).0), "{bytes:?}");
    }
    let mut client = connected(&server, "/echo?slot=8");
    let text = frame(0x81, &[b"\xf4\x90".to_vec(), vec![b'a'; 50_000]].concat());
    client.send(&text[..8 + 2]);
    assert_eq!(closed(&mut client).0, 1007, "wrong text is not waited for");
}

#[test]
fn frames_that_only_look_wrong() {
    let server = start(Driver::Uring, Deadlines::default());
    let mut client = connected(&server, "/echo?slot=9");
    let bytes = [
        declares(0x81, 2),
        vec![b'o' ^ MASK[0], b'k' ^ MASK[1]],
        frame(0x81, b""),
        frame(0x02, b""),
        frame(0x89, &[7; 125]),
        frame(0x00, b"a\xff"),
        frame(0x8a, b"nobody asked"),
        frame(0x80, b""),
        frame(0x01, b"\xf0\x9f"),
        frame(0x00, b"\x98"),
        frame(0x80, b"\x80!"),
    ]
    .concat();
    let expected = [
        (0x81, b"ok".to_vec()),
        (0x81, vec![]),
        (0x8a, vec![7; 125]),
        (0x82, b"a\xff".to_vec()),
        (0x81, "😀!".as_bytes().to_vec()),
    ];
    // Everything in one piece, then a byte at a time. A pong may overtake a message that is not said yet.
    let hear = |client: &mut Client| {
        let mut said: Vec<_> = expected.iter().map(|_| heard(client).unwrap()).collect();
        said.sort_by_key(|(first, _)| *first == 0x8a);
        said
    };
    let mut sorted = expected.to_vec();
    sorted.sort_by_key(|(first, _)| *first == 0x8a);
    client.send(&bytes);
    assert_eq!(hear(&mut client), sorted);
    for byte in &bytes {
        client.send([*byte]);
    }
    assert_eq!(hear(&mut client), sorted);
}

/// Sizes around the lengths' encodings, and around what is copied, flushed and held.
#[test]
fn messages_of_all_sizes_come_back() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = start(driver, Deadlines::default());
        let mut client = connected(&server, "/echo?slot=9");
        for bytes in [0, 1, 125, 126, 127, 4095, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1] {
            let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 % 251) as u8).collect();
            client.send(frame(0x82, &payload));
            assert_eq!(heard(&mut client), Some((0x82, payload)), "{bytes}");
        }
    }
}

#[test]
fn what_is_declared_takes_no_memory() {
    let server = start(Driver::Uring, Deadlines::default());
    let before = rss_mib();
    let mut clients: Vec<Client> = (0..200).map(|_| connected(&server, "/echo?slot=10")).collect();
    for client in &mut clients {
        client.send(declares(0x82, 16 << 20));
        client.send(b"x");
        client.send(b"y");
    }
    let mut another = connected(&server, "/echo?slot=10");
    another.send(frame(0x81, b"served"));
    assert_eq!(heard(&mut another), Some((0x81, b"served".to_vec())));
    let grown = rss_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB for 3.2 GiB that nobody sent");
}

#[test]
fn many_empty_fragments_are_one_empty_message() {
    let server = start(Driver::Uring, Deadlines::default());
    let mut client = connected(&server, "/echo?slot=11");
    client.send(frame(0x02, b""));
    let many = frame(0x00, b"").repeat(10_000);
    for _ in 0..30 {
        client.send(&many);
    }
    client.send(frame(0x80, b"end"));
    assert_eq!(heard(&mut client), Some((0x82, b"end".to_vec())));
}

#[test]
fn pings_without_reading_fill_nothing_and_end() {
    let deadlines = Deadlines { write: Duration::from_millis(300), ..Deadlines::default() };
    let server = start(Driver::Uring, deadlines);
    let mut client = connected(&server, "/echo?slot=12");
    let before = rss_mib();
    let pings = frame(0x89, &[0; 125]).repeat(500);
    client.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let (began, mut sent) = (Instant::now(), 0);
    // It is read from until its answers find no room; after the write deadline it is dropped.
    let dropped = loop {
        match client.stream.write(&pings) {
            Ok(bytes) => sent += bytes,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break true,
        }
        if began.elapsed() > Duration::from_secs(10) {
            break false;
        }
    };
    assert!(dropped, "{sent} bytes of pings were taken and nothing happened");
    assert!(rss_mib().saturating_sub(before) < 100, "{sent}");
}

fn rss_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}
