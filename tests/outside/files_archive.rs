//! Trees as archives: what GNU tar packs comes up whole, what goes down GNU tar unpacks, and hostile ones leave nothing.

use crate::files::{Files, as_everyone};
use crate::kit::{Response, Server};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

const TAR: (&str, &str) = ("Content-Type", "application/x-tar");
const BLOCK: usize = 512;

fn up(files: &Files, path: &str, archive: &[u8]) -> Response {
    files.server.request("PUT", &files.route(&format!("/files/archive?path={path}")), &[TAR], archive)
}

/// One entry: name, kind, body or target.
fn entry(name: &[u8], kind: u8, body: &[u8], target: &[u8]) -> Vec<u8> {
    let mut head = vec![0; BLOCK];
    head[..name.len()].copy_from_slice(name);
    head[100..107].copy_from_slice(b"0006755");
    head[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    head[156] = kind;
    head[157..157 + target.len()].copy_from_slice(target);
    head[257..265].copy_from_slice(b"ustar\x0000");
    summed(head, body)
}

fn summed(mut head: Vec<u8>, body: &[u8]) -> Vec<u8> {
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend_from_slice(body);
    head.resize(head.len().next_multiple_of(BLOCK), 0);
    head
}

#[test]
fn a_tree_comes_up_and_goes_down_whole() {
    as_everyone(|server| {
        for place in ["/workspace", "/tmp"] {
            whole_in(&Files::new(server), place);
        }
    });
}

/// Where commands of the sandbox work, and where only its own mounts lead.
fn whole_in(files: &Files, place: &str) {
    let sh = |script: &str| files.sh(&format!("cd {place}; {script}"));
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    let make = format!(
        "mkdir -p s/{} s/empty; cd s; echo long >{long}; printf '#!/bin/sh\\necho ran' >x; chmod 755 x; \
        ln -s x link; ln x hard; ln -s /etc/passwd out; head -c 700000 /dev/zero >big; touch -d 2001-02-03 big; \
        touch \"$(printf 'caf\\351')\"; mkfifo fifo",
        "d".repeat(120)
    );
    sh(&make);
    let down = files.server.get(&files.route(&format!("/files/archive?path={place}/s"))).expect(200);
    assert_eq!(down.header("content-type"), Some("application/x-tar"));
    assert_eq!(down.header("content-disposition"), Some("attachment; filename*=UTF-8''s.tar"));
    let mut tar =
        Command::new("tar").args(["-tvf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tar");
    let mut to = tar.stdin.take().expect("stdin");
    let archive = down.body.clone();
    let feed = std::thread::spawn(move || to.write_all(&archive));
    let listed = tar.wait_with_output().expect("tar");
    feed.join().expect("feed").expect("feed");
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("2001-02-03"));
    let done = up(files, &format!("{place}/t/deep"), &down.body).expect(200).json();
    assert_eq!((&done["entries"], &done["bytes"]), (&json!(9), &json!(700_000 + 5 + 18 + 18)));
    let look = |dir: &str| {
        sh(&format!(
            "cd {dir}; find . ! -type p ! -name . -printf '%p %y %m %u %s %l\\n' | sed 's/ d \\([0-7]*\\) user [0-9]*/ d \\1/' | sort; cat {long}"
        ))
    };
    assert_eq!(look("s"), look("t/deep"));
    assert_eq!(sh("./t/deep/link"), "ran");
    // Again over itself, and beside what was there.
    sh("echo mine >t/deep/mine; echo changed >t/deep/x");
    up(files, &format!("{place}/t/deep"), &down.body).expect(200);
    assert_eq!(sh("cat t/deep/mine; ./t/deep/x"), "mine\nran");
    sh("rm t/deep/big; mkdir t/deep/big; echo old >t/deep/x");
    up(files, &format!("{place}/t/deep"), &down.body).expect_error(409, 3002);
    assert_eq!(sh("cat t/deep/x"), "old", "what does not fit changes nothing");
}

#[test]
fn hundreds_of_small_files_go_in_one_request() {
    let server = Server::start();
    let files = Files::new(&server);
    let one = |n: usize| entry(format!("many/{n}").as_bytes(), b'0', format!("file {n}").as_bytes(), b"");
    let archive: Vec<u8> = (0..600).flat_map(one).collect();
    let started = std::time::Instant::now();
    // Without the two blocks that end it, as some writers leave it.
    assert_eq!(up(&files, "", &archive).expect(200).json()["entries"], 600);
    println!("600 files in one request: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    for n in 0..60 {
        files.put(&format!("single/{n}"), &[], format!("file {n}").as_bytes()).expect(200);
    }
    println!("60 files one by one: {:?}", started.elapsed());
    let look = "ls many | wc -l; cat many/599; stat -c %a:%u many/7";
    assert_eq!(files.sh(look), "600\nfile 599755:1000");
    let started = std::time::Instant::now();
    assert_eq!(up(&files, "/tmp/up", &archive).expect(200).json()["entries"], 600);
    println!("600 files in one request into /tmp: {:?}", started.elapsed());
    assert_eq!(files.sh(&format!("cd /tmp/up; {look}; ls -A /tmp")), "600\nfile 599755:1000\nup");
}

#[test]
fn a_hostile_archive_is_refused_and_leaves_nothing() {
    as_everyone(|server| {
        let files = Files::new(server);
        // Where the host's walk leads, and where only a worker inside comes.
        let places = ["/workspace/place", "/dev/shm/place"];
        for place in places {
            files.sh(&format!("mkdir {place}; cd {place}; echo kept >f; ln -s /etc link; mkdir d"));
        }
        let seen = || {
            files.sh(
                "find /workspace /dev/shm -printf '%p %y %s %l %m\\n' | sort; cat /workspace/place/f /dev/shm/place/f",
            )
        };
        let before = seen();
        let f = |name: &[u8]| entry(name, b'0', b"evil", b"");
        let pax = |record: &[u8]| entry(b"pax", b'x', record, b"");
        let mut negative = vec![0; BLOCK];
        negative[..1].copy_from_slice(b"n");
        negative[124..136].fill(0xff);
        negative[156] = b'0';
        let mut wrong_sum = f(b"w");
        wrong_sum[0] = b'v';
        let big_pax = entry(b"pax", b'x', &vec![b'x'; 70_000], b"");
        let archives: Vec<(&str, Vec<u8>)> = vec![
            ("absolute", f(b"/workspace/evil")),
            ("up", f(b"../evil")),
            ("up inside", f(b"a/../../evil")),
            ("pax path", [pax(b"15 path=../../e\n"), f(b"x")].concat()),
            ("through a link", [entry(b"l", b'2', b"", b"/tmp"), f(b"l/evil")].concat()),
            ("through a relative link", [entry(b"l", b'2', b"", b".."), f(b"l/evil")].concat()),
            ("through two links", [entry(b"a", b'2', b"", b"b"), entry(b"b", b'2', b"", b"/"), f(b"a/evil")].concat()),
            ("directory over a link", [entry(b"l", b'2', b"", b"/etc"), entry(b"l", b'5', b"", b"")].concat()),
            ("hard link outside", entry(b"h", b'1', b"", b"/etc/passwd")),
            ("hard link up", entry(b"h", b'1', b"", b"../place/f")),
            (
                "hard link through a link",
                [entry(b"l", b'2', b"", b"/etc"), entry(b"h", b'1', b"", b"l/passwd")].concat(),
            ),
            ("hard link to a link", [entry(b"l", b'2', b"", b"/etc/passwd"), entry(b"h", b'1', b"", b"l")].concat()),
            ("hard link to what is in place", entry(b"h", b'1', b"", b"f")),
            ("file over a directory", [entry(b"d/x", b'0', b"", b""), f(b"d")].concat()),
            ("below a file", [f(b"f"), f(b"f/x")].concat()),
            ("device", entry(b"dev", b'4', b"", b"")),
            ("fifo", entry(b"p", b'6', b"", b"")),
            ("sparse", entry(b"s", b'S', b"x", b"")),
            ("pax sparse", [pax(b"22 GNU.sparse.major=1\n"), f(b"s")].concat()),
            ("negative size", summed(negative, b"")),
            ("wrong sum", wrong_sum),
            ("cut", entry(b"cut", b'0', &[b'x'; 2000], b"")[..1024].to_vec()),
            ("pax size", [pax(b"20 size=99999999999\n"), f(b"x")].concat()),
            ("long head", big_pax),
            ("in place: through its link", f(b"link/evil")),
            ("in place: file over directory", f(b"d")),
        ];
        for (what, archive) in archives {
            // Something good before it, so that half of it could be seen.
            let archive = [f(b"good"), archive].concat();
            let [host, inside] = places.map(|place| {
                let answer = up(&files, place, &archive);
                assert!(matches!(answer.status, 400 | 409), "{what}: {} {}", answer.status, answer.text());
                answer.assert_error_form();
                assert_eq!(seen(), before, "{what}");
                answer.json()["message"].as_str().expect("a message").replace(place, "")
            });
            assert_eq!(host, inside, "{what}: refused in the same words");
        }
        // What one writer means for another file: the last one stands, and no bits that give rights.
        for place in places {
            up(&files, place, &[f(b"twice"), entry(b"twice", b'0', b"second", b"")].concat()).expect(200);
            assert_eq!(files.sh(&format!("cd {place}; cat twice; stat -c %a twice")), "second755");
        }
        let limit = server.create(json!({"resources": {"disk_bytes": 4 << 20}}));
        let small = Files { server, id: limit };
        let zeros = entry(b"zeros", b'0', &vec![0; 3 << 20], b"");
        up(&small, "", &zeros).expect_error(507, 3008);
        assert_eq!(small.sh("ls -A"), "");
        // Elsewhere it is the place that is full: all of it is taken away again before the answer.
        let full = entry(b"full/zeros", b'0', &vec![0; 270 << 20], b"");
        up(&files, "/tmp/new", &full).expect_error(507, 3008);
        assert_eq!(files.sh("ls -A /tmp"), "");
    });
}
