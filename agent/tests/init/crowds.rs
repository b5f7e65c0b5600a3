//! Many commands and many readers at once, and what is left of them: nothing.

use crate::client::{Client, command, shell};
use crate::follower::started;
use crate::kit::{Options, Sandbox, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::StartRequest;

const CROWD: usize = 1000;

fn open_files(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", sandbox.agent_pid())).unwrap().count()
}

fn resident_kib(sandbox: &Sandbox) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.agent_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn forget_all(client: &mut Client, sandbox: &Sandbox, files: usize) {
    let start = Instant::now();
    // Idle leaves are kept for the next commands, one descriptor each.
    while open_files(sandbox) > files + 16 || client.list().await.alive > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} files", open_files(sandbox));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_thousand_commands_with_a_follower_each() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        let files = open_files(&sandbox);
        let start = Instant::now();
        let mut followers = Vec::new();
        let request = StartRequest { keep_stdin: true, ..started(command(&["cat"])) };
        for i in 0..CROWD {
            let process = client.launch(&request).await;
            followers.push(client.follow(process.pid, 0).await.unwrap());
            client.input(process.pid, format!("{i}\n").as_bytes(), false).await.unwrap();
        }
        println!("{CROWD} started and followed in {:?}, {} KiB", start.elapsed(), resident_kib(&sandbox));
        assert_eq!((client.list().await.alive, client.list().await.processes.len()), (CROWD as u64, CROWD));
        for (i, follower) in followers.iter_mut().enumerate() {
            follower.step_until("\n").await;
            assert_eq!(follower.text(), format!("{i}\n"));
        }
        let start = Instant::now();
        for follower in &mut followers {
            client.input(follower.process.pid, b"end", true).await.unwrap();
        }
        for (i, mut follower) in followers.into_iter().enumerate() {
            while follower.step().await {}
            assert_eq!((follower.text(), follower.exited.unwrap().exit_code), (format!("{i}\nend"), 0));
        }
        println!("ended in {:?}, {} KiB", start.elapsed(), resident_kib(&sandbox));
        forget_all(&mut client, &sandbox, files).await;
        assert!(sandbox.others().len() <= 1);
    });
}

#[test]
fn run_and_start_share_their_number() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut pids = Vec::new();
        for _ in 0..1014 {
            pids.push(client.launch(&started(command(&["sleep", "1000"]))).await.pid);
        }
        let mut running = Vec::new();
        for _ in 0..10 {
            running.push(client.start(&command(&["sleep", "1000"])).await.unwrap());
        }
        let one_more = started(command(&["true"]));
        let refused =
            client.call::<_, workspace_proto::agent::Process>(workspace_proto::method::START, &one_more).await;
        assert_eq!(refused.err(), Some(8));
        assert_eq!(client.start(&command(&["true"])).await.err(), Some(8));
        assert_eq!(client.list().await.alive, 1024);
        client.signal(pids[7], 9).await.unwrap();
        client.wait(pids[7]).await.unwrap();
        assert!(client.launch(&one_more).await.pid > 1);
    });
}

#[test]
fn a_thousand_followers_of_one_command() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let request = StartRequest { keep_stdin: true, ..started(shell("while read line; do echo $line; done")) };
        let process = client.launch(&request).await;
        let mut followers = Vec::new();
        for _ in 0..CROWD {
            followers.push(client.follow(process.pid, 0).await.unwrap());
        }
        let start = Instant::now();
        for line in ["one\n", "two\n", "three\n"] {
            client.input(process.pid, line.as_bytes(), false).await.unwrap();
            for follower in &mut followers {
                follower.step_until(line).await;
            }
        }
        println!("three lines to {CROWD} followers in {:?}", start.elapsed());
        for follower in followers.drain(..CROWD / 2) {
            follower.cancel();
        }
        client.input(process.pid, b"", true).await.unwrap();
        for mut follower in followers {
            while follower.step().await {}
            assert_eq!((follower.text().as_str(), follower.dropped), ("one\ntwo\nthree\n", 0));
        }
    });
}

#[test]
fn full_rings_together_stay_bounded_and_are_given_back() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        let before = resident_kib(&sandbox);
        let big = StartRequest { ring_bytes_max: 16 << 20, ..started(shell("head -c 16000000 /dev/zero")) };
        let mut followers = Vec::new();
        for _ in 0..8 {
            let process = client.launch(&big).await;
            followers.push(client.follow_to_end(process.pid, 0).await);
        }
        assert!(followers.iter().all(|follower| follower.cursor == 16_000_000));
        let kept = client.list().await.processes.iter().map(|p| p.cursor - p.kept_from).sum::<u64>();
        assert!(((60 << 20)..=(66 << 20)).contains(&kept), "{kept}");
        assert!(resident_kib(&sandbox) < 96 << 10, "{} KiB", resident_kib(&sandbox));
        // What comes later pushes them out.
        for _ in 0..256 {
            let process = client.launch(&started(command(&["true"]))).await;
            client.wait(process.pid).await.unwrap();
        }
        assert_eq!(client.list().await.processes.iter().map(|p| p.cursor).sum::<u64>(), 0);
        let after = resident_kib(&sandbox);
        println!("{before} KiB, with full rings {} MiB kept, then {after} KiB", kept >> 20);
        assert!(after < before + (4 << 10), "{before} KiB before, {after} KiB after");
    });
}

#[test]
fn a_flood_that_nobody_reads_does_not_starve_others() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut floods = Vec::new();
        for _ in 0..8 {
            let process = client.launch(&started(command(&["yes"]))).await;
            let follower = client.follow(process.pid, 0).await.unwrap();
            floods.push(process.pid);
            follower.cancel();
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(13) {
            let one = Instant::now();
            assert_eq!(client.shell("echo alive").await.text(), "alive\n");
            assert!(one.elapsed() < Duration::from_secs(3), "{:?}", one.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(resident_kib(&sandbox) < 40 << 10, "{} KiB", resident_kib(&sandbox));
        for pid in floods {
            let process = client.get(pid).await.unwrap();
            assert!(process.kept_from > 0, "it runs free");
            client.signal(pid, 9).await.unwrap();
            client.wait(pid).await.unwrap();
        }
    });
}
