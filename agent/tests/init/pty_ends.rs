//! How terminals end, and what is left: nothing.

use crate::client::{command, shell};
use crate::kit::{Options, Sandbox, with};
use crate::viewer::bash;
use std::time::{Duration, Instant};
use workspace_proto::agent::ExitReason;

async fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn resident_kib(sandbox: &Sandbox) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.agent_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn exits_and_signals_are_told() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for (script, code, signal, reason) in [
            ("exit 0", 0, 0, ExitReason::Exited),
            ("exit 255", 255, 0, ExitReason::Exited),
            ("kill -TERM $$; sleep 5", 143, 15, ExitReason::Signaled),
            ("kill -KILL $$; sleep 5", 137, 9, ExitReason::Signaled),
        ] {
            let mut viewer = client.watch(&format!("read line; {script}")).await;
            viewer.keys("\r");
            let exited = viewer.exited().await;
            assert_eq!((exited.exit_code, exited.signal, exited.reason()), (code, signal, reason), "{script}");
            assert_eq!(client.attach(viewer.pty.id).await.err(), Some(5));
        }
        assert_eq!(client.ptys().await, []);
    });
}

#[test]
fn all_that_was_printed_before_the_end_comes() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for length in [1, 4095, 4096, 8192, 20_000] {
            let script = format!("stty -opost; read line; head -c {length} /dev/zero | tr '\\0' x");
            let mut viewer = client.watch(&script).await;
            viewer.keys("\r");
            viewer.exited().await;
            assert_eq!(viewer.text().matches('x').count(), length);
        }
    });
}

#[test]
fn keys_that_nobody_will_read_do_not_keep_it_open() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for script in ["exit 3", "sleep 1000 & exit 3"] {
            let mut viewer = client.watch(&format!("stty raw -echo; echo ready; read line; {script}")).await;
            viewer.until("ready").await;
            let mut leaving = client.attach(viewer.pty.id).await.unwrap();
            viewer.keys("\n");
            for typist in [&mut viewer, &mut leaving] {
                typist.keys(&"x".repeat(60_000));
                typist.keys(&"x".repeat(60_000));
            }
            leaving.leave();
            let start = Instant::now();
            assert_eq!(viewer.exited().await.exit_code, 3);
            assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_job_that_keeps_the_terminal_does_not_keep_it_open() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mark = sandbox.directory.join("hung-up");
        std::fs::set_permissions(&sandbox.directory, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let job = format!("while echo x; do sleep 0.05; done; echo > {}; sleep 1000", mark.display());
        let script = format!("read line; trap '' HUP; (trap '' HUP; {job}) & setsid -f sleep 1000 < /dev/null; exit 4");
        let mut viewer = client.watch(&script).await;
        viewer.keys("\r");
        let start = Instant::now();
        assert_eq!(viewer.exited().await.exit_code, 4);
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!((client.ptys().await.len(), client.list().await.alive), (0, 0));
        // The job sees its terminal gone; it and the daemon are leftovers like any command's.
        soon("the job is told", || mark.exists()).await;
        assert!(sandbox.others().len() >= 3, "{:?}", sandbox.others());
    });
}

/// Trees that hold on: new sessions, ignored signals, a flood.
const TREE: &str =
    "trap '' HUP TERM INT; setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 &) ; yes & yes; sleep 1000";

async fn close_ends_the_whole_tree(mut sandbox: Sandbox) {
    let mut client = sandbox.first_link().await;
    client.shell("true").await;
    let fds = sandbox.agent_fds();
    let mut viewer = client.watch(TREE).await;
    viewer.until("y\r\ny\r\n").await;
    let (id, start) = (viewer.pty.id, Instant::now());
    let looking = tokio::spawn(async move { viewer.exited().await });
    client.close(id).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let exited = looking.await.unwrap();
    assert_eq!((exited.exit_code, exited.signal, exited.reason()), (137, 9, ExitReason::Canceled));
    soon("all are gone", || sandbox.others().len() == 1).await;
    soon("all descriptors are back", || sandbox.agent_fds() == fds).await;
    assert_eq!(client.close(id).await, Err(5));
    assert_eq!(client.shell("echo alive").await.text(), "alive\n");
}

#[test]
fn close_during_a_flood_ends_the_whole_tree_by_its_leaf() {
    with(Options::default(), close_ends_the_whole_tree);
}

#[test]
fn close_during_a_flood_ends_the_whole_tree_without_cgroups() {
    with(Options { without_leaves: true, ..Options::default() }, close_ends_the_whole_tree);
}

#[test]
fn close_lets_a_shell_say_good_bye() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.watch("trap 'echo saved; exit 5' HUP; echo ready; while :; do sleep 0.01; done").await;
        viewer.until("ready").await;
        client.close(viewer.pty.id).await.unwrap();
        let exited = viewer.exited().await;
        assert!(viewer.text().contains("saved"), "{}", viewer.text());
        assert_eq!((exited.exit_code, exited.reason()), (5, ExitReason::Canceled));
        // A stopped one hears it as well; and one whose viewer has stopped reading.
        let mut viewer = client.watch("trap 'exit 6' HUP; echo ready; kill -STOP $$; sleep 1000").await;
        viewer.until("ready").await;
        client.close(viewer.pty.id).await.unwrap();
        assert_eq!(viewer.exited().await.exit_code, 6);
        let viewer = client.watch("yes").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.close(viewer.pty.id).await.unwrap();
    });
}

#[test]
fn thirty_two_may_be_open() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        let fds = sandbox.agent_fds();
        let resident = resident_kib(&sandbox);
        let flood = shell("head -c 3000000 /dev/zero; echo over; exec sleep 1000");
        for _ in 0..2 {
            while client.open(flood.clone()).await.is_ok() {}
            let ptys = client.ptys().await;
            assert_eq!(ptys.len(), 32);
            assert!(ptys.is_sorted_by_key(|pty| pty.id));
            assert_eq!(client.list().await.alive, 32);
            assert_eq!(client.list().await.processes, []);
            assert_eq!(client.open(flood.clone()).await, Err(8));
            for pty in &ptys {
                client.attach(pty.id).await.unwrap().until("over").await;
            }
            let (first, next) = (ptys[0].id, ptys[31].id + 1);
            client.close(first).await.unwrap();
            assert_eq!(client.open(flood.clone()).await.unwrap().id, next);
            for pty in client.ptys().await {
                client.close(pty.id).await.unwrap();
            }
        }
        assert_eq!((client.ptys().await.len(), client.list().await.alive), (0, 0));
        soon("all descriptors are back", || sandbox.agent_fds() == fds).await;
        let now = resident_kib(&sandbox);
        assert!(now < resident + 2048, "{resident} KiB became {now}");
    });
}

#[test]
fn a_sandbox_that_has_used_up_its_terminals_says_so() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut hog = command(&["python3", "-c"]);
        hog.args.push("import os,sys\nl=[]\nwhile True:\n  try: l.append(os.open('/dev/pts/ptmx',2))\n  except OSError: break\nprint(len(l),flush=True)\nsys.stdin.read()".into());
        let pty = client.open(hog).await.unwrap();
        let mut viewer = client.attach(pty.id).await.unwrap();
        viewer.until("63\r\n").await;
        assert_eq!(client.open(bash()).await, Err(8));
        client.close(viewer.pty.id).await.unwrap();
        client.terminal().await;
    });
}

#[test]
fn a_terminal_outlives_the_link() {
    with(Options::default(), async |sandbox| {
        let mut client = sandbox.connect().await;
        let mut viewer = client.terminal().await;
        let id = viewer.pty.id;
        viewer.keys("echo before; sleep 0.2; echo between; x=kept\r");
        viewer.until("\nbefore").await;
        let mut second = sandbox.connect().await;
        assert_eq!(second.hello.process_count, 1);
        while viewer.event().await.is_ok() {}
        assert_eq!(second.ptys().await[0].id, id);
        let mut viewer = second.attach(id).await.unwrap();
        viewer.until("before\r\nbetween\r\n$ ").await;
        viewer.keys("echo $x; exit 9\r");
        viewer.until("kept\r\n").await;
        assert_eq!(viewer.exited().await.exit_code, 9);
        assert_eq!(sandbox.connect().await.hello.process_count, 0);
    });
}

#[test]
fn terminals_are_made_without_a_spawner_too() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for _ in 0..12 {
            let mut request = shell("kill -9 -1; sleep 0.1");
            request.root = true;
            client.run(&request).await;
        }
        for root in [false, true] {
            let mut request = bash();
            request.root = root;
            let pty = client.open(request).await.unwrap();
            let mut viewer = client.attach(pty.id).await.unwrap();
            viewer.keys("stat -c %u:%g $(tty); stty size; ls -m /proc/$$/fd; exit 3\r");
            viewer.until(if root { "0:5\r\n24 80\r\n" } else { "1000:5\r\n24 80\r\n" }).await;
            viewer.until("0, 1, 2, 255\r\n").await;
            assert_eq!(viewer.exited().await.exit_code, 3);
        }
        assert_eq!(client.open(command(&["no-such-shell"])).await, Err(5));
    });
}

#[test]
fn a_program_that_closes_its_terminal_may_open_it_again() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer =
            client.watch("read line; exec 0<&- 1>&- 2>&-; sleep 0.3; echo again > /dev/tty; sleep 0.1").await;
        viewer.keys("\r");
        viewer.until("again\r\n").await;
        viewer.exited().await;
    });
}

#[test]
fn who_resets_right_after_the_start_leaves_what_can_be_closed() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for _ in 0..20 {
            let pty = client.open(bash()).await.unwrap();
            client.attach(pty.id).await.unwrap().reset();
            client.close(pty.id).await.unwrap();
        }
        soon("all are gone", || sandbox.others().len() == 1).await;
        client.terminal().await;
    });
}
