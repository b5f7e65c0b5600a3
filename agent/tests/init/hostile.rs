//! What somebody on the link or inside the sandbox may try against the agent.

use crate::client::{Client, command, shell};
use crate::kit::{Options, SANDBOX_ID, with};
use std::io::Write;
use std::time::{Duration, Instant};
use workspace_proto::agent::{HelloReply, HelloRequest, ListReply, ListRequest};
use workspace_proto::{PROTOCOL, method};

#[test]
fn bytes_that_are_no_http2_end_their_link_and_nothing_else() {
    with(Options::default(), async |mut sandbox| {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
        let endless = [&[0u8, 0, 8, 6, 0, 0, 0, 0, 0], [0u8; 8].as_slice()].concat().repeat(2000);
        let bad: [Vec<u8>; 6] = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0xff; 100_000],
            [preface, &[0xff; 9]].concat(),
            [preface, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
            [preface, &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
            [preface, &endless].concat(),
        ];
        let mut first = sandbox.raw_link();
        let _ = first.write_all(&bad[0]);
        for bytes in &bad {
            let mut stream = sandbox.connect_raw().await;
            let _ = stream.write_all(bytes);
            drop(stream);
        }
        for cut in 0..preface.len() {
            let mut stream = sandbox.connect_raw().await;
            let _ = stream.write_all(&preface[..cut]);
        }
        let mut client = sandbox.connect().await;
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
    });
}

#[test]
fn hello_comes_first_and_is_checked() {
    with(Options::default(), async |mut sandbox| {
        let mut client = Client::silent(sandbox.raw_link()).await;
        assert_eq!(client.start(&command(&["true"])).await.err(), Some(9));
        assert_eq!(client.call::<_, ListReply>(method::LIST, &ListRequest {}).await.err(), Some(9));
        let hello = |protocol, id: &str| HelloRequest { protocol, sandbox_id: id.to_owned() };
        let other = hello(PROTOCOL + 1, SANDBOX_ID);
        assert_eq!(client.call::<_, HelloReply>(method::HELLO, &other).await.err(), Some(9));
        let other = hello(PROTOCOL, "another");
        assert_eq!(client.call::<_, HelloReply>(method::HELLO, &other).await.err(), Some(7));
        let none = "/workspace.agent.v1.Agent/None";
        assert_eq!(client.call::<_, HelloReply>(none, &other).await.err(), Some(9));
        let right = hello(PROTOCOL, SANDBOX_ID);
        assert_eq!(client.call::<_, HelloReply>(method::HELLO, &right).await.unwrap().sandbox_id, SANDBOX_ID);
        assert_eq!(client.call::<_, HelloReply>(none, &other).await.err(), Some(12));
        assert_eq!(client.run(&command(&["true"])).await.exited.exit_code, 0);
    });
}

#[test]
fn a_spawner_that_is_killed_is_made_again_and_in_the_end_done_without() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        for round in 0..12 {
            let mut request = shell("kill -9 -1; sleep 0.1");
            request.root = true;
            client.run(&request).await;
            assert_eq!(client.shell("echo alive").await.text(), "alive\n", "round {round}");
        }
        let status = client.run(&command(&["cat", "/proc/self/status"])).await.text();
        for line in ["Uid:\t1000\t1000", "CapBnd:\t0000000000000000", "Seccomp:\t2", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line} in {status}");
        }
        let missing = client.run(&command(&["no-such-command"])).await;
        assert_eq!(missing.exited.exit_code, 127);
    });
}

#[test]
fn a_spawner_that_is_stopped_is_replaced_at_once() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        client.shell("true").await;
        for _ in 0..2 {
            let script = "for f in /proc/[0-9]*; do [ \"$(cat $f/comm)\" = spawner ] && kill -STOP ${f#/proc/}; done; echo stopped";
            let mut request = shell(script);
            request.root = true;
            assert_eq!(client.run(&request).await.text(), "stopped\n");
            let start = Instant::now();
            assert_eq!(client.shell("echo alive").await.text(), "alive\n");
            assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        }
        // The stopped ones are gone.
        assert_eq!(sandbox.others().len(), 1);
    });
}

#[test]
fn a_full_sandbox_still_runs_what_cleans_it_up() {
    with(Options { pids: Some(30), ..Options::default() }, async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let bomb = client.start(&shell("while :; do sleep 1000 & done 2>/dev/null")).await.unwrap();
        let start = Instant::now();
        while sandbox.others().len() < 29 {
            assert!(start.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let start = Instant::now();
        assert_eq!(client.run(&command(&["echo", "alive"])).await.text(), "alive\n");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        bomb.cancel();
        let start = Instant::now();
        while sandbox.others().len() > 1 {
            assert!(start.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(client.run(&command(&["true"])).await.exited.exit_code, 0);
    });
}

#[test]
fn nobody_inside_reaches_the_agent() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "for s in $(seq 1 64); do kill -$s 1 2>/dev/null; done; \
                      cat /proc/1/environ /proc/1/maps /proc/1/mem 2>&1 | grep -vc denied; \
                      ls /proc/1/fd /proc/1/cwd/ /proc/1/root/ 2>&1 | grep -vc denied; \
                      renice -n 5 1 2>/dev/null && echo reniced; prlimit --pid 1 --nofile=3:3 2>/dev/null && echo limited; \
                      taskset -p 1 1 >/dev/null 2>&1 && echo bound; echo 1000 2>/dev/null > /proc/1/oom_score_adj && echo scored; \
                      for f in /proc/[0-9]*; do p=${f#/proc/}; [ \"$(cat $f/comm)\" = spawner ] && ls $f/fd 2>&1 | grep -vc denied; done; true";
        for root in [false, true] {
            let mut request = shell(script);
            request.root = root;
            let text = client.run(&request).await.text();
            assert_eq!(text, "0\n0\n0\n", "root: {root}");
        }
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
    });
}

#[test]
fn too_many_commands_are_refused_and_the_others_run_on() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut running = Vec::new();
        for _ in 0..1024 {
            running.push(client.start(&command(&["sleep", "1000"])).await.unwrap());
        }
        assert_eq!(client.start(&command(&["true"])).await.err(), Some(8));
        running.pop().unwrap().cancel();
        let start = Instant::now();
        while client.start(&command(&["true"])).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
