//! How commands end: by themselves, by a signal, at their deadline, for memory, because the caller went away.

use crate::client::{command, shell};
use crate::kit::{Options, Sandbox, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::{ExitReason, run_event::Event};

/// A tree that no process group holds: new sessions, double forks.
const TREE: &str = "trap '' TERM; for i in 1 2 3; do setsid sh -c 'setsid sleep 1000 & sleep 1000 & wait' & done; \
                    (sleep 1000 &); setsid -f sleep 1000; echo started; sleep 1000";

/// Waits until only the spawner is left.
async fn only_the_spawner(sandbox: &Sandbox) {
    let start = Instant::now();
    while sandbox.others().len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} live on", sandbox.others());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_deadline_ends_the_whole_tree(mut sandbox: Sandbox) {
    let mut client = sandbox.first_link().await;
    let mut request = shell(TREE);
    request.timeout_ms = 400;
    let start = Instant::now();
    let finished = client.run(&request).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(finished.text(), "started\n");
    let exited = &finished.exited;
    assert_eq!((exited.exit_code, exited.signal, exited.reason()), (137, 9, ExitReason::TimedOut));
    only_the_spawner(&sandbox).await;
}

async fn a_caller_that_goes_ends_the_whole_tree(mut sandbox: Sandbox) {
    let mut client = sandbox.first_link().await;
    let mut running = client.start(&shell(TREE)).await.unwrap();
    loop {
        if let Event::Stdout(bytes) = running.event().await.unwrap() {
            assert_eq!(bytes, "started\n");
            break;
        }
    }
    assert_eq!(client.list().await.processes.len(), 1);
    running.cancel();
    only_the_spawner(&sandbox).await;
    assert_eq!(client.list().await.processes.len(), 0);
}

#[test]
fn a_deadline_ends_the_whole_tree_by_its_leaf() {
    with(Options::default(), a_deadline_ends_the_whole_tree);
}

#[test]
fn a_deadline_ends_the_whole_tree_without_cgroups() {
    with(Options { without_leaves: true, ..Options::default() }, a_deadline_ends_the_whole_tree);
}

#[test]
fn a_caller_that_goes_ends_the_whole_tree_by_its_leaf() {
    with(Options::default(), a_caller_that_goes_ends_the_whole_tree);
}

#[test]
fn a_caller_that_goes_ends_the_whole_tree_without_cgroups() {
    with(Options { without_leaves: true, ..Options::default() }, a_caller_that_goes_ends_the_whole_tree);
}

#[test]
fn a_link_that_ends_ends_its_commands_and_the_next_one_works() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let running = client.start(&shell(TREE)).await.unwrap();
        let mut second = sandbox.connect().await;
        assert_eq!(second.shell("echo again").await.text(), "again\n");
        only_the_spawner(&sandbox).await;
        drop((running, client, second));
        let mut third = sandbox.connect().await;
        assert_eq!(third.shell("echo third").await.text(), "third\n");
    });
}

#[test]
fn a_signal_is_told() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let exited = client.shell("kill -TERM $$; sleep 5").await.exited;
        assert_eq!((exited.exit_code, exited.signal, exited.reason()), (143, 15, ExitReason::Signaled));
        let exited = client.shell("kill -KILL $$; sleep 5").await.exited;
        assert_eq!((exited.exit_code, exited.signal, exited.reason()), (137, 9, ExitReason::Signaled));
    });
}

#[test]
fn the_hog_dies_for_memory_and_that_is_told() {
    with(Options { memory_bytes: Some(48 << 20), ..Options::default() }, async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let exited = client.run(&command(&["python3", "-c", "x = bytearray(200 << 20)"])).await.exited;
        assert_eq!((exited.exit_code, exited.signal, exited.reason()), (137, 9, ExitReason::OomKilled));
        let exited = client.shell("kill -KILL $$; sleep 5").await.exited;
        assert_eq!(exited.reason(), ExitReason::Signaled);
    });
}

#[test]
fn a_daemon_that_keeps_the_pipe_does_not_keep_the_answer() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for script in ["sleep 1000 & echo x", "setsid sleep 1000 & echo x", "setsid -f sleep 1000; echo x"] {
            let start = Instant::now();
            let finished = client.shell(script).await;
            assert!(start.elapsed() < Duration::from_millis(900), "{script}: {:?}", start.elapsed());
            assert_eq!((finished.text().as_str(), finished.exited.exit_code), ("x\n", 0));
        }
        // They live on: their commands have ended by themselves.
        assert_eq!(sandbox.others().len(), 4);
        assert_eq!(client.list().await.processes.len(), 0);
        let flood = client.shell("(while :; do echo y; done) & sleep 0.05; echo x").await;
        assert!(flood.text().contains("x\n"));
    });
}

#[test]
fn a_kill_right_after_the_start_spares_the_spawner() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        only_the_spawner(&sandbox).await;
        let spawner = sandbox.others();
        for _ in 0..30 {
            // On a host that was idle the spawner is still in the command's leaf for some milliseconds.
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.start(&shell("sleep 1000 & sleep 1000")).await.unwrap().cancel();
        }
        only_the_spawner(&sandbox).await;
        assert_eq!(sandbox.others(), spawner);
    });
}

#[test]
fn leaves_are_used_again() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for _ in 0..200 {
            assert_eq!(client.run(&command(&["true"])).await.exited.exit_code, 0);
        }
        assert!(sandbox.leaf_count() < 20, "{} leaves", sandbox.leaf_count());
    });
}
