//! Signals and deadlines: they reach a command with all its descendants, and nobody else.

use crate::client::{command, shell};
use crate::follower::{From, started};
use crate::kit::{Options, Sandbox, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::ExitReason;

/// Four processes that say USR1: itself, a child, one in a session of its own, one that was forked twice.
const FAMILY: &str = "say='trap \"echo $1; exit\" USR1; echo up; while :; do sleep 0.01; done'; \
     sh -c \"$(echo \"$say\" | sed 's/$1/child/')\" & \
     setsid sh -c \"$(echo \"$say\" | sed 's/$1/session/')\" & \
     (setsid sh -c \"$(echo \"$say\" | sed 's/$1/daemon/')\" &) ; \
     trap 'echo self; wait; exit 7' USR1; echo up; while :; do sleep 0.01; done";

async fn signals_reach_all_descendants(mut sandbox: Sandbox) {
    let mut client = sandbox.first_link().await;
    let process = client.launch(&started(shell(FAMILY))).await;
    let stranger = client.launch(&started(command(&["sleep", "1000"]))).await;
    let mut follower = client.follow(process.pid, 0).await.unwrap();
    follower.step_until("up\nup\nup\nup\n").await;
    client.signal(process.pid, 10).await.unwrap();
    while follower.step().await {}
    let text = follower.text();
    for who in ["child", "session", "daemon", "self"] {
        assert_eq!(text.matches(who).count(), 1, "{who} in {text}");
    }
    assert_eq!(follower.exited.unwrap().exit_code, 7);
    assert!(client.get(stranger.pid).await.unwrap().exited.is_none());
    // KILL takes whatever there is.
    let tree =
        "trap '' TERM; setsid sh -c 'setsid sleep 1000 & sleep 1000' & (setsid -f sleep 1000); echo up; sleep 1000";
    let process = client.launch(&started(shell(tree))).await;
    client.follow(process.pid, 0).await.unwrap().step_until("up").await;
    client.signal(process.pid, 9).await.unwrap();
    let exited = client.wait(process.pid).await.unwrap().exited.unwrap();
    assert_eq!((exited.exit_code, exited.signal, exited.reason()), (137, 9, ExitReason::Signaled));
    only(&sandbox, 2).await;
}

/// Waits until so many processes are left: the spawner, and others.
async fn only(sandbox: &Sandbox, count: usize) {
    let start = Instant::now();
    while sandbox.others().len() > count {
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} live on", sandbox.others());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A deadline for those that clean up, for those that don't, and for those that are left behind.
async fn a_deadline_is_term_then_kill(mut sandbox: Sandbox) {
    let mut client = sandbox.first_link().await;
    let at_least = |took: Duration, least: u64| assert!(took >= Duration::from_millis(least), "{took:?}");
    for is_kept in [true, false] {
        let cleans_up = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done";
        let (code, out, took) = end_of(&mut client, cleans_up, is_kept).await;
        assert_eq!((code, out.as_str()), (3, "up\nbye\n"));
        at_least(took, 300);
        let deaf = "trap '' TERM; echo up; sleep 1000; sleep 1000";
        let (code, out, took) = end_of(&mut client, deaf, is_kept).await;
        assert_eq!((code, out.as_str()), (137, "up\n"));
        at_least(took, 1300);
        // Who is gone in time leaves a child that is deaf: it has its grace, and no more.
        let left = "setsid sh -c 'trap \"\" TERM; echo up; exec >/dev/null 2>&1; sleep 1000; sleep 1000' & wait";
        let (code, out, took) = end_of(&mut client, left, is_kept).await;
        assert_eq!((code, out.as_str()), (143, "up\n"));
        // On a host that is not too busy the answer comes first.
        assert!(sandbox.others().len() > 1 || took > Duration::from_millis(1200), "{took:?}");
        only(&sandbox, 1).await;
    }
}

async fn end_of(client: &mut crate::client::Client, script: &str, is_kept: bool) -> (i32, String, Duration) {
    let mut request = shell(script);
    request.timeout_ms = 300;
    let start = Instant::now();
    let (out, exited) = if is_kept {
        let process = client.launch(&started(request)).await;
        let follower = client.follow_to_end(process.pid, 0).await;
        (follower.of(From::Out), follower.exited.unwrap())
    } else {
        let finished = client.run(&request).await;
        (finished.stdout, finished.exited)
    };
    assert_eq!(exited.reason(), ExitReason::TimedOut);
    (exited.exit_code, String::from_utf8(out).unwrap(), start.elapsed())
}

fn without_leaves() -> Options {
    Options { without_leaves: true, ..Options::default() }
}

#[test]
fn signals_reach_all_descendants_by_their_leaf() {
    with(Options::default(), signals_reach_all_descendants);
}

#[test]
fn signals_reach_all_descendants_without_cgroups() {
    with(without_leaves(), signals_reach_all_descendants);
}

#[test]
fn a_deadline_is_term_then_kill_by_their_leaf() {
    with(Options::default(), a_deadline_is_term_then_kill);
}

#[test]
fn a_deadline_is_term_then_kill_without_cgroups() {
    with(without_leaves(), a_deadline_is_term_then_kill);
}

#[test]
fn a_signal_right_after_the_start_spares_the_spawner() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        only(&sandbox, 1).await;
        let spawner = sandbox.others();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for signal in [15, 9] {
                let process = client.launch(&started(command(&["sleep", "1000"]))).await;
                client.signal(process.pid, signal).await.unwrap();
                let exited = client.wait(process.pid).await.unwrap().exited.unwrap();
                assert_eq!((exited.signal, exited.reason()), (signal, ExitReason::Signaled));
            }
        }
        assert_eq!(sandbox.others(), spawner);
    });
}

#[test]
fn real_time_signals_stop_and_continue_pass() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        // Not print: a handler may come while the line before is on its way.
        let script = "import os,signal,time\nsay = lambda text: os.write(1, text.encode())\n\
                      for s in (40, 64): signal.signal(s, lambda n, f: say('got %d\\n' % n))\n\
                      say('up\\n')\nwhile True: time.sleep(0.01)";
        let process = client.launch(&started(command(&["python3", "-c", script]))).await;
        let mut follower = client.follow(process.pid, 0).await.unwrap();
        follower.step_until("up").await;
        client.signal(process.pid, 40).await.unwrap();
        follower.step_until("got 40").await;
        client.signal(process.pid, 19).await.unwrap();
        client.signal(process.pid, 64).await.unwrap();
        client.signal(process.pid, 18).await.unwrap();
        follower.step_until("got 64").await;
        client.signal(process.pid, 9).await.unwrap();
    });
}

#[test]
fn only_commands_of_callers_that_live_can_be_reached() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "for f in /proc/[0-9]*; do [ \"$(cat $f/comm)\" = spawner ] && echo ${f#/proc/}; done; sleep 1000 & echo $!";
        let finished = client.shell(script).await;
        let mut strangers: Vec<u32> = finished.text().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(strangers.len(), 2);
        let ended = client.launch(&started(command(&["true"]))).await;
        client.wait(ended.pid).await.unwrap();
        strangers.extend([0, 1, finished.pid, ended.pid, u32::MAX, i32::MAX as u32, i32::MIN as u32, 4_194_305]);
        let alive = client.launch(&started(command(&["sleep", "1000"]))).await;
        let others = sandbox.others();
        for pid in strangers {
            for signal in [9, 15, 1, 64] {
                assert_eq!(client.signal(pid, signal).await.err(), Some(5), "pid {pid}");
            }
            if pid != ended.pid {
                assert_eq!(client.get(pid).await.err(), Some(5));
                assert_eq!(client.wait(pid).await.err(), Some(5));
                assert_eq!(client.follow(pid, 0).await.err(), Some(5));
                assert_eq!(client.input(pid, b"x", true).await.err(), Some(5));
            }
        }
        for signal in [0, 65, u32::MAX, 1 << 31] {
            assert_eq!(client.signal(alive.pid, signal).await.err(), Some(3));
        }
        assert_eq!(sandbox.others(), others);
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
    });
}
