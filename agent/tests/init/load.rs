//! Much output, many commands, slow readers.

use crate::client::{command, shell};
use crate::kit::{Options, with};
use std::time::{Duration, Instant};
use workspace_proto::agent::run_event::Event;

const BIG: usize = 64 << 20;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn big_output_comes_whole_and_in_order() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let finished = client.shell(&format!("yes 0123456789abcde | head -c {BIG}")).await;
        assert_eq!(finished.stdout.len(), BIG);
        assert!(finished.stdout.chunks(16).all(|line| line == b"0123456789abcde\n"));
        let both = format!("(yes | head -c {0}) & (yes n | head -c {0} >&2); wait", 4 << 20);
        let finished = client.shell(&both).await;
        assert_eq!((finished.stdout.len(), finished.stderr.len()), (4 << 20, 4 << 20));
    });
}

#[test]
fn output_beyond_its_bound_is_dropped_and_said() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for bound in [0, 1, 1000, 100_000] {
            let mut request = shell(&format!("yes | head -c {}; echo end >&2", 8 << 20));
            request.output_bytes_max = bound;
            let finished = client.run(&request).await;
            assert_eq!((finished.stdout.len() + finished.stderr.len()) as u64, bound);
            assert!(finished.exited.truncated && finished.exited.exit_code == 0);
        }
        let mut request = shell("printf 1234567890");
        request.output_bytes_max = 10;
        let finished = client.run(&request).await;
        assert_eq!((finished.text().as_str(), finished.exited.truncated), ("1234567890", false));
    });
}

#[test]
fn a_reader_that_stops_stops_its_command_only() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut stopped = Vec::new();
        for _ in 0..8 {
            stopped.push(client.start(&command(&["yes"])).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        let finished = client.shell(&format!("yes | head -c {BIG}")).await;
        assert_eq!(finished.stdout.len(), BIG);
        assert!(start.elapsed() < Duration::from_secs(20));
        let kib = resident_kib(sandbox.agent_pid());
        assert!(kib < 48 << 10, "the agent holds {kib} KiB");
        // What was printed lies in windows and pipes, and comes when it is asked for.
        let mut running = stopped.pop().unwrap();
        let mut seen = 0;
        while seen < 4 << 20 {
            if let Event::Stdout(bytes) = running.event().await.unwrap() {
                seen += bytes.len();
            }
        }
        for running in stopped {
            running.cancel();
        }
    });
}

#[test]
fn a_slow_reader_loses_nothing_of_a_command_that_has_ended() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        // More than the window of one stream: the rest lies in the pipe when the command ends.
        let length = (1 << 20) + (32 << 10);
        let mut running = client.start(&shell(&format!("head -c {length} /dev/zero; exit 5"))).await.unwrap();
        let Some(Event::Started(_)) = running.event().await else { panic!("started comes first") };
        tokio::time::sleep(Duration::from_millis(700)).await;
        let mut seen = 0;
        loop {
            match running.event().await.unwrap() {
                Event::Stdout(bytes) => seen += bytes.len(),
                Event::Exited(exited) => {
                    assert_eq!((seen, exited.exit_code), (length, 5));
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_storm_of_short_commands_loses_no_end() {
    with(Options::default(), async |mut sandbox| {
        let client = sandbox.first_link().await;
        let mut workers = Vec::new();
        for worker in 0..50u32 {
            let mut client = client.clone();
            workers.push(tokio::spawn(async move {
                for i in 0..200 {
                    let code = (worker + i) % 100;
                    let finished = if i % 50 == 0 {
                        client.shell(&format!("exit {code}")).await
                    } else {
                        client.run(&command(&["true"])).await
                    };
                    assert_eq!(finished.exited.exit_code, if i % 50 == 0 { code as i32 } else { 0 });
                }
            }));
        }
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(sandbox.others().len(), 1);
    });
}

#[test]
fn a_hundred_run_at_once() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let go = sandbox.directory.join("go");
        let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
        let mut running = Vec::new();
        for i in 0..100 {
            running.push(client.start(&shell(&format!("echo {i}; {wait}"))).await.unwrap());
        }
        assert_eq!(client.list().await.processes.len(), 100);
        std::fs::write(go, "").unwrap();
        for (i, running) in running.into_iter().enumerate() {
            assert_eq!(running.finish().await.text(), format!("{i}\n"));
        }
    });
}
