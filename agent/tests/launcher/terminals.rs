//! Do terminals work in a sandbox as the launcher makes it: on its own devpts, with its ids and its filter?

use crate::assert_nothing_is_left;
use crate::client::{Client, command};
use crate::kit::{DataDir, Launcher, OWNER_ID, is_root, plan};
use crate::viewer::bash;
use std::fs;
use std::os::unix::net::UnixStream;

fn terminals_of_the_host() -> u32 {
    fs::read_to_string("/proc/sys/kernel/pty/nr").unwrap().trim().parse().unwrap()
}

#[test]
fn terminals_work_as_user_and_as_root() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    let stream = UnixStream::connect(data.path.join("run").join(&sandbox.id).join("sock")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::greet(stream, &sandbox.id).await;
        for root in [false, true] {
            let mut request = bash();
            request.root = root;
            let pty = client.open(request).await.unwrap();
            let mut viewer = client.attach(pty.id).await.unwrap();
            viewer.until("$ ").await;
            viewer.keys("tty; stat -c '%u:%g %a' $(tty); echo named > $(tty); ls -d /dev/ptmx; stty size\r");
            viewer.until("/dev/pts/0\r\n").await;
            viewer.until(if root { "0:5 620\r\n" } else { "1000:5 620\r\n" }).await;
            viewer.until("named\r\n/dev/ptmx\r\n24 80\r\n").await;
            viewer.keys("script -qec 'tty' /dev/null; exit 3\r");
            viewer.until("/dev/pts/1\r\n").await;
            assert_eq!(viewer.exited().await.exit_code, 3);
        }
        // All that the sandbox may have, and no more, are taken from the host's.
        let before = terminals_of_the_host();
        let hog = "import os,sys\nl=[]\nwhile True:\n  try: l.append(os.open('/dev/ptmx',2))\n  except OSError: break\n\
                   print('has',len(l),flush=True)\nsys.stdin.read()";
        let pty = client.open(command(&["python3", "-c", hog])).await.unwrap();
        client.attach(pty.id).await.unwrap().until("has 63\r\n").await;
        assert!(terminals_of_the_host() <= before + 64 + 8);
        assert_eq!(client.open(bash()).await, Err(8));
        client.close(pty.id).await.unwrap();
        let pty = client.open(bash()).await.unwrap();
        client.close(pty.id).await.unwrap();
    });
    launcher.destroy(&sandbox.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}
