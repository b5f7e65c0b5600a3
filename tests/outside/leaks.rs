//! Rounds of create, run and delete: memory, descriptors, cgroups, mounts and directories stay flat.
//!
//! `OUTSIDE_ROUNDS` sets the number of rounds; 200 unless asked, 10,000 for the long run.

use crate::kit::{Host, Server, turn};
use serde_json::json;
use std::time::Duration;

const ROUNDS: usize = 200;
const WARM_UP_ROUNDS: usize = 40;
const RSS_GROWN_KIB_MAX: u64 = 16 * 1024;
const AT_ONCE: usize = 4;
const STEADY_LOOK: Duration = Duration::from_millis(300);

fn rounds() -> usize {
    let asked = std::env::var("OUTSIDE_ROUNDS").ok();
    asked.map_or(ROUNDS, |n| n.parse().expect("OUTSIDE_ROUNDS is a number of rounds"))
}

#[test]
fn rounds_of_create_and_delete_are_flat() {
    let _turn = turn::alone();
    let server = Server::start();
    play(&server, WARM_UP_ROUNDS);
    let (mut before, rounds) = (settled(&server), rounds());
    let mut grown = Vec::new();
    // The launcher may have rested before it had made ahead all that it makes ahead; what leaks grows each time.
    for _ in 0..2 {
        play(&server, rounds);
        let after = settled(&server);
        grown = grown_since(&before, &after, rounds);
        if grown.is_empty() {
            break;
        }
        before = after;
    }
    assert!(grown.is_empty(), "after {rounds} rounds:\n{}", grown.join("\n"));
    assert!(server.list().is_empty());
}

fn grown_since(before: &Host, after: &Host, rounds: usize) -> Vec<String> {
    let mut grown = after.left_since(before);
    grown.extend(after.descriptors_grown(before));
    for (name, now) in &after.unit {
        let then = before.unit[name];
        println!("{name} after {rounds} rounds: {now:?}, before {then:?}");
        if now.rss_kib > then.rss_kib + RSS_GROWN_KIB_MAX {
            grown.push(format!("{name}: {} KiB, before {}", now.rss_kib, then.rss_kib));
        }
        if now.threads != then.threads {
            grown.push(format!("{name}: {} threads, before {}", now.threads, then.threads));
        }
    }
    println!("dying cgroups: {}, before {}", after.dying_cgroups, before.dying_cgroups);
    if after.dying_cgroups > before.dying_cgroups + 100 {
        grown.push(format!("{} dying cgroups, before {}", after.dying_cgroups, before.dying_cgroups));
    }
    grown
}

#[test]
fn rounds_with_a_pool_are_flat() {
    let _turn = turn::alone();
    let blanks = 4;
    let server = Server::builder().env("WORKSPACE_POOL_BLANKS", &blanks.to_string()).start();
    let agents = || server.own_processes().iter().filter(|p| p.is_init()).count();
    let full = || {
        crate::kit::until("only a full pool is left", 30, || {
            let host = Host::of(&server);
            // One more may be under way while a removal is not yet through.
            (blanks..=blanks + 1).contains(&agents()) && !host.files.iter().any(|f| f.starts_with("trash/"))
        });
        Host::of(&server)
    };
    play(&server, WARM_UP_ROUNDS);
    let before = full();
    play(&server, ROUNDS);
    let after = full();
    for (name, now) in &after.unit {
        let then = before.unit[name];
        // A blank more or less is a link and a pidfd each.
        assert!(now.descriptors <= then.descriptors + 8, "{name}: {now:?}, before {then:?}");
        assert!(now.rss_kib <= then.rss_kib + RSS_GROWN_KIB_MAX, "{name}: {now:?}, before {then:?}");
        assert_eq!((now.threads, now.zombies), (then.threads, 0), "{name}");
    }
    let directories =
        |host: &Host| host.cgroups.iter().filter(|c| c.rsplit('/').next().is_some_and(|n| n.len() == 32)).count();
    assert!(directories(&after) <= directories(&before) + 4, "{:?}", after.cgroups);
}

#[test]
fn rounds_of_runs_are_flat() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let run_many = |count: usize| {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    for _ in 0..count / AT_ONCE {
                        let background = "setsid sleep 0.01 & echo x; exit 5";
                        let answer = server.run(&id, json!({"command": "sh", "args": ["-c", background]}));
                        assert_eq!((&answer["stdout"], &answer["exit_code"]), (&json!("x\n"), &json!(5)));
                    }
                });
            }
        });
    };
    run_many(WARM_UP_ROUNDS);
    let agents = |server: &Server| -> (usize, usize, u64) {
        let own = server.own_processes();
        let total = |f: &dyn Fn(&crate::kit::Process) -> u64| own.iter().map(f).sum::<u64>();
        (own.len(), total(&|p| p.descriptors() as u64) as usize, total(&|p| p.status("VmRSS").unwrap_or(0)))
    };
    crate::kit::until("leftovers end", 5, || {
        !server.own_processes().iter().any(|p| p.command_line().contains("sleep"))
    });
    let before = agents(&server);
    run_many(ROUNDS * 2);
    crate::kit::until("leftovers end", 5, || {
        !server.own_processes().iter().any(|p| p.command_line().contains("sleep"))
    });
    let mut after = agents(&server);
    crate::kit::until("processes and descriptors are as before", 5, || {
        after = agents(&server);
        after.0 <= before.0 && after.1 <= before.1 + 4
    });
    assert!(after.2 < before.2 + RSS_GROWN_KIB_MAX, "{before:?} before, {after:?} after");
    let zombies = server.sh(&id, "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true");
    assert_eq!(zombies, "0", "the agent reaps what others left");
}

/// Some at once, so that paths of both cores and of the launcher's waiting are used.
fn play(server: &Server, rounds: usize) {
    std::thread::scope(|scope| {
        for thread in 0..AT_ONCE {
            scope.spawn(move || {
                for round in 0..rounds / AT_ONCE {
                    let id = server.create(json!({"name": format!("{thread}.{round}"), "metadata": {"n": "1"}}));
                    if round.is_multiple_of(4) {
                        assert_eq!(server.sh(&id, "echo x >f; cat f"), "x");
                    }
                    if round.is_multiple_of(8) {
                        server.sh(&id, "setsid sleep 100 </dev/null >/dev/null 2>&1 & exit 0");
                    }
                    server.delete(&id);
                }
            });
        }
    });
}

/// A snapshot once the slow deletion has emptied the trash, idle connections are gone, and the launcher has made
/// ahead what it makes ahead.
fn settled(server: &Server) -> Host {
    let mut host = Host::of(server);
    crate::kit::until("trash, cgroups and processes of deleted sandboxes go", 30, || {
        let before = std::mem::replace(&mut host, Host::of(server));
        std::thread::sleep(STEADY_LOOK);
        let steady = before.unit.iter().all(|(name, then)| host.unit[name].descriptors == then.descriptors);
        steady && host.files.is_empty() && host.cgroups.is_empty() && host.processes.is_empty()
    });
    host
}
