//! Who waits for whom: a command for a reader that may come back, the agent for a command that prints byte by byte.

use crate::client::{command, shell};
use crate::follower::{From, started};
use crate::kit::{Options, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::StartRequest;

const RING: u64 = 64 << 10;

/// 1,000,000 bytes, each line its number.
fn numbers() -> StartRequest {
    StartRequest { ring_bytes_max: RING, ..started(shell("seq 1000000 1124999")) }
}

fn is_numbers(bytes: &[u8], from: usize) -> bool {
    bytes.chunks(8).zip(1_000_000 + from..).all(|(line, i)| line == format!("{i}\n").as_bytes())
}

#[test]
fn a_full_ring_holds_for_ten_seconds_then_runs_free() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let start = Instant::now();
        let process = client.launch(&numbers()).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let held = client.get(process.pid).await.unwrap();
        assert_eq!((held.cursor, held.kept_from, held.ended_us), (RING, 0, 0));
        let ended = client.wait(process.pid).await.unwrap();
        assert!((Duration::from_secs(10)..Duration::from_secs(30)).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!((ended.cursor, ended.exited.unwrap().exit_code), (1_000_000, 0));
        let follower = client.follow_to_end(process.pid, 0).await;
        assert_eq!(follower.dropped, ended.kept_from);
        let skip = (8 - follower.dropped % 8) as usize % 8;
        let from = (follower.dropped as usize + skip) / 8;
        assert!(is_numbers(&follower.of(From::Out)[skip..], from));
    });
}

#[test]
fn who_comes_within_the_hold_misses_nothing() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let process = client.launch(&numbers()).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let follower = client.follow_to_end(process.pid, 0).await;
        assert_eq!((follower.dropped, follower.cursor), (0, 1_000_000));
        assert!(is_numbers(&follower.of(From::Out), 0));
    });
}

/// What is on its way to a reader when its link is cut (here up to 1 MiB of window) is found again in the ring.
#[test]
fn links_that_are_cut_again_and_again_lose_nothing() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let request = StartRequest { ring_bytes_max: 4 << 20, ..started(shell("seq 1000000 3999999")) };
        let process = client.launch(&request).await;
        let (mut cursor, mut all, mut links) = (0, Vec::new(), 0);
        while cursor < 24_000_000 {
            let mut follower = client.follow(process.pid, cursor).await.unwrap();
            follower.step_to(cursor + 1_500_000).await;
            // Time for what can be sent to be sent, and for the command to print behind it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(follower.dropped, 0, "after {links} links");
            all.extend(follower.of(From::Out));
            cursor = follower.cursor;
            links += 1;
            client = sandbox.connect().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(links >= 10 && all.len() == 24_000_000 && is_numbers(&all, 0), "{links} links");
    });
}

/// How often the agent has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_command_that_prints_byte_by_byte_does_not_wake_the_agent_for_each() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "import os\nfor i in range(200000): os.write(1, b'x')";
        for way in ["run", "nobody", "followed"] {
            let before = sleeps(sandbox.agent_pid());
            let start = Instant::now();
            let python = command(&["python3", "-c", script]);
            let bytes = if way == "run" {
                client.run(&python).await.stdout.len()
            } else {
                let process = client.launch(&started(python)).await;
                if way == "nobody" {
                    client.wait(process.pid).await.unwrap();
                }
                let follower = client.follow_to_end(process.pid, 0).await;
                assert!(follower.seen.len() < 10_000, "{} events", follower.seen.len());
                follower.of(From::Out).len()
            };
            let took = start.elapsed();
            let woken = sleeps(sandbox.agent_pid()) - before;
            println!("{way}: 200,000 bytes in {took:?}, woken {woken} times");
            assert_eq!(bytes, 200_000);
            assert!(woken < 20_000, "woken {woken} times");
        }
    });
}
