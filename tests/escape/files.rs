//! F02, F04 to F06 and F09: files over HTTP while a process of the sandbox works against them.

use crate::case::{self, Case, Starter};
use crate::kit::{Response, until};
use crate::program::{Lines, Program, nonce, program};
use crate::swap::Race;
use crate::weak::{Control, Weak};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const FILES: Program = program!("files");
/// As long as every race runs.
const RAW: (&str, &str) = ("accept", "application/octet-stream");
/// Connections that are kept would be counted as the server's descriptors.
const CLOSE: (&str, &str) = ("connection", "close");
const BYTES: (&str, &str) = ("content-type", "application/octet-stream");

impl Case {
    /// A request below the sandbox's files, with the key.
    fn files(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let headers: Vec<(&str, &str)> =
            headers.iter().copied().chain([("x-api-key", self.key.as_str()), CLOSE]).collect();
        let path = format!("/api/v1/sandboxes/{}/files{rest}", self.id);
        self.server.request(method, &path, &headers, body)
    }

    fn post_file(&self, what: &str, body: serde_json::Value) -> Response {
        let json = [("content-type", "application/json")];
        self.files("POST", &format!("/{what}"), &json, body.to_string().as_bytes())
    }

    fn put_file(&self, path: &str, body: &[u8]) -> Response {
        self.files("PUT", &format!("?path={path}"), &[BYTES], body)
    }

    fn read_file(&self, path: &str) -> Response {
        self.files("GET", &format!("?path={path}"), &[RAW], b"")
    }
}

#[test]
fn f02_a_directory_swapped_with_a_link_leads_nowhere() {
    case::each(|case| {
        let canary = nonce();
        let outside = case.server.data_dir().parent().expect("parent").join(format!("outside-{canary}"));
        fs::create_dir(&outside).expect("mkdir");
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).expect("chmod");
        fs::write(outside.join("f"), format!("canary {canary}")).expect("write");
        let look = || {
            let mut names: Vec<_> = fs::read_dir(&outside).expect("read").flatten().map(|e| e.file_name()).collect();
            names.sort();
            (
                names,
                fs::read(outside.join("f")).expect("read"),
                fs::metadata(&outside).expect("stat").permissions().mode(),
            )
        };
        let before = look();
        let host = outside.to_string_lossy().into_owned();
        let up = format!("../../../../../../../../..{host}");
        // As the host names it, as the server does, and through the server's own /proc.
        let neighbour = format!("/data/sandboxes/{}/workspace", case.neighbour);
        for target in [host.as_str(), &up, &neighbour, "/proc/self/root/data", "../../../data"] {
            let script = format!("cd /workspace; rm -rf d l k; mkdir d; echo inside >d/f; ln -s '{target}' l");
            case.sh("user", &script);
            let race = Race::new(case);
            std::thread::scope(|scope| {
                // Five targets share the three seconds of a race.
                let swapper = scope.spawn(|| race.swap(case, "600", "/workspace/d", "/workspace/l"));
                for worker in 0..2 {
                    let (race, canary) = (&race, &canary);
                    scope.spawn(move || {
                        let mut round = 0;
                        while !race.is_done() {
                            round += 1;
                            let new = format!("d/new-{worker}-{round}");
                            let answers = [
                                case.read_file("d/f"),
                                case.put_file(&new, b"from the api"),
                                case.files("GET", "/list?path=d", &[], b""),
                                case.files("GET", "/info?path=d/f", &[], b""),
                                case.post_file("mkdir", json!({"path": format!("{new}.d"), "recursive": true})),
                                case.post_file("move", json!({"source": new, "destination": format!("{new}.m")})),
                                case.post_file("copy", json!({"source": "d/f", "destination": format!("{new}.c")})),
                                case.files("DELETE", &format!("?path={new}.m"), &[], b""),
                                case.files("DELETE", &format!("?path={new}.d&recursive=true"), &[], b""),
                            ];
                            for answer in answers {
                                assert!(!answer.text().contains(canary.as_str()), "{}", answer.text());
                                match answer.status {
                                    200 => race.reached(),
                                    400 | 403 | 404 | 409 => answer.assert_error_form(),
                                    status => panic!("{status}: {}", answer.text()),
                                }
                            }
                        }
                    });
                }
                swapper.join().expect("the swapper");
            });
            assert_eq!(look(), before, "nothing outside was read, made or changed");
        }
        let neighbours = case.run_in(&case.neighbour, &json!({"command": "ls", "args": ["-A", "/workspace"]}));
        assert_eq!(neighbours.expect(200).json()["stdout"], "canary\n");
        fs::remove_dir_all(&outside).expect("remove");
    });
    let control = Control::of(FILES);
    let outside = control.path("outside");
    let base = control.path("base");
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
fn f04_what_would_hang_or_act_is_never_opened() {
    case::each(|case| {
        let make = "cd /workspace; mkfifo fifo; mkdir d; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' || mkfifo sock; \
            ln -s fifo link; mknod white c 0 0 2>/dev/null || mkfifo white; (cat fifo >got; echo woken >>got) </dev/null >/dev/null 2>&1 &";
        case.sh("user", make);
        let mut took_ms: Vec<u128> = (0..250)
            .flat_map(|_| ["fifo", "sock", "white", "link"])
            .map(|name| {
                let started = Instant::now();
                case.read_file(name).expect_error(400, 3004);
                started.elapsed().as_millis()
            })
            .collect();
        took_ms.sort_unstable();
        // A machine that is busy may leave some of a thousand waiting for their turn; what hangs would wait for ever.
        assert!(took_ms[949] < 100 && took_ms[999] < 5000, "{} and {} ms", took_ms[949], took_ms[999]);
        for name in ["fifo", "sock", "white"] {
            case.files("GET", &format!("?path={name}"), &[], b"").expect_error(400, 3004);
            case.put_file(name, b"x").expect_error(400, 3004);
            case.put_file(&format!("{name}%2Fx"), b"x").expect_error(400, 3005);
            case.post_file("copy", json!({"source": name, "destination": "copied"})).expect_error(400, 3004);
            assert_eq!(case.files("GET", &format!("/info?path={name}"), &[], b"").expect(200).json()["type"], "other");
        }
        case.read_file("d").expect_error(400, 3007);
        assert_eq!(case.sh("user", "cat /workspace/got 2>/dev/null; echo end"), "end", "nobody opened the other end");
        case.sh("user", "echo x >/workspace/fifo");
    });
}

#[test]
fn f05_a_file_is_the_old_one_or_the_new_one() {
    case::each(|case| {
        // The directory is sticky and another's, and closed to the user.
        if case.starter != Starter::Plain {
            case.sh("root", "mkdir /workspace/s /workspace/r; chmod 1777 /workspace/s; chmod 500 /workspace/r");
            for path in ["s/f", "r/f"] {
                case.put_file(path, b"x").expect(200);
                assert_eq!(case.sh("root", &format!("stat -c %u:%g:%a /workspace/{path}")), "1000:1000:644");
            }
        }
        let bodies = [vec![b'a'; 300_000], vec![b'b'; 300_000]];
        case.put_file("f", &bodies[0]).expect(200);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let script = "cd /workspace; end=$(($(date +%s) + 3)); n=0; while [ $(date +%s) -lt $end ]; do \
                set -- $(tr -d a <f | wc -c) $(stat -c %s f); { [ $1 = 0 ] || [ $1 = 300000 ]; } && [ $2 = 300000 ] || echo torn $1 $2; n=$((n+1)); done; \
                ls -A | grep -v -x -e f -e s -e r; [ $n -gt 20 ] && echo looked";
            let reader = scope.spawn(|| {
                let seen = case.sh("user", script);
                done.store(true, Ordering::Relaxed);
                seen
            });
            for body in &bodies {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        case.put_file("f", body).expect(200);
                    }
                });
            }
            assert_eq!(reader.join().expect("the reader"), "looked");
        });
    });
}

#[test]
fn f06_a_tree_goes_however_deep_and_nothing_else_does() {
    case::each(|case| {
        let program = case.build(FILES);
        let word = nonce();
        // Some seconds of work for the file system, so once.
        let depth = if case.starter == Starter::Root { "3000" } else { "600" };
        let answer = case.run("user", &program, &[&word, "deep", depth, "deep"]);
        Lines::parse(FILES, &word, answer["stdout"].as_str().expect("stdout")).complete().expect("deep", &[depth]);
        case.sh("user", "mkdir -p keep; echo kept >keep/f; ln -s ../keep deep/link; ln -s /workspace/keep deep/abs; touch \"deep/$(printf 'a\\nb\\377')\"; chmod 000 deep");
        case.files("DELETE", "?path=deep&recursive=true", &[], b"").expect(200);
        assert_eq!(case.sh("user", "ls -A; cat keep/f"), "attack-files\nkeep\nkept");
        // While it is removed, entries are made in it from inside, and it is swapped with a link.
        for target in ["keep", "/workspace/keep"] {
            case.sh(
                "user",
                &format!("mkdir -p d/a/b; seq 500 | sed s,^,d/a/, | xargs touch; rm -f l; ln -s {target} l"),
            );
            std::thread::scope(|scope| {
                for words in [["fill", "1500", "d", ""], ["swap", "1500", "d", "l"]] {
                    let program = &program;
                    scope.spawn(move || {
                        let word = nonce();
                        let args: Vec<&str> =
                            [word.as_str()].into_iter().chain(words).filter(|w| !w.is_empty()).collect();
                        case.run("user", program, &args);
                    });
                }
                let end = Instant::now() + std::time::Duration::from_millis(1500);
                while Instant::now() < end {
                    let gone = case.files("DELETE", "?path=d&recursive=true", &[], b"");
                    assert!(matches!(gone.status, 200 | 404), "{}", gone.text());
                    case.sh("user", "mkdir -p d 2>/dev/null; true");
                }
            });
            assert_eq!(case.sh("user", "cat keep/f; rm -rf d l"), "kept");
        }
        // And the server's own removal of what a sandbox leaves.
        // It may be ended: a tree that deep counts as over the limit of the disk.
        let left = json!({"command": program, "args": [nonce(), "deep", "600", "left"]});
        case.run_in(&case.id, &left);
    });
}

#[test]
fn f09_a_file_that_changes_while_it_is_sent_is_cut_or_whole() {
    case::one(Starter::Root, json!({}), |case| {
        case.sh("user", "head -c 60000000 /dev/zero | tr '\\0' x >/workspace/f");
        let path = format!("/api/v1/sandboxes/{}/files?path=f", case.id);
        let headers = [("x-api-key", case.key.as_str()), RAW];
        let mut whole = 0;
        for change in ["truncate -s 100 f", "echo more >>f", "rm f", "echo other >g; mv g f", "true"] {
            case.sh("user", "cd /workspace; head -c 60000000 /dev/zero | tr '\\0' x >f");
            let got = std::thread::scope(|scope| {
                let get = scope.spawn(|| case.server.client().request("GET", &path, &headers, b""));
                case.sh("user", &format!("cd /workspace; {change}"));
                get.join().expect("the reader")
            });
            match got {
                Ok(answer) if answer.status == 200 => {
                    let length = answer.header("content-length").expect("a length").parse::<usize>().expect("a number");
                    assert_eq!(answer.body.len(), length, "as long as was said");
                    whole += usize::from(length >= 60_000_000);
                }
                Ok(answer) => drop(answer.expect_error(404, 3001)),
                // Cut: nobody takes it for the whole.
                Err(error) => assert!(
                    error.to_string().contains("closed") || error.kind() == std::io::ErrorKind::ConnectionReset,
                    "{error}"
                ),
            }
        }
        assert!(whole > 0);
        until("the server is well", 5, || case.server.try_request("GET", "/api/v1/health", &[], b"").is_ok());
    });
}
