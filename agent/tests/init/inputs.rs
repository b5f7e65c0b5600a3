//! What callers send to a started command, as fast as it reads.

use crate::client::{command, shell};
use crate::follower::{From, started};
use crate::kit::{Options, with};
use bytes::Bytes;
use std::time::{Duration, Instant};
use workspace_proto::agent::StartRequest;

fn with_stdin(argv: &[&str]) -> StartRequest {
    StartRequest { keep_stdin: true, ..started(command(argv)) }
}

#[test]
fn stdin_comes_in_order_up_to_its_end() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut request = with_stdin(&["cat"]);
        request.run.as_mut().unwrap().stdin = Bytes::from_static(b"first ");
        let process = client.launch(&request).await;
        for word in ["second ", "", "third "] {
            client.input(process.pid, word.as_bytes(), false).await.unwrap();
        }
        let big = vec![b'x'; 1 << 20];
        client.input(process.pid, &big, false).await.unwrap();
        client.input(process.pid, b" last", true).await.unwrap();
        assert_eq!(client.input(process.pid, b"more", false).await.err(), Some(9));
        let follower = client.follow_to_end(process.pid, 0).await;
        let expected = [b"first second third ".as_slice(), &big, b" last"].concat();
        assert!(follower.of(From::Out) == expected);
        assert_eq!(client.input(process.pid, b"more", false).await.err(), Some(9));
    });
}

#[test]
fn without_keep_stdin_the_first_input_is_the_last() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut request = started(command(&["cat"]));
        request.run.as_mut().unwrap().stdin = Bytes::from_static(b"all");
        let process = client.launch(&request).await;
        assert_eq!(client.input(process.pid, b"more", false).await.err(), Some(9));
        assert_eq!(client.follow_to_end(process.pid, 0).await.text(), "all");
        let process = client.launch(&started(shell("readlink /proc/$$/fd/0"))).await;
        assert_eq!(client.follow_to_end(process.pid, 0).await.text(), "/dev/null\n");
    });
}

#[test]
fn what_is_not_read_is_refused_after_a_while_and_nothing_of_it_is_taken() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let process = client.launch(&with_stdin(&["sh", "-c", "sleep 16; wc -c"])).await;
        client.input(process.pid, &[b'x'; 1 << 20], false).await.unwrap();
        let start = Instant::now();
        // More than may wait for their turn: those beyond are refused at once.
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { (client.input(process.pid, b"lost", false).await, start.elapsed()) })
            })
            .collect();
        let mut late = 0;
        for waiting in waiting {
            let (result, took) = waiting.await.unwrap();
            assert_eq!(result.err(), Some(8));
            late += usize::from(took > Duration::from_secs(9));
        }
        assert_eq!(late, 16);
        assert!(start.elapsed() < Duration::from_secs(15));
        assert_eq!(client.input(process.pid, &[b'x'; (1 << 20) + 1], false).await.err(), Some(3));
        client.input(process.pid, b"ok", true).await.unwrap();
        let follower = client.follow_to_end(process.pid, 0).await;
        assert_eq!(follower.text().trim(), ((1 << 20) + 2).to_string());
    });
}

#[test]
fn a_command_that_closes_its_stdin_or_ends_takes_no_more() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let process = client.launch(&with_stdin(&["sh", "-c", "exec <&-; echo closed; sleep 1000"])).await;
        client.follow(process.pid, 0).await.unwrap().step_until("closed").await;
        // The first one finds out.
        let _ = client.input(process.pid, b"x", false).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(client.input(process.pid, b"x", false).await.err(), Some(9));
        client.signal(process.pid, 9).await.unwrap();
        // A call that waits for its turn is told of the end.
        let process = client.launch(&with_stdin(&["sleep", "1000"])).await;
        client.input(process.pid, &[b'x'; 1 << 20], false).await.unwrap();
        let mut waiter = client.clone();
        let waiting = tokio::spawn(async move { waiter.input(process.pid, b"x", false).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.signal(process.pid, 9).await.unwrap();
        assert_eq!(waiting.await.unwrap().err(), Some(9));
    });
}
