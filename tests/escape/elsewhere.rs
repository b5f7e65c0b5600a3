//! F01 to F04, F15 for places that only the sandbox's own mounts have: what a worker inside does, a process of the same user may
//! work against, end or imitate. Nothing outside is ever reached, and nobody but its own sandbox has a wrong answer from it.

use crate::case::{self, Case, Starter};
use crate::kit::Response;
use crate::program::{Lines, Program, nonce, program};
use crate::swap::Race;
use crate::weak::{Control, Weak};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FILES: Program = program!("files");
const WORKERS: Program = program!("workers");
const RAW: (&str, &str) = ("accept", "application/octet-stream");
/// Connections that are kept would be counted as the server's descriptors.
const CLOSE: (&str, &str) = ("connection", "close");
const BYTES: (&str, &str) = ("content-type", "application/octet-stream");
const TAR: (&str, &str) = ("content-type", "application/x-tar");
/// The agent's patience is a second in the hunts; a call may start two workers.
const ANSWER_MAX: Duration = Duration::from_secs(6);

impl Case {
    /// A request below the sandbox's files, with the key. `None`: the connection was cut in the middle of an answer.
    fn try_elsewhere(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
        let headers: Vec<_> = headers.iter().copied().chain([("x-api-key", self.key.as_str()), CLOSE]).collect();
        let path = format!("/api/v1/sandboxes/{}/files{rest}", self.id);
        self.server.try_request(method, &path, &headers, body).ok()
    }

    fn elsewhere(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_elsewhere(method, rest, headers, body).expect("an answer")
    }

    /// Every files route on `path`, a directory, and on new names in it.
    fn every_route(&self, path: &str, new: &str) -> Vec<Option<Response>> {
        let post = |what: &str, body: serde_json::Value| {
            let json = [("content-type", "application/json")];
            self.try_elsewhere("POST", &format!("/{what}"), &json, body.to_string().as_bytes())
        };
        vec![
            self.try_elsewhere("GET", &format!("?path={path}/f"), &[RAW], b""),
            self.try_elsewhere("PUT", &format!("?path={path}/{new}"), &[BYTES], b"from the api"),
            self.try_elsewhere("PUT", &format!("?path={path}/f2&append=true"), &[BYTES], b"from the api"),
            self.try_elsewhere("GET", &format!("/list?path={path}&depth=3"), &[], b""),
            self.try_elsewhere("GET", &format!("/info?path={path}/f"), &[], b""),
            self.try_elsewhere("GET", &format!("/search?path={path}&pattern=canary"), &[], b""),
            self.try_elsewhere("GET", &format!("/archive?path={path}"), &[], b""),
            self.try_elsewhere("PUT", &format!("/archive?path={path}"), &[TAR], &archive(&format!("{new}.t"))),
            post("mkdir", json!({"path": format!("{path}/{new}.d/e"), "recursive": true})),
            post("move", json!({"source": format!("{path}/{new}"), "destination": format!("{path}/{new}.m")})),
            post("copy", json!({"source": format!("{path}/f"), "destination": format!("{path}/{new}.c")})),
            post("copy", json!({"source": path, "destination": format!("/tmp/copy-{new}")})),
            self.try_elsewhere("DELETE", &format!("?path={path}/{new}.m"), &[], b""),
            self.try_elsewhere("DELETE", &format!("?path={path}/{new}.d&recursive=true"), &[], b""),
            self.try_elsewhere("DELETE", &format!("?path=/tmp/copy-{new}&recursive=true"), &[], b""),
        ]
    }
}

/// One file in a tar archive.
fn archive(name: &str) -> Vec<u8> {
    let mut head = vec![0_u8; 1536];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[124..135].copy_from_slice(b"00000000004");
    head[156] = b'0';
    head[148..156].fill(b' ');
    let sum: u32 = head[..512].iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head[512..516].copy_from_slice(b"evil");
    head
}

/// A directory of the host that everybody may read and write, with a canary in it.
struct Outside {
    path: std::path::PathBuf,
    canary: String,
}

impl Outside {
    fn make(case: &Case) -> Outside {
        let canary = format!("canary-{}", nonce());
        let path = case.server.data_dir().parent().expect("parent").join(format!("outside-{}", nonce()));
        fs::create_dir(&path).expect("mkdir");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        for file in ["f", "f2"] {
            fs::write(path.join(file), &canary).expect("write");
            fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o666)).expect("chmod");
        }
        Outside { path, canary }
    }

    fn look(&self) -> String {
        let mut seen: Vec<String> = fs::read_dir(&self.path)
            .expect("read")
            .flatten()
            .map(|e| format!("{:?} {:?}", e.file_name(), fs::read_to_string(e.path())))
            .collect();
        seen.sort();
        format!("{seen:?} {:o}", fs::metadata(&self.path).expect("stat").permissions().mode())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// The ways out that a path could name, as targets of a link or by themselves.
fn ways_out(case: &Case, outside: &Outside) -> Vec<String> {
    let host = outside.path.to_string_lossy().into_owned();
    vec![
        format!("/proc/self/root{host}"),
        format!("/proc/1/root{host}"),
        format!("/proc/1/cwd/../../../..{host}"),
        format!("/proc/thread-self/root/../../..{host}"),
        format!("/proc/self/cwd/../../../../..{host}"),
        format!("/dev/fd/0/../../..{host}"),
        format!("/tmp/../../../../../..{host}"),
        format!("/data/sandboxes/{}/workspace", case.neighbour),
        host,
    ]
}

#[test]
fn f01_elsewhere_no_name_leads_out() {
    case::each(|case| {
        let outside = Outside::make(case);
        let before = outside.look();
        // A bind mount of one's own would be another way; nobody inside can make one.
        let bound =
            case.run("user", "/bin/sh", &["-c", "mkdir /tmp/b; mount --bind /proc/1/root /tmp/b || unshare -rm true"]);
        assert_ne!(bound["exit_code"], 0);
        for (number, way) in ways_out(case, &outside).iter().enumerate() {
            case.sh("user", &format!("ln -sfn '{way}' /tmp/way; mkdir -p /tmp/deep; ln -sfn ../way /tmp/deep/way"));
            for path in [way.as_str(), "/tmp/way", "/tmp/deep/way", "/tmp/deep/../way/."] {
                for answer in case.every_route(path, &format!("n{number}")).into_iter().flatten() {
                    let text = answer.text();
                    assert!(!text.contains(&outside.canary), "{path}: {text}");
                    assert!(matches!(answer.status, 200 | 400 | 403 | 404 | 409), "{path}: {} {text}", answer.status);
                }
            }
            assert_eq!(outside.look(), before, "{way}");
        }
    });
}

#[test]
fn f02_elsewhere_a_directory_swapped_with_a_link_leads_nowhere() {
    case::each(|case| {
        let outside = Outside::make(case);
        let before = outside.look();
        for way in ways_out(case, &outside).iter().rev().take(4) {
            case.sh(
                "user",
                &format!("cd /tmp; rm -rf d l; mkdir d; echo inside >d/f; echo inside >d/f2; ln -s '{way}' l"),
            );
            let race = Race::new(case);
            std::thread::scope(|scope| {
                scope.spawn(|| race.swap(case, "1200", "/tmp/d", "/tmp/l"));
                for worker in 0..2 {
                    let (race, outside) = (&race, &outside);
                    scope.spawn(move || {
                        let mut round = 0;
                        while !race.is_done() {
                            round += 1;
                            for answer in case.every_route("/tmp/d", &format!("n-{worker}-{round}")) {
                                // Cut: a file became shorter while it was packed.
                                let Some(answer) = answer else { continue };
                                let text = answer.text();
                                assert!(!text.contains(&outside.canary), "{text}");
                                match answer.status {
                                    200 => race.reached(),
                                    400 | 403 | 404 | 409 => answer.assert_error_form(),
                                    status => panic!("{status}: {text}"),
                                }
                            }
                        }
                    });
                }
            });
            assert_eq!(outside.look(), before, "nothing outside was read, made or changed");
        }
    });
    // The same race against a server that works on such a path from outside: there it leads out.
    let control = Control::of(FILES);
    let (outside, base) = (control.path("outside"), control.path("base"));
    for dir in [&outside, &base] {
        fs::create_dir(dir).expect("mkdir");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    fs::write(format!("{outside}/f"), "c").expect("write");
    if let Some(lines) = control.run(Weak::Plain, &["naive", &base, &outside]) {
        lines.complete().expect("naive_escapes", &["ok"]);
    }
}

#[test]
fn f03_elsewhere_who_hunts_workers_gets_errors_about_itself_alone() {
    case::each_with(
        |builder| builder.env("WORKSPACE_AGENT_TIMEOUT", "1"),
        |case| {
            let program = case.build(WORKERS);
            case.sh("user", "mkdir -p /tmp/d; echo inside >/tmp/d/f; echo inside >/tmp/d/f2");
            for how in ["kill", "stop", "garble"] {
                let done = AtomicBool::new(false);
                let (mut good, mut disturbed) = (0, 0);
                let lines = std::thread::scope(|scope| {
                    let hunter = scope.spawn(|| {
                        let word = nonce();
                        let answer = case.run("user", &program, &[&word, "5000", how]);
                        done.store(true, Ordering::Relaxed);
                        Lines::parse(WORKERS, &word, answer["stdout"].as_str().expect("stdout")).complete()
                    });
                    let mut round = 0;
                    while !done.load(Ordering::Relaxed) {
                        round += 1;
                        let begun = Instant::now();
                        let answers = case.every_route("/tmp/d", &format!("{how}-{round}"));
                        assert!(begun.elapsed() < ANSWER_MAX * answers.len() as u32, "{how}: {:?}", begun.elapsed());
                        for answer in answers {
                            let Some(answer) = answer else {
                                disturbed += 1;
                                continue;
                            };
                            match answer.status {
                                200 => good += 1,
                                // What a worker that was ended before has not made.
                                404 | 409 => answer.assert_error_form(),
                                500 | 503 | 504 => {
                                    answer.assert_error_form();
                                    let code = answer.json()["code"].as_u64();
                                    assert!(
                                        matches!(code, Some(4003 | 5002 | 5003 | 1008)),
                                        "{how}: {}",
                                        answer.text()
                                    );
                                    disturbed += 1;
                                }
                                status => panic!("{how}: {status}: {}", answer.text()),
                            }
                        }
                    }
                    hunter.join().expect("the hunter")
                });
                println!("{how}: {good} good, {disturbed} disturbed; {lines:?}");
                assert!(good + disturbed > 10, "{how}: {good} {disturbed}");
                if how == "garble" && lines.get("garbled") == "0" {
                    println!("skipped: no worker was met before it had closed itself");
                } else {
                    // The control: they were met, and what they said was another's.
                    assert!(disturbed > 0, "{how}: no worker was met");
                }
                // Afterwards all is well.
                case.elsewhere("PUT", "?path=/tmp/d/f", &[BYTES], b"again").expect(200);
                assert_eq!(case.elsewhere("GET", "?path=/tmp/d/f", &[RAW], b"").expect(200).text(), "again");
            }
            case.sh("user", "pkill -KILL -f '^/proc/self/exe files' || true");
        },
    );
}

#[test]
fn f04_elsewhere_what_would_hang_or_act_is_never_opened() {
    case::one(Starter::Root, json!({}), |case| {
        case.sh("user", "cd /tmp; mkdir d; mkfifo d/fifo; ln -s fifo d/link; echo x >d/f; (cat d/fifo >/tmp/got) >/dev/null 2>&1 </dev/null &");
        let begun = Instant::now();
        for path in ["/tmp/d/fifo", "/tmp/d/link", "/dev/zero", "/dev/tty", "/proc/self/fd/0"] {
            case.elsewhere("GET", &format!("?path={path}"), &[RAW], b"").expect_error(400, 3004);
            case.elsewhere("GET", &format!("/search?path={path}&pattern=x"), &[], b"").expect_error(400, 3005);
            case.elsewhere("GET", &format!("/archive?path={path}"), &[], b"").expect_error(400, 3005);
            case.elsewhere("PUT", &format!("/archive?path={path}"), &[TAR], &archive("n")).expect_error(400, 3005);
        }
        let found = case.elsewhere("GET", "/search?path=/tmp/d&hidden=true", &[], b"").expect(200).json();
        assert_eq!(found["files_searched"], 1, "{found}");
        let packed = case.elsewhere("GET", "/archive?path=/tmp/d", &[], b"").expect(200);
        // The file, its bytes, the link, and the end: nothing of the FIFO.
        assert_eq!(packed.body.len(), 512 * 5, "{}", packed.text());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(case.sh("user", "cat /tmp/got; echo end"), "end", "nobody opened the other end");
        case.sh("user", "echo x >/tmp/d/fifo");
    });
}
