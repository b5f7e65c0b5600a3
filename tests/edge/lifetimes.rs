//! Who waits for whom, how long, and what ends with whom: keep-alive, pipelining, slow and vanished clients, the stop.

use crate::kit::{Client, Driver, EDGE, Server, eventually, get, post, waiting};
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};
use workspace_server::http::{Deadlines, Settings};

fn sandbox(letter: char) -> String {
    format!("/sandboxes/{}/wait", letter.to_string().repeat(32))
}

fn quick() -> Settings {
    let ms = Duration::from_millis;
    let deadlines = Deadlines {
        head: ms(300),
        body: ms(300),
        body_total: ms(900),
        idle: ms(400),
        write: ms(300),
        linger: ms(200),
        heartbeat: Duration::from_millis(100),
        drain: ms(500),
    };
    Settings { deadlines, ..Settings::default() }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::with(driver, Settings::default(), EDGE);
        let mut client = server.client();
        let many: String = (0..2000).map(|i| get(&format!("/echo?text={i}"))).collect();
        let mut sender = client.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(many.as_bytes()).unwrap());
        for i in 0..2000 {
            assert_eq!(client.answer().json()["text"], i.to_string());
        }
        sending.join().unwrap();
        client.send(post(&sandbox('b'), "{\"ms\":50}") + &get("/echo?text=after"));
        assert_eq!(client.answer().json(), 50);
        assert_eq!(client.answer().json()["text"], "after", "the next request is not the end of the stream");
    }
}

#[test]
fn earlier_answers_do_not_wait_for_a_slow_one() {
    let server = Server::start();
    let mut client = server.client();
    client.send(get("/echo") + &post(&sandbox('c'), "{\"ms\":600000}"));
    assert_eq!(client.answer().status, 200);
    eventually("the slow one runs", || waiting(b'c') == 1);
    drop(client);
    eventually("it ends with its client", || waiting(b'c') == 0);
}

/// A client that leaves, politely or not, ends its command; one that only sends more does not.
#[test]
fn a_command_ends_with_its_client() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::with(driver, Settings::default(), EDGE);
        let leave: [fn(&mut Client); 3] = [
            |client| client.stream.shutdown(Shutdown::Both).unwrap(),
            |client| client.stream.shutdown(Shutdown::Write).unwrap(),
            // With bytes unread, a close is a reset.
            |client| client.send(get("/echo").repeat(4000)),
        ];
        for (i, leave) in leave.iter().enumerate() {
            let mut client = server.client();
            client.send(post(&sandbox('d'), "{\"ms\":600000}"));
            eventually("it runs", || waiting(b'd') == 1);
            client.send(get("/echo"));
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(waiting(b'd'), 1, "the next request is not the end of the stream");
            leave(&mut client);
            if i == 2 {
                std::thread::sleep(Duration::from_millis(50));
                assert_eq!(waiting(b'd'), 1);
                drop(client);
            }
            eventually("it ends", || waiting(b'd') == 0);
        }
    }
}

#[test]
fn an_operation_that_must_finish_does() {
    let server = Server::start();
    let mut client = server.client();
    client.send(post(&sandbox('e').replace("wait", "finish"), "{\"ms\":300}"));
    eventually("it runs", || waiting(b'e') == 1);
    drop(client);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(waiting(b'e'), 1);
    eventually("it finishes", || waiting(b'e') == 0);
}

#[test]
fn calls_at_once_on_one_sandbox_are_bounded() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(post(&sandbox('f'), "{\"ms\":600000}"));
    }
    eventually("four run", || waiting(b'f') == 4);
    let (answer, closed) = server.ask(post(&sandbox('f'), "{\"ms\":0}"));
    assert_eq!((answer.status, answer.code(), answer.field("retry-after"), closed), (429, 1006, Some("1"), false));
    assert_eq!(server.ask(post(&sandbox('g'), "{\"ms\":0}")).0.status, 200, "another sandbox is not its neighbour");
    drop(clients);
    eventually("they end", || waiting(b'f') == 0);
    assert_eq!(server.ask(post(&sandbox('f'), "{\"ms\":0}")).0.status, 200);
}

#[test]
fn a_panic_is_one_answer() {
    let server = Server::start();
    let mut client = server.client();
    client.send(get("/panic") + &get("/echo"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.code()), (500, 1003));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn every_wait_has_its_deadline() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::with(driver, quick(), EDGE);
        let within = |started: Instant, low: u64, high: u64| {
            let took = started.elapsed().as_millis() as u64;
            assert!((low..high).contains(&took), "{took} ms");
        };
        let started = Instant::now();
        let mut idle = server.client();
        assert!(idle.closed(Duration::from_secs(5)));
        within(started, 390, 2000);

        let mut slow = server.client();
        let started = Instant::now();
        let answer = std::thread::scope(|scope| {
            let mut sender = slow.stream.try_clone().unwrap();
            // A byte now and then does not buy time.
            scope.spawn(move || {
                for byte in b"GET /echo HTTP/1.1\r\nHost: aaaaaaaaaaaaaaa" {
                    let _ = sender.write_all(&[*byte]);
                    std::thread::sleep(Duration::from_millis(40));
                }
            });
            slow.answer()
        });
        assert_eq!((answer.status, answer.code()), (408, 1001));
        within(started, 290, 3000);

        let mut body = server.client();
        let started = Instant::now();
        body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{");
        assert_eq!(body.answer().status, 408);
        within(started, 290, 2000);

        let mut drip = server.client();
        drip.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n");
        for _ in 0..8 {
            drip.send(" ");
            std::thread::sleep(Duration::from_millis(150));
        }
        assert_eq!(drip.answer().status, 408);

        // It asks for much and reads nothing.
        let mut deaf = server.client();
        rustix::net::sockopt::set_socket_recv_buffer_size(&deaf.stream, 64 << 10).unwrap();
        deaf.send(get("/big?bytes=12000000&pieces=true"));
        std::thread::sleep(Duration::from_millis(1500));
        let got = deaf.answer_to("GET").map(|a| (a.status, a.body.len()));
        assert_eq!(got, None, "cut in the middle, {driver:?}");
    }
}

#[test]
fn large_answers_arrive_whole() {
    let server = Server::start();
    let mut client = server.client();
    for pieces in ["", "&pieces=true"] {
        for bytes in [10, 65_534, 65_535, 30_000_000] {
            let big = get(&format!("/big?bytes={bytes}{pieces}"));
            client.send(get("/echo") + &big + &get("/echo?text=after"));
            assert_eq!(client.answer().status, 200);
            let body = client.answer().body;
            assert_eq!((body.len(), body[0], body[bytes], body[bytes + 1]), (bytes + 2, b'"', b'x', b'"'));
            assert_eq!(client.answer().json()["text"], "after");
            client.send(big.replace("GET", "HEAD"));
            let head = client.answer_to("HEAD").unwrap();
            assert_eq!(head.field("content-length"), Some(&*(bytes + 2).to_string()));
        }
    }
}

#[test]
fn a_stop_lets_requests_end() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let mut server = Server::with(driver, Settings::default(), EDGE);
        let (mut idle, mut busy) = (server.client(), server.client());
        idle.send(get("/echo"));
        assert_eq!(idle.answer().status, 200);
        busy.send(post(&sandbox('h'), "{\"ms\":300}"));
        eventually("it runs", || waiting(b'h') == 1);
        server.request_stop();
        assert!(idle.closed(Duration::from_secs(5)));
        let answer = busy.answer();
        assert_eq!((answer.json(), answer.field("connection")), (300.into(), Some("close")));
        assert!(busy.closed(Duration::from_secs(5)));
        assert_eq!(server.join().cut, 0);
        assert!(std::net::TcpStream::connect(server.address).is_err());
    }
    let mut server = Server::with(Driver::Uring, quick(), EDGE);
    let mut stuck = server.client();
    stuck.send(post(&sandbox('i'), "{\"ms\":600000}"));
    eventually("it runs", || waiting(b'i') == 1);
    assert_eq!(server.join().cut, 1);
    assert!(stuck.closed(Duration::from_secs(5)));
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = Server::with(Driver::Uring, Settings { connections_max: 8, ..Settings::default() }, EDGE);
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(get("/echo"));
        assert_eq!(client.answer().status, 200);
    }
    let mut more = server.client();
    let answer = more.answer();
    assert_eq!((answer.status, answer.code(), answer.field("retry-after")), (503, 1008, Some("1")));
    assert!(more.closed(Duration::from_secs(5)));
    clients.pop();
    eventually("the place is free", || {
        let mut client = server.client();
        client.send(get("/echo"));
        client.answer_to("GET").is_some_and(|answer| answer.status == 200)
    });
}
