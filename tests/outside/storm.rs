//! Killed again and again: by itself, and while callers create, run and delete without a pause.

use crate::crash::{Then, Told, answered_is_true, by_id, call, nothing_without_owner, with_command};
use crate::kit::{Host, Server, turn, until, until_some};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

const CALLERS: usize = 24;
const KILLS: usize = 5;
/// Creates that are answered between two kills.
const ANSWERED_PER_KILL: usize = 25;

#[test]
fn killed_under_load_again_and_again_it_loses_nothing() {
    let _turn = turn::alone();
    let mut server = Server::start();
    let clean = Host::of(&server);
    let (told, done) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (server, told, done) = (&server, &told, &done);
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    // Most delete, so that deletes are hit too and the machine does not fill up.
                    let then = if (caller + round) % 5 == 0 { Then::Keep } else { Then::Delete };
                    call(server, told, &format!("caller-{caller}.{round}"), then);
                    server.find_again();
                }
            });
        }
        for kill in 0..KILLS {
            let goal = told.answered.load(Ordering::Relaxed) + ANSWERED_PER_KILL;
            until("creates are answered", 60, || told.answered.load(Ordering::Relaxed) >= goal);
            if kill % 2 == 0 { server.kill9_server() } else { server.kill9_launcher() }
        }
        done.store(true, Ordering::Relaxed);
        server.kill9_unit();
    });
    server.restart();
    let listed = by_id(&server);
    answered_is_true(&server, &told, &listed);
    nothing_without_owner(&server, &listed);
    for id in listed.keys() {
        server.delete(id);
    }
    Host::assert_back(&server, &clean, 20);
}

#[test]
fn the_unit_comes_back_again_and_again() {
    let _turn = turn::heavy();
    let mut server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "setsid sleep 8003 </dev/null >/dev/null 2>&1 & exit 0");
    let sleeper = until_some("the process runs", 10, || with_command(&server, "sleep 8003").pop());
    for round in 0..4 {
        let before = server.server_process();
        if round % 2 == 0 {
            server.kill9_server()
        } else {
            server.kill9_launcher()
        }
        until("the unit comes back", 30, || server.server_process().is_some_and(|now| Some(now) != before));
        server.wait_ready();
        assert_eq!(server.sh(&id, &format!("echo round {round}")), format!("round {round}"));
        assert!(sleeper.is_alive());
    }
    server.kill9_all();
    server.restart();
    assert_eq!(server.sh(&id, "echo still"), "still");
    assert!(sleeper.is_alive());
}
