//! N07, N08, N10: the root can't be left, by `..`, by links of /proc, by a working directory.

use crate::case::{self, Starter};
use crate::program::{Lines, Program, nonce, program};
use crate::weak::{Control, Weak, must_succeed};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const ROOT: Program = program!("root");
const AGENT: Program = program!("agent");

/// What a look at another user's process may answer.
const DENIED: &[&str] = &["EACCES", "EPERM", "ENOENT"];

#[test]
fn n07_dots_end_at_the_sandboxes_root() {
    case::each(|case| {
        let secret = case.server.data_dir().parent().expect("parent").join("secret").to_string_lossy().into_owned();
        for &user in case.users() {
            let dir = format!("/workspace/dots-{user}");
            case.sh(user, &format!("mkdir {dir}"));
            let lines = case.attack(ROOT, user, &["chroot", &dir, &secret]);
            lines.expect("chroot", &["EPERM"]);
            for way in ["chroot", "plain"] {
                lines.expect(&format!("{way}_stopped"), &["top"]);
                lines.expect(&format!("{way}_at_root"), &["same"]);
                lines.expect(&format!("{way}_canary"), &["ENOENT"]);
            }
        }
    });
    let control = Control::of(ROOT);
    let (jail, canary) = (control.path("jail"), control.path("canary"));
    fs::create_dir(&jail).expect("mkdir");
    fs::write(&canary, "canary").expect("write");
    let nonce = nonce();
    // As root, in a root made by chroot alone.
    let output = Command::new(control.path("attack")).args([&nonce, "weak", &jail, &canary]).output().expect("run");
    let lines = Lines::parse(ROOT, &nonce, &String::from_utf8_lossy(&output.stdout));
    must_succeed(Some(lines), "a way out of chroot", |lines| lines.any_ok(&["chroot_canary"]));
}

#[test]
fn n07_a_directory_moved_away_leads_nowhere() {
    case::each_and_pooled(|case| {
        let data = case.server.data_dir();
        let secret = data.parent().expect("parent").join("secret").to_string_lossy().into_owned();
        let (program, nonce) = (case.build(ROOT), nonce());
        case.sh("user", "mkdir /workspace/moved");
        let from = data.join("sandboxes").join(&case.id).join("workspace/moved/a");
        let to = data.join("sandboxes").join(&case.id).join("away");
        let lines = std::thread::scope(|scope| {
            let mover = scope.spawn(|| {
                crate::kit::until("the program holds its directory", 10, || from.join("b/c").exists());
                std::thread::sleep(std::time::Duration::from_millis(200));
                fs::rename(&from, &to).expect("move the directory out of the sandbox");
            });
            let answer = case.run("user", &program, &[&nonce, "rename", "/workspace/moved", &secret]);
            mover.join().expect("the mover");
            Lines::parse(ROOT, &nonce, answer["stdout"].as_str().expect("stdout")).complete()
        });
        lines.expect("moved", &["ok"]);
        lines.expect("moved_canary", &["ENOENT", "EACCES"]);
        assert!(lines.get("moved_at_root") == "other" || lines.get("moved_stopped") == "top", "{lines:?}");
        fs::remove_dir_all(&to).expect("remove what was moved");
    });
}

#[test]
fn n08_links_of_proc_stay_inside() {
    case::each_and_pooled(|case| {
        let secret = case.server.data_dir().parent().expect("parent").join("secret").to_string_lossy().into_owned();
        for &user in case.users() {
            let lines = case.attack(AGENT, user, &["links", &secret]);
            // With one id for all, the numbers of the agent's descriptors can be listed, and nothing of them read.
            let numbers = if case.starter == Starter::Plain { "listed" } else { "EMPTY" };
            lines.expect_all("open_", &["EACCES", "EPERM", "ENOENT", "EIO", "EMPTY", "EINVAL", numbers]);
            for link in ["root", "cwd", "exe", "maps", "mem", "environ", "ns_mnt"] {
                lines.expect(&format!("open_{link}"), DENIED);
            }
            lines.expect("agent_fds", &["0"]);
            lines.expect("roots", &["seen foreign 0"]);
            lines.expect("own_ways", &["0"]);
        }
    });
    let control = Control::of(AGENT).run(Weak::MapZero, &["links", "etc/hostname"]);
    must_succeed(control, "links of another's /proc", |lines| lines.any_ok(&["open_root", "open_cwd", "open_exe"]));
}

#[test]
fn n10_a_hostile_working_directory_stays_inside() {
    case::each(|case| {
        case.sh("user", "mkdir -p /workspace/links /workspace/gone; mkfifo /workspace/fifo; cd /workspace/links; \
            ln -s /proc/1/cwd cwd; ln -s /proc/1/root root; ln -s / top; ln -s /proc/self/fd/3 fd3; ln -s ../../../../.. up; ln -s self self");
        let mut tries: Vec<String> = (3..=20).map(|fd| format!("/proc/self/fd/{fd}")).collect();
        let fixed = [
            "/proc/1/cwd",
            "/proc/1/root",
            "/proc/self/root",
            "../../..",
            "links/cwd",
            "links/root",
            "links/top",
            "links/fd3",
            "links/up",
            "links/self",
            "fifo",
            "/nonexistent",
            "/proc/self/fd/0/..",
            "/proc/thread-self/cwd",
            "/dev/fd/3",
            "",
        ];
        tries.extend(fixed.map(str::to_owned));
        let root = case.sh("user", "stat -c %d:%i /");
        for cwd in &tries {
            for &user in case.users() {
                let script = "pwd -P; stat -c %d:%i .; stat -c %d:%i /; cd ../../../../../../../..; stat -c %d:%i .";
                let body = json!({"command": "/bin/sh", "args": ["-c", script], "cwd": cwd, "user": user});
                let answer = case.run_in(&case.id, &body);
                if answer.status == 400 {
                    continue;
                }
                let answer = answer.expect(200).json();
                if answer["exit_code"] == 126 || answer["exit_code"] == 127 {
                    assert_ne!(answer["stderr"], "", "{cwd}: no reason");
                    continue;
                }
                let told: Vec<&str> = answer["stdout"].as_str().expect("stdout").lines().collect();
                assert!(
                    told.len() == 4 && told[0].starts_with('/') && told[2] == root && told[3] == root,
                    "{cwd}: {answer:#}"
                );
            }
        }
        // A directory that is removed at that moment.
        for _ in 0..20 {
            case.sh("user", "mkdir -p /workspace/gone");
            let body = json!({"command": "/bin/pwd", "cwd": "/workspace/gone"});
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let gone = json!({"command": "rmdir", "args": ["/workspace/gone"]});
                    let path = format!("/api/v1/sandboxes/{}/process/run", case.id);
                    let _ = case.server.try_request(
                        "POST",
                        &path,
                        &[("x-api-key", &case.key)],
                        gone.to_string().as_bytes(),
                    );
                });
                let answer = case.run_in(&case.id, &body);
                assert!(!answer.text().contains("unreachable"), "{}", answer.text());
            });
        }
    });
    n10_control();
}

/// bubblewrap starts its program in the directory that a descriptor of its parent leads to.
fn n10_control() {
    if crate::kit::needs_root() || !std::path::Path::new("/usr/bin/bwrap").exists() {
        return;
    }
    let control = Control::of(ROOT);
    let outside = control.path("outside");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(format!("{outside}/canary"), "canary").expect("write");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).expect("chmod");
    let script = format!(
        "exec 7<{outside}; exec bwrap --unshare-all --ro-bind /usr /usr --symlink usr/lib /lib \
        --symlink usr/lib64 /lib64 --symlink usr/bin /bin --proc /proc --chdir /proc/self/fd/7 cat canary"
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("run bwrap");
    if output.stdout != b"canary" {
        println!(
            "skipped: this kernel lacks a working directory outside the root: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
