//! Readers: at every cursor, at their own speed, told what they have missed.

use crate::client::{command, shell};
use crate::follower::{From, started};
use crate::kit::{Options, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::StartRequest;

#[test]
fn output_goes_on_at_every_cursor_without_gap_or_repeat() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script =
            "for i in 1 2 3 4; do echo out$i; sleep 0.01; echo err$i >&2; sleep 0.01; done; head -c 9000 /dev/zero";
        let process = client.launch(&started(shell(script))).await;
        let whole = client.follow_to_end(process.pid, 0).await;
        let bytes = whole.bytes();
        assert_eq!((bytes.len(), whole.dropped), (9040, 0));
        assert_eq!(&whole.text()[..20], "out1\nout2\nout3\nout4\n");
        assert_eq!(whole.errors(), "err1\nerr2\nerr3\nerr4\n");
        assert_eq!(bytes[5], (From::Err, b'e'));
        for cursor in (0..100).chain((100..9040).step_by(977)).chain([9039, 9040]) {
            let follower = client.follow_to_end(process.pid, cursor).await;
            assert_eq!(follower.bytes(), bytes[cursor as usize..], "from {cursor}");
            assert_eq!((follower.dropped, follower.exited), (0, whole.exited));
        }
        for cursor in [9041, u64::MAX / 2, u64::MAX] {
            assert_eq!(client.follow(process.pid, cursor).await.err(), Some(11));
        }
    });
}

#[test]
fn a_follower_gets_what_comes_while_it_comes() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let request = StartRequest { keep_stdin: true, ..started(shell("while read line; do echo got $line; done")) };
        let process = client.launch(&request).await;
        let mut follower = client.follow(process.pid, 0).await.unwrap();
        for i in 0..20 {
            client.input(process.pid, format!("{i}\n").as_bytes(), false).await.unwrap();
            let start = Instant::now();
            follower.step_until(&format!("got {i}\n")).await;
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
        client.input(process.pid, b"", true).await.unwrap();
        while follower.step().await {}
        assert_eq!(follower.exited.unwrap().exit_code, 0);
    });
}

/// Which of two readers is the fastest may change: what one misses, the other was sent.
#[test]
fn the_fastest_reader_misses_nothing_and_a_slow_one_is_told_what() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let request = StartRequest { ring_bytes_max: 256 << 10, ..started(shell("seq 1000000 2999999")) };
        let printed: Vec<u8> = (1_000_000..3_000_000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        let total = printed.len() as u64;
        let process = client.launch(&request).await;
        let mut slow = client.follow(process.pid, 0).await.unwrap();
        let mut fast = client.follow(process.pid, 0).await.unwrap();
        while fast.step().await {}
        // What lay in its window comes first, then what it has missed is told, then what the ring still keeps.
        while slow.step().await {}
        for follower in [&slow, &fast] {
            assert_eq!(follower.cursor, total);
            assert_eq!(follower.of(From::Out).len() as u64 + follower.dropped, total);
            for (at, _, bytes) in &follower.seen {
                assert!(printed[*at as usize..][..bytes.len()] == bytes[..], "at {at}");
            }
        }
        assert!(slow.dropped > total / 2 && fast.dropped < total / 8, "{} and {}", slow.dropped, fast.dropped);
        let overlaps = |a: &(u64, u64), b: &(u64, u64)| a.0 < b.1 && b.0 < a.1;
        assert!(!fast.gaps.iter().any(|gap| slow.gaps.iter().any(|other| overlaps(gap, other))), "missed by both");
        // The ring has what it was given, and two pipes' rest at most.
        let kept = client.get(process.pid).await.unwrap();
        assert!((256 << 10..=384 << 10).contains(&(kept.cursor - kept.kept_from)));
    });
}

#[test]
fn a_reader_that_stops_holds_its_command_and_nothing_else() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let process = client.launch(&started(command(&["yes"]))).await;
        let mut stopped = client.follow(process.pid, 0).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let cursor = client.get(process.pid).await.unwrap().cursor;
        // Its window, what h2 holds, and the ring.
        assert!(cursor <= 3 << 20, "{cursor}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(client.get(process.pid).await.unwrap().cursor, cursor);
        assert_eq!(client.shell("yes | head -c 8000000 | wc -c").await.text(), "8000000\n");
        let other = client.launch(&started(shell("yes | head -c 8000000"))).await;
        assert_eq!(client.follow_to_end(other.pid, 0).await.cursor, 8_000_000);
        stopped.step_to(cursor + (4 << 20)).await;
        assert_eq!(stopped.dropped, 0);
        // A second one that is faster takes it on.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let kept_from = client.get(process.pid).await.unwrap().kept_from;
        let mut second = client.follow(process.pid, kept_from).await.unwrap();
        second.step_to(kept_from + (16 << 20)).await;
        assert_eq!(second.dropped, 0);
        second.cancel();
        stopped.cancel();
        client.signal(process.pid, 9).await.unwrap();
        assert_eq!(client.wait(process.pid).await.unwrap().exited.unwrap().signal, 9);
    });
}

#[test]
fn both_streams_come_whole_through_a_small_ring() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "(yes | head -c 3000000) & (yes n | head -c 3000000 >&2); wait";
        let process = client.launch(&StartRequest { ring_bytes_max: 1, ..started(shell(script)) }).await;
        let follower = client.follow_to_end(process.pid, 0).await;
        assert_eq!(
            (follower.of(From::Out).len(), follower.of(From::Err).len(), follower.dropped),
            (3_000_000, 3_000_000, 0)
        );
        assert!(follower.of(From::Err).chunks(2).all(|line| line == b"n\n"));
    });
}
