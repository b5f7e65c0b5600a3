//! Commands that outlive their callers: started, found, waited for, kept for a while.

use crate::client::{command, shell};
use crate::follower::{From, started};
use crate::kit::{Options, with};
use bytes::Bytes;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use workspace_proto::agent::{ExitReason, StartRequest};
use workspace_proto::{ENDED_KEPT_MAX, RING_BYTES_MAX};

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

#[test]
fn a_started_command_is_known_from_its_start_to_its_end() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let before = now_us();
        let request = StartRequest { tag: "web".into(), ..started(shell("echo out; echo err >&2; sleep 0.3; exit 3")) };
        let process = client.launch(&request).await;
        assert_eq!((process.command.as_ref(), process.args[0].as_ref()), (b"sh".as_slice(), b"-c".as_slice()));
        assert_eq!((process.tag.as_str(), process.attached, process.ended_us), ("web", false, 0));
        assert!(process.pid > 1 && (before..=now_us()).contains(&process.started_us) && process.exited.is_none());
        assert_eq!((client.list().await.alive, client.list().await.processes.len()), (1, 1));
        let ended = client.wait(process.pid).await.unwrap();
        let exited = ended.exited.unwrap();
        assert_eq!((exited.exit_code, exited.signal, exited.reason()), (3, 0, ExitReason::Exited));
        assert!((300_000..5_000_000).contains(&exited.duration_us) && !exited.truncated);
        assert!(ended.ended_us >= ended.started_us + 300_000 && ended.ended_us <= now_us());
        assert_eq!((ended.cursor, ended.kept_from, ended.started_us), (8, 0, process.started_us));
        assert_eq!(client.get(process.pid).await.unwrap(), ended);
        assert_eq!(client.wait(process.pid).await.unwrap(), ended);
        let list = client.list().await;
        assert_eq!((list.alive, list.processes.as_slice()), (0, [ended].as_slice()));
        let follower = client.follow_to_end(process.pid, 0).await;
        assert_eq!((follower.text().as_str(), follower.errors().as_str()), ("out\n", "err\n"));
        assert_eq!((follower.dropped, follower.exited), (0, Some(exited)));
    });
}

#[test]
fn what_cannot_run_is_a_process_that_has_exited() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut elsewhere = command(&["true"]);
        elsewhere.cwd = Bytes::from_static(b"/none");
        let cases = [
            (command(&["no-such-command"]), 127, "no-such-command: command not found\n"),
            (command(&["/etc/passwd"]), 126, "/etc/passwd: permission denied\n"),
            (elsewhere, 126, "/none: cannot be the working directory: no such file or directory\n"),
        ];
        for (request, code, text) in cases {
            let process = client.launch(&StartRequest { tag: "x".into(), ..started(request) }).await;
            assert_eq!(
                (process.exited.unwrap().exit_code, process.exited.unwrap().reason()),
                (code, ExitReason::Exited)
            );
            assert!(process.pid > 1 && process.ended_us > 0 && process.tag == "x");
            assert_eq!(client.wait(process.pid).await.unwrap(), process);
            let follower = client.follow_to_end(process.pid, 0).await;
            assert_eq!((follower.errors().as_str(), follower.exited), (text, process.exited));
        }
        assert_eq!(client.list().await.alive, 0);
    });
}

#[test]
fn bad_starts_are_refused_before_anything_runs() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let good = started(command(&["true"]));
        let mut many = command(&["true"]);
        many.args = vec![Bytes::new(); 300_000];
        let mut relative = command(&["true"]);
        relative.cwd = Bytes::from_static(b"tmp");
        let bad = [
            StartRequest { run: None, ..good.clone() },
            StartRequest { tag: "x".repeat(257), ..good.clone() },
            StartRequest { ring_bytes_max: RING_BYTES_MAX + 1, ..good.clone() },
            StartRequest { ring_bytes_max: u64::MAX, ..good.clone() },
            started(many),
            started(relative),
        ];
        for request in bad {
            let refused = client.call::<_, workspace_proto::agent::Process>(workspace_proto::method::START, &request);
            assert_eq!(refused.await.err(), Some(3));
        }
        assert_eq!(client.list().await.processes.len(), 0);
        let largest = StartRequest { ring_bytes_max: RING_BYTES_MAX, tag: "x".repeat(256), ..good };
        assert_eq!(client.launch(&largest).await.tag.len(), 256);
    });
}

#[test]
fn commands_of_run_are_listed_waited_for_and_have_no_ring() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut running = client.start(&shell("echo x; sleep 1000")).await.unwrap();
        running.event().await.unwrap();
        let list = client.list().await;
        let [process] = list.processes.as_slice() else { panic!("{list:?}") };
        assert_eq!((process.attached, process.cursor, list.alive), (true, 0, 1));
        let pid = process.pid;
        assert_eq!(client.follow(pid, 0).await.err(), Some(9));
        assert_eq!(client.input(pid, b"x", false).await.err(), Some(9));
        let mut waiter = client.clone();
        let waiting = tokio::spawn(async move { waiter.wait(pid).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.signal(pid, 15).await.unwrap();
        let exited = waiting.await.unwrap().unwrap().exited.unwrap();
        assert_eq!((exited.exit_code, exited.reason()), (143, ExitReason::Signaled));
        while running.event().await.is_some() {}
        assert_eq!(client.get(pid).await.err(), Some(5));
        // A caller that goes: who waits is told too.
        let mut running = client.start(&shell("sleep 1000")).await.unwrap();
        let Some(workspace_proto::agent::run_event::Event::Started(event)) = running.event().await else { panic!() };
        let mut waiter = client.clone();
        let waiting = tokio::spawn(async move { waiter.wait(event.pid).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        running.cancel();
        let exited = waiting.await.unwrap().unwrap().exited.unwrap();
        assert_eq!((exited.exit_code, exited.reason()), (137, ExitReason::Canceled));
        assert_eq!(client.list().await.alive, 0);
    });
}

#[test]
fn a_new_link_finds_all_as_it_was() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.002; done";
        let process = client.launch(&started(shell(script))).await;
        let mut first = client.follow(process.pid, 0).await.unwrap();
        first.step_to(100).await;
        let mut second = sandbox.connect().await;
        assert_eq!(second.hello.process_count, 1);
        let rest = second.follow_to_end(process.pid, first.cursor).await;
        let whole: String = (0..300).map(|i| format!("line {i}\n")).collect();
        assert_eq!(first.text() + &rest.text(), whole);
        assert_eq!((rest.dropped, rest.exited.unwrap().exit_code), (0, 0));
        let third = sandbox.connect().await.follow_to_end(process.pid, 0).await;
        assert_eq!(third.text(), whole);
    });
}

#[test]
fn ended_commands_are_kept_up_to_their_number() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let alive = client.launch(&started(command(&["sleep", "1000"]))).await;
        let mut pids = Vec::new();
        for i in 0..ENDED_KEPT_MAX + 20 {
            let process = client.launch(&started(shell(&format!("echo {i}")))).await;
            client.wait(process.pid).await.unwrap();
            pids.push(process.pid);
        }
        let list = client.list().await;
        assert_eq!((list.processes.len(), list.alive, list.more), (ENDED_KEPT_MAX + 1, 1, false));
        assert_eq!(client.get(pids[19]).await.err(), Some(5));
        assert_eq!(client.follow(pids[19], 0).await.err(), Some(5));
        assert_eq!(client.follow_to_end(pids[20], 0).await.text(), "20\n");
        assert!(client.get(alive.pid).await.unwrap().exited.is_none());
        assert_eq!(client.hello.process_count, 0);
    });
}

#[test]
fn a_daemon_that_keeps_the_pipe_does_not_hold_the_end() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for script in ["sleep 1000 & echo x", "setsid -f sleep 1000; echo x"] {
            let start = std::time::Instant::now();
            let process = client.launch(&started(shell(script))).await;
            let follower = client.follow_to_end(process.pid, 0).await;
            assert!(start.elapsed() < Duration::from_millis(900), "{script}: {:?}", start.elapsed());
            assert_eq!(follower.of(From::Out), b"x\n");
        }
    });
}
