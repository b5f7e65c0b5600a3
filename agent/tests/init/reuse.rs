//! A pid that the kernel gives out again belongs to the newest command alone.

use crate::client::shell;
use crate::follower::started;
use crate::kit::{Options, with};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use workspace_proto::agent::StartRequest;

#[test]
fn a_pid_that_comes_again_is_the_newest_command() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let agent = sandbox.agent_pid().to_string();
        // Since Linux 6.14 each pid namespace has a bound of its own.
        let inside = ["-t", agent.as_str(), "-p", "-m", "sh", "-c", "echo 310 > /proc/sys/kernel/pid_max"];
        let host = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
        let status = Command::new("nsenter").args(inside).stderr(Stdio::null()).status();
        let changed = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap() != host;
        if changed {
            std::fs::write("/proc/sys/kernel/pid_max", &host).unwrap();
        }
        if changed || !status.is_ok_and(|status| status.success()) {
            println!("skipped: this kernel has one pid_max for all");
            return;
        }
        let mut newest = BTreeMap::new();
        let mut again = 0;
        for i in 0..600 {
            let tag = i.to_string();
            let process =
                client.launch(&StartRequest { tag: tag.clone(), ..started(shell(&format!("echo {i}"))) }).await;
            let mut first = client.clone();
            let mut follower = first.follow(process.pid, 0).await.unwrap();
            if i % 3 == 0 {
                client.wait(process.pid).await.unwrap();
            }
            while follower.step().await {}
            assert_eq!((follower.text(), follower.process.tag.as_str()), (format!("{i}\n"), tag.as_str()));
            again += usize::from(newest.insert(process.pid, tag).is_some());
        }
        assert!(again > 100, "{again}");
        let list = client.list().await;
        assert_eq!((list.alive, list.processes.len() <= 256), (0, true));
        for process in list.processes {
            assert_eq!(process.tag, newest[&process.pid]);
        }
    });
}
