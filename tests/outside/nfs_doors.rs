//! Is it one tree that two clients of NFS, HTTP and the processes inside work on at once?
//!
//! What a client has in its cache is its own: of two that write one file at the same moment, each may go on seeing its
//! own bytes until the file changes again, whatever the server (RFC 1813, 4.11; Linux takes the attributes behind its own
//! WRITE for its own change). So what the server serves is asked by a client that knows nothing yet, and what the other
//! two see is compared once all was changed behind the last of the writers.

use crate::kit::nfs_guest::{self, Guest};
use crate::kit::{Server, turn};
use serde_json::json;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 6;
const ROUND_S: u64 = 10;

/// Prints a tree, a line each: kind, mode, owner, size, sum of the bytes, name. What is opened is asked of the server.
const TREE: &str = r"
import hashlib, os, stat
def tree(top):
    lines = []
    for at, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(at, name)
            s, sum = os.lstat(path), ''
            if stat.S_ISREG(s.st_mode):
                with open(path, 'rb') as f: s, sum = os.fstat(f.fileno()), hashlib.sha256(f.read()).hexdigest()
            elif stat.S_ISLNK(s.st_mode): sum = os.readlink(path)
            size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
            lines.append(f'{s.st_mode:o} {s.st_uid} {s.st_gid} {size} {sum} {os.path.relpath(path, top)}')
    return '\n'.join(sorted(lines))
";

/// Makes, renames, links, reads and removes in a tree that others work on, for so many seconds.
const WORK: &str = r"
import os, random, time
def work(top, mark, seconds):
    end, done = time.time() + seconds, 0
    rng = random.Random()
    while time.time() < end:
        d = f'{top}/d{rng.randrange(8)}'
        a, b = (f'{d}/{mark if rng.random() < 0.7 else rng.choice(MARKS)}{rng.randrange(20)}' for _ in '12')
        try:
            match rng.randrange(7):
                case 0: os.makedirs(d, exist_ok=True)
                case 1 | 2:
                    with open(a, 'wb') as f: f.write(rng.randbytes(rng.randrange(40000)))
                case 3: os.rename(a, b)
                case 4: open(a, 'rb').read()
                case 5: os.link(a, b)
                case 6: os.unlink(a)
            done += 1
        except OSError as error:
            if error.errno not in (2, 17, 21, 116): raise
    return done
MARKS = ['a', 'b', 'p', 'h']
";

/// Changes everything, and nothing that is compared.
const TOUCH: &str = r"
import os
for at, names, files in os.walk('/workspace'):
    for name in names + files: os.utime(os.path.join(at, name))
os.utime('/workspace')
";

/// The work and the views of three clients: `a` and `b` stay mounted, `c` comes anew to each round's end.
const CLIENTS: &str = r"
import subprocess, sys
def wait(name):
    while not os.path.exists(shared + '/' + name): time.sleep(0.05)
def show(door, n):
    open(f'{shared}/new', 'w').write(tree('/mnt/' + door))
    os.rename(f'{shared}/new', f'{shared}/tree-{door}{n}')
def user_works(door):
    if os.fork() > 0: return
    os.setgroups([]); os.setgid(1000); os.setuid(1000)
    print(work('/mnt/' + door, door, seconds), 'by', door, flush=True)
    os._exit(0)
shared = sys.argv[1]
for n in range(rounds):
    open(f'{shared}/begun{n}', 'w').close()
    for door in 'ab': user_works(door)
    assert os.wait()[1] == 0 and os.wait()[1] == 0
    open(f'{shared}/worked{n}', 'w').close()
    wait(f'quiet{n}')
    subprocess.run(['nfs-mount', port, export, '/mnt/c', 'nosharecache'], check=True)
    show('c', n)
    subprocess.run(['umount', '/mnt/c'], check=True)
    wait(f'touched{n}')
    for door in 'ab': show(door, n)
";

#[test]
fn all_doors_lead_to_one_tree() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.start();
    let id = server.create(json!({}));
    let script = format!(
        r#"nfs-mount {port} /{id} /mnt/a && nfs-mount {port} /{id} /mnt/b nosharecache && exec python3 - "$1" <<'E'
port, export, rounds, seconds = '{port}', '/{id}', {ROUNDS}, {ROUND_S}
{TREE}{WORK}{CLIENTS}
E"#
    );
    let mut guest = Guest::start(&server, port, &script);
    for n in 0..ROUNDS {
        guest.until(&format!("begun{n}"));
        std::thread::scope(|scope| {
            scope.spawn(|| works_inside(&server, &id));
            works_by_http(&server, &id);
        });
        guest.until(&format!("worked{n}"));
        guest.tell(&format!("quiet{n}"));
        let inside = python(&server, &id, &format!("{TREE}print(tree('/workspace'))"));
        assert!(inside.lines().count() > 50, "{inside}");
        for line in inside.lines() {
            assert_eq!(line.split(' ').nth(1), Some("1000"), "{line}");
        }
        let shared = guest.shared.clone();
        let mut same = |door: &str| {
            let name = format!("tree-{door}{n}");
            guest.until(&name);
            assert_same(door, &fs::read_to_string(shared.join(name)).expect("a tree"), &inside);
        };
        same("c");
        // HTTP's own view: what it packs has the same sums.
        assert_same("HTTP", &sums(&packed(&server, &id, &shared)), &sums(&inside));
        python(&server, &id, TOUCH);
        fs::write(shared.join(format!("touched{n}")), "").expect("tell");
        ["a", "b"].into_iter().for_each(&mut same);
    }
    println!("{}", guest.finish());
}

/// Prints what a script prints inside.
fn python(server: &Server, id: &str, script: &str) -> String {
    let ended = server.run(id, json!({"command": "python3", "args": ["-c", script]}));
    assert_eq!(ended["exit_code"], 0, "{ended}");
    ended["stdout"].as_str().expect("stdout").trim_end().to_owned()
}

fn works_inside(server: &Server, id: &str) {
    let done = python(server, id, &format!("{WORK}print(work('/workspace', 'p', {ROUND_S}))"));
    println!("{done} by p");
}

fn works_by_http(server: &Server, id: &str) {
    let files = format!("/api/v1/sandboxes/{id}/files");
    let (end, mut n) = (Instant::now() + Duration::from_secs(ROUND_S), 0_usize);
    let form = &[("content-type", "application/octet-stream")];
    let fine = |status: u16| assert!(matches!(status, 200 | 400 | 404 | 409), "{status}");
    while Instant::now() < end {
        n += 1;
        let path = |n: usize| format!("d{}/{}{}", n % 8, ["h", "a", "b", "p"][n % 4], n % 20);
        let bytes = vec![n as u8; n % 30_000];
        fine(server.request("PUT", &format!("{files}?path={}", path(n)), form, &bytes).status);
        let renamed = json!({"source": path(n), "destination": path(n * 7 + 1), "overwrite": true});
        fine(server.post(&format!("{files}/move"), &renamed).status);
        fine(server.request("GET", &format!("{files}?path={}&encoding=base64", path(n * 3)), &[], b"").status);
        fine(server.request("DELETE", &format!("{files}?path={}", path(n * 5 + 2)), &[], b"").status);
    }
    println!("{n} rounds by h");
}

#[track_caller]
fn assert_same(door: &str, seen: &str, inside: &str) {
    let only = |here: &str, there: &str| -> Vec<String> {
        here.lines().filter(|line| !there.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    let (more, less) = (only(seen, inside), only(inside, seen));
    assert!(seen == inside, "{door} alone sees {more:#?}, and does not see {less:#?}");
}

/// The tree that HTTP packs, by the server's host.
fn packed(server: &Server, id: &str, shared: &std::path::Path) -> String {
    let archive = format!("/api/v1/sandboxes/{id}/files/archive?path=/workspace");
    let (tar, unpacked) = (shared.join("all.tar"), shared.join("unpacked"));
    fs::write(&tar, &server.request("GET", &archive, &[], b"").expect(200).body).expect("tar");
    fs::create_dir(&unpacked).expect("unpacked");
    let status = Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&unpacked).status();
    assert!(status.expect("tar").success());
    let script = format!("{TREE}import sys\nprint(tree(sys.argv[1]))");
    let seen = Command::new("python3").args(["-c", &script]).arg(&unpacked).output().expect("python3");
    fs::remove_dir_all(unpacked).expect("unpacked");
    String::from_utf8_lossy(&seen.stdout).into_owned()
}

/// Without kinds, modes and owners.
fn sums(tree: &str) -> String {
    let mut sums: Vec<&str> = tree.lines().map(|line| line.splitn(4, ' ').last().unwrap_or("")).collect();
    sums.sort_unstable();
    sums.join("\n")
}
