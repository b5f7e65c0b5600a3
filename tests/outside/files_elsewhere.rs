//! Places that only a running sandbox's own mounts have: reached by the same routes, as the commands' user.

use super::files::{Files, as_everyone, escape};
use crate::kit::{Server, is_root};
use serde_json::json;
use std::time::{Duration, Instant};

const RAW: (&str, &str) = ("Accept", "application/octet-stream");

#[test]
fn every_place_is_read_as_a_process_inside_reads_it() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.sh("mkdir d; ln -s ../../etc/hostname up; ln -s /etc/hostname abs; ln -s /tmp out; ln -s /tmp/loop /tmp/loop; mkfifo /tmp/p; echo -n in >/tmp/x");
        let name = files.sh("cat /etc/hostname");
        for path in [
            "/etc/hostname",
            "up",
            "abs",
            "../etc/hostname",
            "/workspace/../etc/hostname",
            "../../../../../../etc/hostname",
            "/home/../etc/hostname",
            "/home/user/../../etc//./hostname",
            "/proc/self/root/etc/hostname",
            "/proc/self/cwd/etc/hostname",
        ] {
            let read = files.get(path, &[]).expect(200).json();
            assert_eq!(read["content"].as_str().map(str::trim_end), Some(name.trim_end()), "{path}");
        }
        assert_eq!(files.get("out/x", &[RAW]).expect(200).text(), "in");
        // What tells no length is read to its end.
        let text = files.get("/proc/self/status", &[RAW]).expect(200).text();
        assert!(text.contains("\nCapEff:\t0000000000000000\n") && text.contains("\nNoNewPrivs:\t1\n"), "{text}");
        for (path, status, code) in [
            ("/etc/none", 404, 3001),
            ("/tmp/x/y", 400, 3005),
            ("/tmp/x/", 400, 3005),
            ("/tmp", 400, 3007),
            ("/", 400, 3007),
            ("/tmp/loop", 400, 3004),
            ("/tmp/p", 400, 3004),
            ("/dev/null", 400, 3004),
            ("/dev/tty", 400, 3004),
            ("/proc/self/fd/0", 400, 3004),
            ("/proc/1/environ", 403, 3003),
            ("/proc/1/root/etc/hostname", 403, 3003),
        ] {
            let asked = Instant::now();
            files.get(path, &[]).expect_error(status, code);
            files.get(path, &[RAW]).expect_error(status, code);
            assert!(asked.elapsed() < Duration::from_secs(5), "{path}");
        }
        let top = files.list("path=/");
        let names: Vec<&str> =
            top["files"].as_array().expect("files").iter().filter_map(|f| f["path"].as_str()).collect();
        assert!(names.contains(&"/tmp") && names.contains(&"/workspace") && names.is_sorted(), "{names:?}");
        assert_eq!(files.info("/dev/null").expect(200).json()["type"], "other");
        assert_eq!(files.info("/tmp/loop").expect(200).json()["symlink_target"], "/tmp/loop");
    });
}

#[test]
fn what_is_written_elsewhere_is_whole_and_the_users() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.put("/tmp/a/b/f", &[], b"one").expect(200);
        assert_eq!(files.sh("cat /tmp/a/b/f; stat -c ' %a' /tmp/a /tmp/a/b/f; ls -A /tmp/a/b"), "one 755\n 644\nf");
        assert_eq!(files.info("/tmp/a/b/f").expect(200).json()["owner"], "user");
        files.sh("chmod 751 /tmp/a/b/f; ln -s /tmp/made /workspace/dangling; mkfifo /tmp/p");
        files.put("/tmp/a/b/f", &[], b"two").expect(200);
        files.put("dangling", &[], b"by a link").expect(200);
        assert_eq!(files.sh("stat -c %a /tmp/a/b/f; cat /tmp/made"), "751\nby a link");
        files.put("/tmp/p", &[], b"x").expect_error(400, 3004);
        files.put("/tmp/a", &[], b"x").expect_error(400, 3007);
        for path in ["/etc/new", "/usr/bin/new", "/proc/new"] {
            files.put(path, &[], b"x").expect_error(403, 3003);
        }
        // Conditions, and what is added.
        files.put("/tmp/c", &[("If-None-Match", "*")], b"1").expect(200);
        files.put("/tmp/c", &[("If-None-Match", "*")], b"2").expect_error(412, 3009);
        let tag = files.get("/tmp/c", &[]).expect(200).json()["etag"].as_str().expect("tag").to_owned();
        let tag = format!("\"{tag}\"");
        files.put("/tmp/c", &[("If-Match", &tag)], b"3").expect(200);
        files.put("/tmp/c", &[("If-Match", &tag)], b"4").expect_error(412, 3009);
        let append = files.route("/files?path=/tmp/c&append=true");
        server.request("PUT", &append, &[("Content-Type", "application/octet-stream")], b"45").expect(200);
        let part = files.get("/tmp/c", &[RAW, ("Range", "bytes=1-2")]);
        assert_eq!((part.status, part.text()), (206, "45".to_owned()));
        // Larger than every window and buffer; then larger than the place.
        let big: Vec<u8> = (0..40_000_000_u32).map(|n| (n >> 3) as u8).collect();
        files.put("/dev/shm/big", &[], &big).expect(200);
        assert!(files.get("/dev/shm/big", &[RAW]).expect(200).body == big);
        let full = vec![0; 280 << 20];
        files.put("/tmp/c", &[], &full).expect_error(507, 3008);
        assert_eq!(files.get("/tmp/c", &[RAW]).expect(200).text(), "345");
        assert_eq!(files.sh("find /tmp /dev/shm -name '.workspace-*'"), "");
    });
}

#[test]
fn trees_go_between_places_whole() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.sh("mkdir -p /tmp/t/d; echo -n 1 >/tmp/t/d/f; chmod 640 /tmp/t/d/f; ln -s d/f /tmp/t/l; truncate -s 1T /workspace/sparse");
        let way = |source: &str, destination: &str| json!({"source": source, "destination": destination});
        files.post("move", way("/tmp/t", "t")).expect(200);
        assert_eq!(files.sh("cat t/l; stat -c ' %a' t/d/f; ls -A /tmp; ls -A"), "1 640\nsparse\nt");
        files.post("copy", way("t", "/tmp/u")).expect(200);
        files.post("copy", way("t", "/tmp/u")).expect_error(409, 3002);
        files.post("copy", way("/tmp/u", "/tmp/u/d/in")).expect_error(400, 3004);
        files.post("move", way("/tmp/u", "/tmp/u/d/in")).expect_error(400, 3004);
        files.post("copy", way("/tmp/u", "/tmp/u")).expect_error(409, 3002);
        files.post("copy", way("sparse", "/tmp/sparse")).expect(200);
        assert_eq!(files.info("/tmp/sparse").expect(200).json()["size"], 1_u64 << 40);
        let pages: Vec<String> = {
            let (mut all, mut next) = (Vec::new(), String::new());
            loop {
                let page = files.list(&format!("path=/tmp&depth=9&limit=2{next}"));
                all.extend(page["files"].as_array().expect("files").iter().map(|f| f["path"].to_string()));
                let Some(cursor) = page["next_cursor"].as_str() else { break all };
                next = format!("&cursor={}", escape(cursor));
            }
        };
        let whole = ["/tmp/sparse", "/tmp/u", "/tmp/u/d", "/tmp/u/d/f", "/tmp/u/l"].map(|path| format!("\"{path}\""));
        assert_eq!(pages, whole);
        files.sh("mkfifo /tmp/u/p");
        files.post("move", way("/tmp/u", "v")).expect_error(400, 3004);
        files.post("copy", way("/tmp/u", "v")).expect(200);
        assert_eq!(files.sh("ls -A v /tmp/u; ls -A"), "/tmp/u:\nd\nl\np\n\nv:\nd\nl\nsparse\nt\nv");
        files.sh("d=/tmp/deep; mkdir $d; cd $d; for i in $(seq 1500); do mkdir a; cd a; done; mkdir /tmp/deep/shut; touch /tmp/deep/shut/f; chmod 0 /tmp/deep/shut");
        files.remove("/tmp/deep", false).expect_error(400, 3006);
        files.remove("/tmp/deep", true).expect(200);
        files.remove("/tmp/u", true).expect(200);
        files.remove("/tmp/none", true).expect_error(404, 3001);
        files.remove("/tmp", true).expect_error(403, 3003);
        files.post("mkdir", json!({"path": "/tmp/m/n", "recursive": true})).expect(200);
        files.post("mkdir", json!({"path": "/tmp/m/n", "recursive": true})).expect(200);
        files.post("mkdir", json!({"path": "/tmp/m"})).expect_error(409, 3002);
        files.post("mkdir", json!({"path": "/etc/m", "recursive": true})).expect_error(403, 3003);
        assert_eq!(files.sh("ls -A /tmp"), "m\nsparse");
    });
}

#[test]
fn who_kills_or_stops_a_worker_gets_errors_and_nothing_else() {
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let server = Server::builder().env("WORKSPACE_AGENT_TIMEOUT", "1").start();
    let files = Files::new(&server);
    for signal in ["KILL", "STOP"] {
        let hunter = format!(
            "end=$((SECONDS+6)); while [ $SECONDS -lt $end ]; do pkill -{signal} -f '^/proc/self/exe files'; done"
        );
        server.post(&files.route("/process/start"), &json!({"command": "bash", "args": ["-c", hunter]})).expect(200);
        let (begun, mut disturbed) = (Instant::now(), 0);
        let body = vec![7; 4 << 20];
        while begun.elapsed() < Duration::from_secs(6) {
            let put = files.put("/tmp/f", &[], &body);
            match put.status {
                200 => {}
                500 => disturbed += u32::from(put.json()["code"] == 4003),
                503 | 504 => disturbed += 1,
                status => panic!("{status}: {}", put.text()),
            }
            // The file is whole, or not there.
            let size = files.sh("stat -c %s /tmp/f 2>/dev/null || echo 4194304");
            assert_eq!(size.trim(), "4194304");
        }
        assert!(disturbed > 0, "no worker was met by SIG{signal}");
    }
    files.put("/tmp/f", &[], b"again").expect(200);
    assert_eq!(files.get("/tmp/f", &[RAW]).expect(200).text(), "again");
    // Nothing of them is left.
    crate::kit::until("workers are gone", 5, || files.sh("pgrep -cf '^/proc/self/exe files' || true").trim() == "0");
}
