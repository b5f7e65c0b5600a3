//! Is an export what a real kernel's client takes for a file system: by its POSIX checks, over a restart, and with other
//! doors to the same tree open?

use crate::kit::{
    needs_root,
    nfs_guest::{self, Guest},
    turn,
};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

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
