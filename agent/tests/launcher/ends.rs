//! What is refused, what fails, and what a crash leaves: told once, found again, removed whole.

use crate::assert_nothing_is_left;
use crate::kit::{BASE_ID, BLOCKS, DataDir, FIRST_BLOCK, Launcher, OWNER_ID, Program, Start, id, is_root, names, plan};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use workspace_proto::launcher::{Adopt, Create, Destroy, Inventory, Mode, reply, request};

#[test]
fn what_breaks_a_rule_is_refused_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    let bad = [
        Create { id: "../../../../../../../../../../etc".into(), ..plan(1) },
        Create { id: String::new(), ..plan(1) },
        Create { block: 0, ..plan(1) },
        Create { block: FIRST_BLOCK + BLOCKS, ..plan(1) },
        Create { block: u32::MAX, ..plan(1) },
        Create { block: FIRST_BLOCK, ..plan(1) },
        Create { template: "../host".into(), ..plan(1) },
        Create { block: FIRST_BLOCK + 1, ..plan(0) },
    ];
    for create in bad {
        let (op, descriptors) = launcher.ask(request::Op::Create(create.clone()));
        assert!(matches!(op, reply::Op::Failed(_)) && descriptors.is_empty(), "{create:?}: {op:?}");
    }
    launcher.send_bytes(b"\xff\xff not a request");
    let listed = launcher.inventory();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].alive && listed[0].files && listed[0].block == FIRST_BLOCK);
    let (op, _) = launcher.ask(request::Op::Destroy(Destroy { id: "x/y".into(), keep_files: false }));
    assert!(matches!(op, reply::Op::Failed(_)));
    let (op, _) = launcher.ask(request::Op::Inventory(Inventory { after_id: "/".into() }));
    assert!(matches!(op, reply::Op::Failed(_)));
    launcher.destroy(&sandbox.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn a_failed_set_up_names_its_step() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let program = Program::Bytes(b"no program");
    let mut launcher = Launcher::start_as(&data, &Start { mode: Mode::Root, base_id: BASE_ID, wrapper: &[], program });
    let sandbox = launcher.create(plan(0));
    let ended = launcher.ended();
    assert_eq!((ended.id.as_str(), ended.step.as_str()), (sandbox.id.as_str(), "child_execute"));
    assert_eq!((ended.errno, ended.wait_status), (libc::ENOEXEC, 1 << 8));
    launcher.destroy(&sandbox.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn the_end_of_an_agent_is_told_once_and_files_can_stay() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    Command::new("kill").args(["-9", &sandbox.pid.to_string()]).status().unwrap();
    let ended = launcher.ended();
    assert_eq!((ended.id.as_str(), ended.step.as_str(), ended.wait_status), (sandbox.id.as_str(), "", 9));
    let (op, _) = launcher.ask(request::Op::Destroy(Destroy { id: id(0), keep_files: true }));
    assert!(matches!(op, reply::Op::Destroyed(_)));
    assert_eq!(names(&data.path.join("sandboxes")), [id(0)]);
    // The same files, another block: a stopped sandbox starts again.
    let again = launcher.create(Create { block: FIRST_BLOCK + 1, ..plan(0) });
    again.wait_for_listen(&data);
    launcher.destroy(&again.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn fifty_creates_at_once_survive_the_launcher_and_are_found() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let numbers: Vec<u64> = (0..50).map(|number| launcher.send(request::Op::Create(plan(number)))).collect();
    for seq in &numbers[..30] {
        let (op, _) = launcher.answer(*seq);
        assert!(matches!(op, reply::Op::Created(_)), "{op:?}");
    }
    // Somewhere in the remaining twenty.
    launcher.kill();

    let mut launcher = Launcher::start(&data);
    let listed = launcher.inventory();
    assert!((30..=50).contains(&listed.len()), "{}", listed.len());
    let alive = listed.iter().filter(|entry| entry.alive).count();
    assert!(alive >= 30 && listed.len() - alive <= 1, "{alive} of {} live", listed.len());
    for entry in &listed {
        if entry.alive {
            let (op, descriptors) = launcher.ask(request::Op::Adopt(Adopt { id: entry.id.clone() }));
            assert!(matches!(op, reply::Op::Adopted(adopted) if adopted.identity == entry.identity));
            assert_eq!(descriptors.len(), 1);
        }
    }
    let adopted = &listed[0];
    Command::new("kill").args(["-9", &adopted.identity.unwrap().pid.to_string()]).status().unwrap();
    let ended = launcher.ended();
    assert_eq!((ended.id.as_str(), ended.wait_status), (adopted.id.as_str(), -1));
    let numbers: Vec<u64> = listed
        .iter()
        .map(|entry| launcher.send(request::Op::Destroy(Destroy { id: entry.id.clone(), keep_files: false })))
        .collect();
    let mut answered = BTreeSet::new();
    for _ in &numbers {
        let (reply, _) = launcher.receive().unwrap();
        assert!(matches!(reply.op, Some(reply::Op::Destroyed(_))), "{reply:?}");
        answered.insert(reply.seq);
    }
    assert_eq!(answered, numbers.into_iter().collect());
    assert_eq!(launcher.inventory(), []);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn an_agent_without_a_record_is_ended_at_start() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    launcher.kill();
    fs::remove_dir_all(data.path.join("run").join(&sandbox.id)).unwrap();
    let mut launcher = Launcher::start(&data);
    let listed = launcher.inventory();
    if !data.cgroups().is_empty() {
        assert_eq!(listed.iter().map(|entry| (entry.id.as_str(), entry.alive)).collect::<Vec<_>>(), [(&*id(0), false)]);
    }
    launcher.destroy(&id(0));
    launcher.stop();
    assert_nothing_is_left(&data);
}
