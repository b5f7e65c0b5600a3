//! Who looks at one terminal sees the same, whenever they come and however slow they are.

use crate::kit::{Options, with};
use crate::viewer::Viewer;
use std::time::{Duration, Instant};
use workspace_proto::agent::{Exited, pty_event::Event};

/// Bytes of output as they are written.
const PLAIN: &str = "stty raw -echo; ";

/// Looks to the end; the status where that is no `exited`.
async fn finish(mut viewer: Viewer) -> (Vec<u8>, Result<Exited, u16>) {
    loop {
        match viewer.event().await {
            Ok(Some(Event::Output(bytes))) => viewer.seen.extend_from_slice(&bytes),
            Ok(Some(Event::Exited(exited))) => return (viewer.seen, Ok(exited)),
            Ok(other) => panic!("{other:?}"),
            Err(code) => return (viewer.seen, Err(code)),
        }
    }
}

/// `text` is whole lines of ascending numbers; returns the first and the last.
fn numbers(text: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(text).unwrap();
    let mut all = text.lines().map(|line| line.parse::<u64>().unwrap());
    let first = all.next().unwrap();
    let last = all.fold(first, |before, number| {
        assert_eq!(number, before + 1);
        number
    });
    (first, last)
}

#[test]
fn two_viewers_see_the_same() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut first = client.watch(&format!("{PLAIN} echo ready; read line; seq 100000; exit 3")).await;
        first.until("ready\n").await;
        let second = client.attach(first.pty.id).await.unwrap();
        first.keys("\n");
        let all = finish_all(vec![first, second]).await;
        let [first, second] = all.try_into().unwrap();
        assert_eq!(first.0, second.0);
        assert_eq!(numbers(&first.0[6..]), (1, 100_000));
        assert_eq!((first.1.unwrap().exit_code, second.1.unwrap().exit_code), (3, 3));
    });
}

/// Numbers from 1000000 on, seen from anywhere on to the end; the last one.
fn numbers_to_the_end(seen: &[u8]) -> u64 {
    let first = seen.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let end = seen.iter().rposition(|byte| *byte == b'\n').unwrap();
    numbers(&seen[first..=end]).1
}

#[test]
fn who_joins_while_output_flows_misses_nothing_and_sees_nothing_twice() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let steps = "for i in $(seq 1000 1399); do seq ${i}000 ${i}999; sleep 0.002; done";
        let mut first = client.watch(&format!("{PLAIN} echo ready; read line; {steps}")).await;
        first.until("ready\n").await;
        first.seen.clear();
        first.keys("\n");
        let id = first.pty.id;
        let mut viewers = vec![tokio::spawn(finish(first))];
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            viewers.push(tokio::spawn(finish(client.attach(id).await.unwrap())));
        }
        let all = viewers.remove(0).await.unwrap();
        assert_eq!(all.1.unwrap().exit_code, 0);
        assert_eq!(numbers(&all.0), (1_000_000, 1_399_999));
        for viewer in viewers {
            let (seen, exited) = viewer.await.unwrap();
            assert_eq!(exited.unwrap().exit_code, 0);
            // What was kept began with it.
            assert!(all.0.ends_with(seen.strip_prefix(b"ready\n").unwrap_or(&seen)));
        }
    });
}

#[test]
fn who_joins_a_flood_misses_nothing_up_to_where_it_is_too_slow() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let first = client.watch(&format!("{PLAIN} echo ready; exec seq 1000000 2999999")).await;
        let id = first.pty.id;
        let mut viewers = vec![tokio::spawn(finish(first))];
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            if let Ok(viewer) = client.attach(id).await {
                viewers.push(tokio::spawn(finish(viewer)));
            }
        }
        let mut whole = 0;
        for viewer in viewers {
            let (seen, exited) = viewer.await.unwrap();
            let last = numbers_to_the_end(&seen);
            match exited {
                Ok(_) => assert_eq!(last, 2_999_999),
                Err(code) => assert_eq!(code, 11),
            }
            whole += usize::from(exited.is_ok());
        }
        assert!(whole > 0);
    });
}

#[test]
fn what_was_printed_before_is_kept_for_who_comes_later() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let pty = client
            .open(crate::client::shell(&format!("{PLAIN} seq 1000000 1999999; echo over; read line")))
            .await
            .unwrap();
        let start = Instant::now();
        // Nobody looks: the program goes on.
        let mut viewer = loop {
            let mut viewer = client.attach(pty.id).await.unwrap();
            let Ok(Some(Event::Output(_))) = viewer.event().await else { continue };
            break viewer;
        };
        viewer.until("over\n").await;
        viewer.reset();
        let mut viewer = client.attach(pty.id).await.unwrap();
        viewer.until("over\n").await;
        assert!(viewer.seen.len() >= 256 << 10, "{} kept", viewer.seen.len());
        let lines = viewer.seen.strip_suffix(b"over\n").unwrap();
        let first = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(numbers(&lines[first..]).1, 1_999_999);
        assert!(start.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_hundred_megabytes_come_whole() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        const BIG: usize = 100 << 20;
        let script = format!("{PLAIN} echo ready; read line; yes 0123456789abcde | head -c {BIG}");
        let mut viewer = client.watch(&script).await;
        viewer.until("ready\n").await;
        viewer.seen.clear();
        viewer.keys("\n");
        let start = Instant::now();
        let (seen, exited) = finish(viewer).await;
        println!("100 MiB in {:?}", start.elapsed());
        assert_eq!((seen.len(), exited.unwrap().exit_code), (BIG, 0));
        assert!(seen.chunks(16).all(|line| line == b"0123456789abcde\n"));
    });
}

#[test]
fn a_viewer_that_stops_is_left_behind_and_harms_nobody() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        const BIG: usize = 32 << 20;
        let script = format!("{PLAIN} echo ready; read line; yes 0123456789abcde | head -c {BIG}");
        let mut fast = client.watch(&script).await;
        fast.until("ready\n").await;
        let mut slow = client.attach(fast.pty.id).await.unwrap();
        slow.until("ready\n").await;
        fast.keys("\n");
        let (seen, exited) = finish(fast).await;
        assert_eq!((seen.len(), exited.unwrap().exit_code), (6 + BIG, 0));
        let (seen, exited) = finish(slow).await;
        assert_eq!(exited.unwrap_err(), 11);
        assert!(seen.len() < 4 << 20);
    });
}

#[test]
fn a_lone_viewer_that_stops_stops_the_program() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let steps = "for i in 1 2 3 4 5 6 7 8; do head -c 1048576 /dev/zero; echo > /tmp/$$.$i; done";
        let mut viewer = client.watch(&format!("{PLAIN} echo ready; read line; {steps}")).await;
        viewer.until("ready\n").await;
        viewer.keys("\n");
        let written = format!("/tmp/{}", viewer.pty.pid);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let count = client.shell(&format!("ls {written}.* | wc -l; rm -f {written}.*")).await.text();
        assert!(count.trim().parse::<u32>().unwrap() < 5, "{count} MiB were written");
        let (seen, exited) = finish(viewer).await;
        assert_eq!(seen.iter().filter(|byte| **byte == 0).count(), 8 << 20);
        assert_eq!(exited.unwrap().exit_code, 0);
        client.shell(&format!("rm -f {written}.*")).await;
    });
}

#[test]
fn two_hundred_viewers_see_the_same() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut first = client.watch(&format!("{PLAIN} echo ready; read line; seq 20000")).await;
        first.until("ready\n").await;
        let mut viewers = vec![first];
        while viewers.len() < 256 {
            let id = viewers[0].pty.id;
            viewers.push(client.attach(id).await.unwrap());
        }
        assert_eq!(client.attach(viewers[0].pty.id).await.err(), Some(8));
        while viewers.len() > 200 {
            viewers.pop().unwrap().reset();
        }
        viewers[100].keys("\n");
        let all = finish_all(viewers).await;
        assert!(all.iter().all(|(seen, exited)| *seen == all[0].0 && exited.is_ok()));
        assert_eq!(numbers(&all[0].0[6..]), (1, 20_000));
    });
}

async fn finish_all(viewers: Vec<Viewer>) -> Vec<(Vec<u8>, Result<Exited, u16>)> {
    let tasks: Vec<_> = viewers.into_iter().map(|viewer| tokio::spawn(finish(viewer))).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

#[test]
fn input_that_nobody_reads_waits_and_hinders_nobody() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let go = sandbox.directory.join("go");
        let wait = format!("while [ ! -e {} ]; do sleep 0.02; echo tick; done", go.display());
        let mut viewer = client.watch(&format!("{PLAIN} echo ready; {wait}; head -c 2000000 | md5sum")).await;
        viewer.until("ready\n").await;
        let mut typed = String::new();
        let mut others = Vec::new();
        for i in 0..40 {
            let line = format!("{i:050000}");
            typed += &line;
            viewer.keys(&line);
        }
        // A hundred more who type at a stuck program: their windows must not use up the link's.
        for _ in 0..100 {
            let mut other = client.attach(viewer.pty.id).await.unwrap();
            for _ in 0..4 {
                other.keys(&"x".repeat(60_000));
            }
            others.push(other);
        }
        assert_eq!(viewer.window(1).await, 0, "all of it was taken in");
        viewer.until("tick\n").await;
        let run = client.shell("cat; echo alive").await;
        assert_eq!(run.text(), "alive\n");
        let mut request = crate::client::shell("wc -c");
        request.stdin = vec![b'x'; 1 << 20].into();
        assert_eq!(client.run(&request).await.text(), "1048576\n");
        for other in others {
            other.reset();
        }
        // They have gone before the program reads.
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
        std::fs::write(go, "").unwrap();
        let mut sum = std::process::Command::new("md5sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut sum.stdin.take().unwrap(), typed.as_bytes()).unwrap();
        let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
        viewer.until(&sum).await;
        viewer.exited().await;
    });
}

#[test]
fn who_ends_its_half_leaves_once_its_keys_are_taken() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut first = client.terminal().await;
        let mut second = client.attach(first.pty.id).await.unwrap();
        second.keys("echo last words\r");
        second.leave();
        while let Some(event) = second.event().await.unwrap() {
            assert!(matches!(event, Event::Output(_)));
        }
        first.until("\r\nlast words\r\n").await;
        assert_eq!(client.ptys().await.len(), 1);
    });
}

#[test]
fn nobody_answers_what_a_program_asks_of_its_terminal() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let asks = r"\033[c\033[>c\033[6n\033[5n\033P$qm\033\\\033]52;c;?\007\033[21t\033]10;?\007\005";
        let script = format!("stty raw -echo min 0 time 5; printf '{asks}'; dd bs=100 count=1 2>&1 | wc -c");
        let mut viewer = client.watch(&format!("read line; {script}; dd bs=1 count=1 2>/dev/null | wc -c")).await;
        let mut other = client.attach(viewer.pty.id).await.unwrap();
        viewer.keys("\r");
        viewer.exited().await;
        other.exited().await;
        assert!(viewer.text().ends_with("\n0\n"), "{:?}", viewer.text());
        assert!(viewer.text().contains("\x1b[c\x1b[>c\x1b[6n") && viewer.seen == other.seen);
    });
}
