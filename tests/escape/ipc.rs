//! N17 to N19: queues, Unix sockets and the network of the host and of neighbours are not there.

use crate::case;
use crate::program::{Lines, Program, nonce, program};
use crate::weak::{Control, Weak, must_succeed};
use serde_json::json;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

const IPC: Program = program!("ipc");
const UNIX: Program = program!("unix");
const NETWORK: Program = program!("network");

#[test]
fn n17_queues_of_others_are_not_there() {
    if crate::kit::needs_root() {
        return;
    }
    let control = Control::of(IPC);
    let key = format!("{:x}", 0x4000_0000 | std::process::id());
    let on_host = |what: &str| {
        let nonce = nonce();
        let output = Command::new(control.path("attack")).args([&nonce, what, &key]).output().expect("run");
        Lines::parse(IPC, &nonce, &String::from_utf8_lossy(&output.stdout)).complete()
    };
    on_host("make").expect_all("", &["ok"]);
    let attacked = std::panic::catch_unwind(|| {
        case::each(|case| {
            let path = case.build(IPC);
            let nonce = nonce();
            // The neighbour makes the same with the same program, from its own /workspace.
            let body = json!({"command": "cc", "args": crate::program::compiler_args("/tmp/ipc"), "stdin": IPC.source});
            assert_eq!(case.run_in(&case.neighbour, &body).expect(200).json()["exit_code"], 0);
            let body = json!({"command": "/tmp/ipc", "args": [nonce, "make", "5eed0002"]});
            let made = case.run_in(&case.neighbour, &body).expect(200).json();
            Lines::parse(IPC, &nonce, made["stdout"].as_str().expect("stdout")).complete().expect_all("", &["ok"]);
            assert!(path.starts_with("/workspace"));
            for &user in case.users() {
                for key in [&key, "5eed0002"] {
                    let lines = case.attack(IPC, user, &["look", key]);
                    for step in ["shm", "sem", "msg", "mq"] {
                        lines.expect(step, &["ENOENT"]);
                    }
                    lines.expect("listed", &["0"]);
                    lines.expect("own", &["ok"]);
                }
            }
            assert_eq!(case.sh("user", "ls -A /dev/shm; ls -A /dev/mqueue 2>/dev/null || true"), "");
        });
    });
    let shared = control.run(Weak::Plain, &["look", &key]);
    on_host("remove");
    if let Err(panic) = attacked {
        std::panic::resume_unwind(panic);
    }
    must_succeed(shared, "System V queues", |lines| lines.any_ok(&["shm"]) && lines.any_ok(&["mq", "msg"]));
}

#[test]
fn n18_unix_sockets_of_the_host_are_not_reached() {
    if crate::kit::needs_root() {
        return;
    }
    let name = format!("escape-{}", nonce());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("listen");
    let abstract_name = format!("@{name}");
    case::each(|case| {
        let data = case.server.data_dir().to_string_lossy().into_owned();
        let agents = format!("{data}/run/{}/sock", case.id);
        for &user in case.users() {
            let names = [
                abstract_name.as_str(),
                &agents,
                "/run/docker.sock",
                "/var/run/docker.sock",
                "/run/dbus/system_bus_socket",
                "/run/systemd/private",
            ];
            let lines = case.attack(UNIX, user, &names);
            lines.expect(&abstract_name, &["ECONNREFUSED"]);
            for path in &names[1..] {
                lines.expect(path, &["ENOENT", "EACCES", "ECONNREFUSED"]);
            }
            assert!(lines.get("table").ends_with(" reached 0"), "{lines:?}");
            let sockets = case.run(
                user,
                "/bin/sh",
                &["-c", "find / -xdev -type s 2>/dev/null; find /usr /workspace /tmp /dev -type s 2>/dev/null"],
            );
            assert_eq!(sockets["stdout"], "", "sockets in the sandbox's tree");
        }
    });
    let control = Control::of(UNIX).run(Weak::Bubblewrap(&["--share-net"]), &[&abstract_name]);
    must_succeed(control, "abstract names of the host", |lines| lines.any_ok(&[&abstract_name]));
}

#[test]
fn n19_the_hosts_network_is_not_there() {
    if crate::kit::needs_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port().to_string();
    case::each(|case| {
        let http = case.server.address().port().to_string();
        let mut targets: Vec<String> = Vec::new();
        let outward = own_address();
        for address in ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1"].into_iter().chain(outward.as_deref()) {
            for port in [http.as_str(), &port, "22", "2049", "2375", "9090"] {
                targets.extend([address.to_owned(), port.to_owned()]);
            }
        }
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        for &user in case.users() {
            let lines = case.attack(NETWORK, user, &targets);
            lines.expect_all(
                "connect_",
                &["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"],
            );
            lines.expect("bind_to_device", &["ENODEV", "EPERM"]);
            let interfaces: Vec<&str> = lines.get("interfaces").trim_start_matches('=').split_whitespace().collect();
            assert_eq!(interfaces, ["lo"]);
            lines.expect("routes", &["0"]);
            lines.expect("own_server", &["ok"]);
        }
    });
    let control = Control::of(NETWORK).run(Weak::Bubblewrap(&["--share-net"]), &["127.0.0.1", &port]);
    must_succeed(control, "the host's loopback", |lines| lines.any_ok(&[&format!("connect_127.0.0.1_{port}")]));
}

/// The host's address on its default route, where it has one; nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then(|| address.to_string())
}
