//! What somebody inside may try against terminals, their own and others'.

use crate::client::{Client, command};
use crate::kit::{Options, with};
use crate::viewer::Viewer;
use std::time::{Duration, Instant};
use workspace_proto::agent::RunRequest;

/// `python3` with `script`, which finds `call(fd, request, argument)` -> errno or 0.
fn python(script: &str) -> RunRequest {
    let call = "import ctypes, os, platform\n\
                libc = ctypes.CDLL(None, use_errno=True)\n\
                number = {'x86_64': 16, 'aarch64': 29}[platform.machine()]\n\
                def call(fd, request, argument=None):\n    \
                    done = libc.syscall(ctypes.c_long(number), ctypes.c_int(fd), ctypes.c_ulong(request), argument)\n    \
                    return ctypes.get_errno() if done < 0 else 0\n";
    command(&["python3", "-c", &format!("{call}{script}")])
}

async fn on_terminal(client: &mut Client, mut request: RunRequest, root: bool) -> Viewer {
    request.root = root;
    let pty = client.open(request).await.unwrap();
    client.attach(pty.id).await.unwrap()
}

/// TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, plain and with bit 32 set; TIOCGWINSZ as a control.
const INJECT: &str = "\
byte = ctypes.byref(ctypes.c_int(0x41))\n\
for request in (0x5412, 0x541C, 0x541D, 0x5423):\n  \
    for bit in (0, 1 << 32): print(call(fd, request | bit, byte), end=' ')\n\
size = ctypes.create_string_buffer(8)\n\
print('control', call(fd, 0x5413, size), flush=True)\n";

#[test]
fn nobody_types_into_a_terminal_from_inside() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for root in [false, true] {
            let own = python(&format!("input()\nfd = 0\n{INJECT}"));
            let mut viewer = on_terminal(&mut client, own, root).await;
            viewer.keys("\r");
            viewer.until("1 1 1 1 1 1 1 1 control 0\r\n").await;
            viewer.exited().await;
            // A command of Run on somebody's terminal.
            let mut victim = client.terminal().await;
            victim.keys("tty\r");
            let tty = victim.until("/dev/pts/").await.len();
            assert!(tty > 0);
            let number = victim.until("\r\n").await;
            let mut other = python(&format!("fd = os.open('/dev/pts/{number}', os.O_RDWR | os.O_NOCTTY)\n{INJECT}"));
            other.root = root;
            assert_eq!(client.run(&other).await.text(), "1 1 1 1 1 1 1 1 control 0\n");
            victim.keys("echo untouched\r");
            victim.until("\r\nuntouched\r\n").await;
            client.close(victim.pty.id).await.unwrap();
        }
    });
}

#[test]
fn nobody_takes_a_terminal_of_another_session() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut victim = client.terminal().await;
        victim.keys("tty\r");
        victim.until("/dev/pts/").await;
        let number = victim.until("\r\n").await;
        // 0: ask for it, 1: steal it; also the foreground group of a terminal that is not ours.
        let take = format!(
            "fd = os.open('/dev/pts/{number}', os.O_RDWR | os.O_NOCTTY)\n\
             group = ctypes.byref(ctypes.c_int(os.getpgrp()))\n\
             print(call(fd, 0x540E, 0), call(fd, 0x540E, 1), call(fd, 0x5410, group), flush=True)\n\
             print(os.path.exists('/dev/tty') and call(os.open('/dev/tty', os.O_RDWR), 0x5413, None))\n"
        );
        for root in [false, true] {
            let mut request = python(&take);
            request.root = root;
            let taken = client.run(&request).await;
            assert_eq!(taken.text(), "1 1 25\n", "{}", taken.errors());
            // No controlling terminal at all.
            assert!(taken.errors().contains("No such device or address"), "{}", taken.errors());
        }
        victim.keys("echo untouched\r");
        victim.until("\r\nuntouched\r\n").await;
    });
}

#[test]
fn a_terminal_of_root_is_closed_to_the_user() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut request = crate::viewer::bash();
        request.root = true;
        let mut viewer = on_terminal(&mut client, request, true).await;
        viewer.keys("tty\r");
        viewer.until("/dev/pts/").await;
        let number = viewer.until("\r\n").await;
        let denied = client.shell(&format!("cat /dev/pts/{number}; echo x > /dev/pts/{number}")).await;
        assert_eq!(denied.errors().matches("ermission denied").count(), 2, "{}", denied.errors());
    });
}

#[test]
fn a_program_that_hangs_its_terminal_up_ends_like_any_other() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        // Gives it up, then floods it until somebody closes it.
        let flood = python(
            "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\ninput()\ncall(0, 0x5422)\nwhile True: os.write(1, b'x' * 4096)\n",
        );
        let mut viewer = on_terminal(&mut client, flood, false).await;
        viewer.keys("\r");
        viewer.until(&"x".repeat(100_000)).await;
        let id = viewer.pty.id;
        let looking = tokio::spawn(async move { viewer.exited().await });
        client.close(id).await.unwrap();
        assert_eq!(looking.await.unwrap().reason(), workspace_proto::agent::ExitReason::Canceled);
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
    });
}

#[test]
fn a_terminal_that_is_opened_again_and_again_ends_with_its_program() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let open = "trap '' HUP; while : <> $T; do :; done; sleep 1000";
        let script = format!(
            "read line; export T=$(tty); for i in 1 2 3; do setsid sh -c \"{open}\" 0<&- 1>&- 2>&- & done; \
                              sleep 0.2; exit 3"
        );
        for _ in 0..5 {
            let mut viewer = client.watch(&script.replace("$T", "\\$T")).await;
            viewer.keys("\r");
            let start = Instant::now();
            assert_eq!(viewer.exited().await.exit_code, 3);
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        }
        assert_eq!(client.ptys().await, []);
    });
}
