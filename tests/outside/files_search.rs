//! What is found in a tree: the same lines and files, whether the server walks it on the host or a worker inside.

use crate::files::{Files, as_everyone};
use crate::kit::{Server, is_root, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn paths(found: &Value, place: &str) -> Vec<String> {
    let matches = found["matches"].as_array().expect("matches");
    let shown = |m: &Value| {
        let path = m["path"].as_str().expect("path");
        let below = path.strip_prefix(place).and_then(|path| path.strip_prefix('/'));
        format!("{}:{}", below.expect("a path below the place"), m["line"])
    };
    let mut paths: Vec<String> = matches.iter().map(shown).collect();
    paths.sort();
    paths
}

#[test]
fn lines_and_files_are_found_wherever_they_lie() {
    as_everyone(|server| {
        let files = Files::new(server);
        let answers = ["/workspace", "/dev/shm"].map(|place| found_in(&files, place));
        assert_eq!(answers[0], answers[1], "the same answers, word by word");
        files.sh("ln -s /dev/shm out; ln -s /workspace /dev/shm/back");
        let found = |path: &str| {
            let route = format!("/files/search?path={path}&pattern=three");
            files.server.get(&files.route(&route)).expect(200).json()["matches"].clone()
        };
        // A link is a way to a place, and is shown as it was named.
        assert_eq!(found("out/src")[0]["path"], "/workspace/out/src/a.rs");
        assert_eq!(found("/dev/shm/back/src")[0]["path"], "/dev/shm/back/src/a.rs");
        assert_eq!(found("/dev/shm/src/../src/a.rs")[0]["line"], 3);
    });
}

/// Every option in one place; all that was answered, the place left out.
fn found_in(files: &Files, place: &str) -> Vec<String> {
    let make = "mkdir -p src/deep .git; printf 'one\\nfn Main() {}\\nthree\\n' >src/a.rs; printf 'fn main' >src/deep/b.rs; echo 'fn main' >c.txt; \
        printf 'fn main\\0' >bin; echo 'fn main' >.git/x; ln -s /etc link; mkfifo p; ln -s . loop; head -c 3000000 /dev/zero | tr '\\0' m >long; \
        printf '\\303\\251 x\\377\\n' >\"$(printf 'caf\\351')\"; printf '\\377\\376w\\0i\\0d\\0e\\0' >utf16";
    files.sh(&format!("cd {place}; {make}"));
    let mut all = Vec::new();
    let mut ask = |query: &str| {
        let query = if query.contains("path=") { query.to_owned() } else { format!("{query}&path=.") };
        let query = query.replace("path=", &format!("path={place}/"));
        let answer = files.server.get(&files.route(&format!("/files/search?{query}")));
        let mut said = answer.json();
        if let Some(fields) = said.as_object_mut() {
            fields.remove("request_id");
        }
        if let Some(matches) = said["matches"].as_array_mut() {
            matches.sort_by_key(ToString::to_string);
        }
        all.push(format!("{query}: {} {said}", answer.status).replace(place, "PLACE"));
        answer
    };
    let mut search = |query: &str| ask(query).expect(200).json();
    assert_eq!(paths(&search("pattern=fn%20main"), place), ["c.txt:1", "src/deep/b.rs:1"]);
    let found = search("pattern=%5Efn%20m&ignore_case=true&glob=*.rs");
    assert_eq!(paths(&found, place), ["src/a.rs:2", "src/deep/b.rs:1"]);
    assert_eq!((&found["truncated"], &found["files_searched"]), (&json!(false), &json!(2)));
    assert_eq!(paths(&search("glob=src/*.rs"), place), ["src/a.rs:null"]);
    assert_eq!(paths(&search("glob=**/*.rs&path=src"), place), ["src/a.rs:null", "src/deep/b.rs:null"]);
    assert_eq!(paths(&search("pattern=main&hidden=true&path=.git"), place), [".git/x:1"]);
    assert_eq!(paths(&search("pattern=three&path=src/a.rs"), place), ["src/a.rs:3"]);
    assert_eq!(paths(&search("pattern=wide"), place), ["utf16:1"]);
    let odd = search("pattern=x&glob=caf*");
    let (path, text) = (odd["matches"][0]["path"].as_str(), odd["matches"][0]["text"].as_str());
    assert_eq!((path, text), (Some(&format!("{place}/caf\u{10efe9}")[..]), Some("é x\u{fffd}")));
    let cut = search("pattern=.&limit=1");
    assert_eq!((cut["matches"].as_array().map(Vec::len), &cut["truncated"]), (Some(1), &json!(true)));
    assert_eq!(search("path=src&limit=10000")["truncated"], false);
    for bad in ["pattern=(", "glob=%5B", "pattern=(a%7B1000%7D)%7B1000%7D", "limit=0", "limit=10001"] {
        ask(bad).expect_error(400, 1002);
    }
    ask("path=p&pattern=root").expect_error(400, 3005);
    ask("path=none&pattern=root").expect_error(404, 3001);
    ask("path=src/a.rs/&pattern=root");
    all
}

#[test]
fn a_search_inside_is_bounded_and_reads_what_the_user_may() {
    let server = Server::start();
    let files = Files::new(&server);
    let search = |query: &str| server.get(&files.route(&format!("/files/search?{query}")));
    // More lines than one message takes.
    files.sh("seq 100000 | sed 's/$/ a line of the file that is long enough to fill a message or two/' >/tmp/lines");
    let found = search("path=/tmp&pattern=^.*[05]%20a%20line&limit=10000").expect(200).json();
    assert_eq!((found["matches"].as_array().map(Vec::len), &found["truncated"]), (Some(10_000), &json!(true)));
    assert_eq!(found["matches"][9_999]["line"], 50_000);
    assert_eq!(search("path=/etc&pattern=^root:&glob=passwd").expect(200).json()["matches"][0]["path"], "/etc/passwd");
    // What can't be read is not looked at; what tells no length is read.
    files.sh("mkdir /tmp/shut; echo secret >/tmp/shut/f; chmod 0 /tmp/shut; echo secret >/tmp/open; echo secret >/tmp/no; chmod 0 /tmp/no");
    let found = search("path=/tmp&pattern=secret").expect(200).json();
    assert_eq!(paths(&found, "/tmp"), ["open:1"]);
    let found = search("path=/proc/self&pattern=NoNewPrivs&glob=status").expect(200).json();
    assert!(
        paths(&found, "/proc/self").contains(&"status:1".to_owned()) || found["matches"][0]["text"] == "NoNewPrivs:\t1",
        "{found}"
    );
    search("path=/tmp/shut&pattern=x").expect_error(403, 3003);
    // All of it, within the time.
    let begun = Instant::now();
    search("path=/&pattern=no%20such%20line%20anywhere&hidden=true").expect(200);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn trees_inside_are_asked_for_only_while_it_runs_and_end_with_their_worker() {
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let server = Server::builder().env("WORKSPACE_AGENT_TIMEOUT", "1").start();
    let files = Files::new(&server);
    let tar = ("Content-Type", "application/x-tar");
    let try_ask = |what: &str| match what {
        "up" => server.try_request("PUT", &files.route("/files/archive?path=/tmp/up"), &[tar], &[0; 1024]),
        what => server.try_request("GET", &files.route(&format!("/files/{what}")), &[], b""),
    };
    let ask = |what: &str| try_ask(what).expect("an answer");
    let all = ["search?path=/tmp&pattern=x", "archive?path=/tmp", "up"];
    files.sh("mkdir /tmp/d; seq 100 | sed s,^,/tmp/d/, | xargs touch");
    for what in all {
        ask(what).expect(200);
    }
    for signal in ["KILL", "STOP"] {
        let hunter = format!(
            "end=$((SECONDS+6)); while [ $SECONDS -lt $end ]; do pkill -{signal} -f '^/proc/self/exe files'; done"
        );
        server.post(&files.route("/process/start"), &json!({"command": "bash", "args": ["-c", hunter]})).expect(200);
        let (begun, mut disturbed) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(6) {
            for what in all {
                let asked = Instant::now();
                match try_ask(what) {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => match (answer.status, answer.json()["code"].as_u64()) {
                        (500, Some(4003)) | (503 | 504, _) => disturbed += 1,
                        (status, _) => panic!("{what}: {status}: {}", answer.text()),
                    },
                    // An archive that is cut: nobody takes it for a whole one.
                    Err(error) => {
                        assert!(what.starts_with("archive"), "{what}: {error}");
                        disturbed += 1;
                    }
                }
                assert!(asked.elapsed() < Duration::from_secs(8), "{what}: {:?}", asked.elapsed());
            }
        }
        assert!(disturbed > 0, "no worker was met by SIG{signal}");
    }
    for what in all {
        ask(what).expect(200);
    }
    until("workers are gone", 5, || files.sh("pgrep -cf '^/proc/self/exe files' || true").trim() == "0");
    // A sandbox whose first process has died is in error: its two trees are there, its own mounts are not.
    let agents: Vec<_> = server.own_processes().into_iter().filter(|process| process.is_init()).collect();
    for agent in &agents {
        agent.kill9();
    }
    let state = || server.get(&files.route("")).expect(200).json()["state"].clone();
    until("the sandbox is in error", 10, || state() == "error");
    for what in all {
        ask(what).expect_error(409, 2004);
    }
    server.get(&files.route("/files/archive")).expect(200);
}

/// A crowd that searches keeps nobody waiting who reads, lists or writes: searches have threads and a queue of their own.
#[test]
fn a_crowd_of_searches_delays_nobody_else() {
    let server = Server::start();
    let crowd = [Files::new(&server), Files::new(&server)];
    for files in &crowd {
        files.sh("seq 200000 | sed 's/$/ aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/' >lines; for n in $(seq 12); do ln lines l$n; done");
    }
    let files = Files::new(&server);
    let (ended, is_done) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for files in crowd.iter().flat_map(|files| [files; 4]) {
            let (ended, is_done) = (&ended, &is_done);
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    // Each line has to be looked at in many ways, and none is found.
                    let route = files.route("/files/search?pattern=(a%7C1)%7B20%2C60%7D%5B%5Ea%5D.*b");
                    let answer = files.server.try_request("GET", &route, &[], b"");
                    // On a slow machine the last ones may not be answered while their client waits.
                    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 200));
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = Done(&is_done);
        for round in 0..ROUNDS {
            files.put(&format!("d/{round}"), &[], b"x").expect(200);
            assert_eq!(files.list("path=d")["files"].as_array().map(|all| all.len() as u32), Some(round + 1));
            assert_eq!(files.get(&format!("d/{round}"), &[]).expect(200).json()["content"], "x");
        }
        drop(done);
        // Behind them in one queue, each of the three calls of a round would wait for several searches to end.
        let ended = ended.load(Ordering::Relaxed);
        assert!(ended < 3 * ROUNDS, "{ended} searches ended before {ROUNDS} rounds of others");
    });
}

const ROUNDS: u32 = 20;

/// Lets the crowd go, also where a round fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
