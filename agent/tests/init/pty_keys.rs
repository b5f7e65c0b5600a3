//! What somebody at a terminal sees: keys, jobs, sizes, names.

use crate::client::shell;
use crate::kit::{Options, with};
use crate::viewer::bash;
use workspace_proto::agent::{ExitReason, PtyOpenRequest, pty_attach_request::Message};
use workspace_proto::method;

#[test]
fn a_key_comes_back_and_a_shell_answers() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.terminal().await;
        assert_eq!((viewer.pty.id, viewer.pty.cols, viewer.pty.rows), (1, 80, 24));
        assert_eq!(viewer.pty.command, "bash");
        viewer.keys("e");
        viewer.until("e").await;
        viewer.keys("cho $((6*7))\r");
        viewer.until("42\r\n$ ").await;
        viewer.keys("exit 7\r");
        let exited = viewer.exited().await;
        assert_eq!((exited.exit_code, exited.signal, exited.reason()), (7, 0, ExitReason::Exited));
        assert!(exited.duration_us > 0 && !exited.truncated);
    });
}

#[test]
fn a_shell_controls_its_jobs() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.terminal().await;
        assert!(!viewer.text().contains("no job control"), "{}", viewer.text());
        viewer.keys("sleep 100\r");
        viewer.until("sleep 100\r\n").await;
        // The shell has to hand the terminal over first.
        while !client.shell("grep -l '^sleep' /proc/[0-9]*/comm 2>/dev/null").await.text().contains("comm") {}
        viewer.keys("\x1a");
        viewer.until("Stopped").await;
        viewer.until("$ ").await;
        viewer.keys("fg\r");
        viewer.until("sleep 100\r\n").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        viewer.keys("\x03");
        viewer.until("^C").await;
        viewer.until("$ ").await;
        viewer.keys("echo $?\r");
        viewer.until("130\r\n").await;
        viewer.keys("sleep 100 & jobs; kill %1; wait; echo over\r");
        viewer.until("Running").await;
        viewer.until("over\r\n").await;
    });
}

#[test]
fn sizes_are_told_and_the_last_one_wins() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "stty size; trap 'stty size' WINCH; echo ready; while :; do read line; done";
        let mut first = client.watch(script).await;
        first.until("24 80\r\n").await;
        first.until("ready\r\n").await;
        let mut second = client.attach(first.pty.id).await.unwrap();
        first.size(100, 30);
        first.until("30 100\r\n").await;
        second.size(4096, 1);
        first.until("1 4096\r\n").await;
        client.resize(first.pty.id, 132, 43).await.unwrap();
        second.until("43 132\r\n").await;
        assert_eq!((client.ptys().await[0].cols, client.ptys().await[0].rows), (132, 43));
        assert_eq!(client.attach(first.pty.id).await.unwrap().pty.cols, 132);
        for (cols, rows) in [(0, 1), (1, 0), (4097, 1), (1, 4097), (u32::MAX, 65_537)] {
            assert_eq!(client.resize(first.pty.id, cols, rows).await, Err(3));
            let request = PtyOpenRequest { run: Some(shell("true")), cols, rows };
            assert_eq!(client.call::<_, workspace_proto::agent::Pty>(method::PTY_OPEN, &request).await, Err(3));
        }
        second.size(0, 0);
        assert_eq!(loop_to_status(&mut second).await, 3);
    });
}

async fn loop_to_status(viewer: &mut crate::viewer::Viewer) -> u16 {
    loop {
        match viewer.event().await {
            Ok(Some(_)) => {}
            Ok(None) => return 0,
            Err(code) => return code,
        }
    }
}

#[test]
fn characters_of_many_bytes_are_one_key() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.watch("echo ready; read line; printf '<%s>\\n' \"$line\"").await;
        viewer.until("ready\r\n").await;
        // Backspace takes the whole last character.
        viewer.keys("größe 漢字🦀é\x7f\x7f🙂\r");
        viewer.until("<größe 漢字🙂>\r\n").await;
    });
}

#[test]
fn a_terminal_belongs_to_whom_it_serves() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "read line; tty; stat -c '%u:%g %a' $(tty); echo named > $(tty); mesg y; mesg; echo held > /dev/tty; \
                      test -t 0 -a -t 1 -a -t 2 && echo three; ls -m /proc/$$/fd; \
                      cut -d' ' -f5,6,8 /proc/$$/stat; echo $$; exec script -qec 'echo nested' /dev/null";
        for root in [false, true] {
            let mut request = shell(script);
            request.root = root;
            let pty = client.open(request).await.unwrap();
            let mut viewer = client.attach(pty.id).await.unwrap();
            viewer.keys("\r");
            viewer.exited().await;
            let text = viewer.text();
            let lines: Vec<&str> = text.lines().skip(1).collect();
            assert!(lines[0].starts_with("/dev/pts/"), "{text}");
            let owner = if root { "0:5 620" } else { "1000:5 620" };
            assert_eq!(lines[1..7], [owner, "named", "is y", "held", "three", "0, 1, 2"], "{text}");
            // Group, session and foreground group are its own.
            let pid = pty.pid.to_string();
            assert_eq!((lines[7], lines[8]), (format!("{pid} {pid} {pid}").as_str(), pid.as_str()), "{text}");
            assert_eq!(lines[9], "nested", "{text}");
        }
    });
}

#[test]
fn with_one_id_terminals_work_as_well() {
    with(Options { single_id: true, ..Options::default() }, async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.watch("read line; tty; id -u; echo x > $(tty)").await;
        viewer.keys("\r");
        viewer.exited().await;
        assert!(viewer.text().ends_with("\r\n1000\r\nx\r\n"), "{}", viewer.text());
        let mut request = shell("true");
        request.root = true;
        assert_eq!(client.open(request).await, Err(9));
    });
}

#[test]
fn programs_that_cannot_run_leave_no_terminal() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.watch("read line").await;
        viewer.keys("\r");
        assert_eq!(viewer.exited().await.exit_code, 0);
        let fds = sandbox.agent_fds();
        for _ in 0..3 {
            for (program, code) in [("no-such-shell", 5), ("/no/such", 5), ("/etc/passwd", 9), ("/tmp", 9)] {
                assert_eq!(client.open(crate::client::command(&[program])).await, Err(code), "{program}");
            }
            let mut request = bash();
            request.cwd = "/root".into();
            assert_eq!(client.open(request.clone()).await, Err(9));
            request.cwd = "/no/such".into();
            assert_eq!(client.open(request.clone()).await, Err(5));
            request.cwd = "/tmp".into();
            request.args = vec![vec![b'x'; 200 << 10].into()];
            assert_eq!(client.open(request).await, Err(11));
        }
        assert_eq!(client.ptys().await, []);
        assert_eq!(sandbox.agent_fds(), fds);
    });
}

#[test]
fn what_is_no_message_ends_its_viewer_only() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut viewer = client.terminal().await;
        let id = viewer.pty.id;
        for bad in [
            Message::Input(bytes::Bytes::new()),
            Message::Input(vec![b'x'; (64 << 10) + 1].into()),
            Message::Attach(workspace_proto::agent::PtyViewer { id }),
        ] {
            let mut other = client.attach(id).await.unwrap();
            other.say(bad);
            assert_eq!(loop_to_status(&mut other).await, 3);
        }
        assert_eq!(client.attach(id + 1).await.err(), Some(5));
        assert_eq!((client.close(0).await, client.resize(9, 1, 1).await), (Err(5), Err(5)));
        viewer.keys("echo alive\r");
        viewer.until("\r\nalive\r\n").await;
    });
}
