//! Is an export what a real kernel's client takes for a file system: by its POSIX checks, over a restart, and with other
//! doors to the same tree open?

use crate::kit::{
    needs_root,
    nfs_guest::{self, Guest},
    turn,
};
use serde_json::json;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const ALL_DOORS_S: u64 = 60;

#[test]
fn the_kernels_client_passes_its_checks() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.env("WORKSPACE_NFS_CLIENTS", "trusted").start();
    let id = server.create(json!({"resources": {"disk_bytes": 20_u64 << 30}}));
    let check = Command::new(nfs_guest::kit("check")).args([&port.to_string(), &format!("/{id}")]).output();
    let check = check.expect("check");
    let (printed, errors) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    println!("{printed}");
    assert!(check.status.success() && printed.contains(" 0 failed"), "{}\n{printed}\n{errors}", check.status);
}

/// What the client was told to be on disk is there, and a program that has a file open notices a pause, no more.
#[test]
fn a_mounted_client_goes_on_over_restarts() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let mut server = builder.start();
    let id = server.create(json!({}));
    let script = format!(
        r#"nfs-mount {port} /{id} /mnt/a && exec python3 - "$1" <<'E'
import os, sys
shared = sys.argv[1]
kept = open('/mnt/a/kept', 'w')
n = 0
while not os.path.exists(shared + '/stop'):
    with open(f'/mnt/a/f{{n}}', 'w') as f:
        f.write(f'{{n}}\n' * 100)
        f.flush()
        os.fsync(f.fileno())
    kept.write(f'{{n}}\n')
    kept.flush()
    os.fsync(kept.fileno())
    os.rename(f'/mnt/a/f{{n}}', f'/mnt/a/g{{n}}')
    n += 1
    open(f'{{shared}}/done{{n}}', 'w').close()
kept.close()
print('wrote', n)
E"#
    );
    let mut guest = Guest::start(&server, port, &script);
    let mut done = 0;
    let mut goes_on = |what: &str| {
        let goal = done + 20;
        println!("{what}");
        guest.until(&format!("done{goal}"));
        while guest.has(&format!("done{}", done + 1)) {
            done += 1;
        }
    };
    goes_on("at first");
    server.kill9_server();
    goes_on("after a SIGKILL to the server");
    server.kill9_all();
    server.restart();
    goes_on("after a SIGKILL to all");
    server.stop();
    server.restart();
    goes_on("after a SIGTERM");
    guest.tell("stop");
    let printed = guest.finish();
    let wrote: usize = printed.trim().strip_prefix("wrote ").and_then(|n| n.parse().ok()).expect("how many");
    assert!(wrote >= 80, "{wrote}");
    let lines = |from: &str| server.sh(&id, from);
    assert_eq!(lines("wc -l <kept"), wrote.to_string());
    assert_eq!(lines("ls | grep -c '^g'"), wrote.to_string());
    assert_eq!(lines("cat g* | wc -l"), (100 * wrote).to_string());
    assert_eq!(lines("ls -A | grep -vc '^[gk]'; true"), "0", "no name is left over");
}

#[test]
fn a_deleted_sandbox_is_stale_to_who_has_mounted_it() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    let script = format!(
        r#"nfs-mount {port} /{id} /mnt/a noac && nfs-mount {port} /{other} /mnt/b && exec python3 - "$1" <<'E'
import errno, os, sys, time
shared = sys.argv[1]
kept = open('/mnt/a/kept', 'w')
kept.write('x')
kept.flush()
os.fsync(kept.fileno())
open(shared + '/mounted', 'w').close()
while not os.path.exists(shared + '/deleted'):
    time.sleep(0.1)
def stale(what, call):
    try:
        call()
    except OSError as error:
        assert error.errno == errno.ESTALE, (what, error)
        print(what, 'is stale')
    else:
        raise SystemExit(what + ' goes on')
time.sleep(1)
stale('list', lambda: os.listdir('/mnt/a'))
stale('make', lambda: open('/mnt/a/new', 'w'))
stale('write', lambda: (kept.write('y'), kept.flush(), os.fsync(kept.fileno())))
open('/mnt/b/well', 'w').close()
E"#
    );
    let mut guest = Guest::start(&server, port, &script);
    guest.until("mounted");
    server.delete(&id);
    guest.tell("deleted");
    assert_eq!(guest.finish(), "list is stale\nmake is stale\nwrite is stale\n");
    assert_eq!(server.sh(&other, "ls"), "well");
}

/// Prints a tree, a line each: kind, mode, owner, size, sum of the bytes, name.
const TREE: &str = r"
import hashlib, os, stat
def tree(top):
    lines = []
    for at, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(at, name)
            s = os.lstat(path)
            sum = hashlib.sha256(open(path, 'rb').read()).hexdigest() if stat.S_ISREG(s.st_mode) else os.readlink(path) if stat.S_ISLNK(s.st_mode) else ''
            size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
            lines.append(f'{s.st_mode:o} {s.st_uid} {s.st_gid} {size} {sum} {os.path.relpath(path, top)}')
    return '\n'.join(sorted(lines))
";

/// Makes, renames, links, reads and removes in a tree that others work on, for so many seconds.
const WORK: &str = r"
import os, random, time
def work(top, mark, seconds):
    end, done = time.time() + seconds, 0
    rng = random.Random(mark)
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

#[test]
fn all_doors_lead_to_one_tree() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.start();
    let id = server.create(json!({}));
    let user = "import os; os.setgroups([]); os.setgid(1000); os.setuid(1000)";
    let script = format!(
        r#"nfs-mount {port} /{id} /mnt/a && nfs-mount {port} /{id} /mnt/b nosharecache && exec python3 - "$1" <<'E'
{TREE}{WORK}
import subprocess, sys
shared = sys.argv[1]
open(shared + '/mounted', 'w').close()
if os.fork() == 0:
    {user}
    print(work('/mnt/b', 'b', {ALL_DOORS_S}), 'by b', flush=True)
    os._exit(0)
if os.fork() == 0:
    {user}
    print(work('/mnt/a', 'a', {ALL_DOORS_S}), 'by a', flush=True)
    os._exit(0)
assert os.wait()[1] == 0 and os.wait()[1] == 0
open(shared + '/worked', 'w').close()
while not os.path.exists(shared + '/quiet'):
    time.sleep(0.1)
time.sleep(4) # Names and attributes of the client's are kept for at most 3 s on a tree that changes.
for door in 'ab':
    subprocess.run(['mount', '-o', 'remount', '/mnt/' + door], check=False)
    open(f'{{shared}}/tree-{{door}}', 'w').write(tree('/mnt/' + door))
E"#
    );
    let mut guest = Guest::start(&server, port, &script);
    guest.until("mounted");
    let inside = format!("{TREE}{WORK}print(work('/workspace', 'p', {ALL_DOORS_S}))");
    let files = format!("/api/v1/sandboxes/{id}/files");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = server.run(&id, json!({"command": "python3", "args": ["-c", inside]}));
            assert_eq!(ended["exit_code"], 0, "{ended}");
            println!("{} by p", ended["stdout"]);
        });
        let (end, mut n) = (Instant::now() + Duration::from_secs(ALL_DOORS_S), 0_usize);
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
    });
    guest.until("worked");
    guest.tell("quiet");
    let shared = guest.shared.clone();
    println!("{}", guest.finish());
    let seen = |door: &str| fs::read_to_string(shared.join(format!("tree-{door}"))).expect("a tree");
    let inside =
        server.sh(&id, &format!("cat >/tmp/t.py <<'E'\n{TREE}print(tree('/workspace'))\nE\npython3 /tmp/t.py"));
    assert!(inside.lines().count() > 50, "{inside}");
    assert_eq!(seen("a"), inside);
    assert_eq!(seen("b"), inside);
    for line in inside.lines() {
        assert_eq!(line.split(' ').nth(1), Some("1000"), "{line}");
    }
    // HTTP's own view: what it packs has the same sums.
    let packed = server.request("GET", &format!("{files}/archive?path=/workspace"), &[], b"").expect(200);
    let unpacked = shared.join("unpacked");
    fs::create_dir_all(&unpacked).expect("unpacked");
    fs::write(shared.join("all.tar"), &packed.body).expect("tar");
    let tar = Command::new("tar").arg("-xf").arg(shared.join("all.tar")).arg("-C").arg(&unpacked).status();
    assert!(tar.expect("tar").success());
    let script = format!("{TREE}import sys\nprint(tree(sys.argv[1]))");
    let http = Command::new("python3").args(["-c", &script]).arg(&unpacked).output().expect("python3");
    let sums = |tree: &str| -> Vec<String> {
        let mut sums: Vec<String> =
            tree.lines().map(|line| line.splitn(4, ' ').last().unwrap_or("").to_owned()).collect();
        sums.sort();
        sums
    };
    assert_eq!(sums(&String::from_utf8_lossy(&http.stdout)), sums(&inside));
}

/// NFSv3 has no keys: only who may connect is asked.
#[test]
fn only_listed_addresses_are_served() {
    if needs_root() {
        return;
    }
    let (builder, _) = nfs_guest::server();
    let server = builder.env("WORKSPACE_NFS_ALLOW", "10.213.0.0/16").start();
    let id = server.create(json!({}));
    let mut refused = std::net::TcpStream::connect(server.nfs_address()).expect("connect");
    refused.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    let read = std::io::Read::read(&mut refused, &mut [0; 1]);
    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    assert_eq!(server.sh(&id, "echo well"), "well");
}
