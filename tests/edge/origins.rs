//! Attacks M01 to M04: what a web page in the machine's browser can make the server do.

use crate::kit::{Server, get, post};
use crate::shard::HERE;
use workspace_server::http::Settings;

fn server() -> Server {
    let allowed_origins = vec!["https://app.example".to_owned()];
    Server::product(Settings { loopback: true, allowed_origins, ..Settings::default() })
}

fn health(host: &str, fields: &str) -> String {
    format!("GET /api/v1/health HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

#[test]
fn a_foreign_name_is_not_ours() {
    let server = server();
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:8080", "localhost."] {
        assert_eq!(server.ask(health(host, "")).0.status, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.nip.io", "", "localhost.evil"] {
        let answer = server.ask(health(host, "")).0;
        assert_eq!((answer.status, answer.code()), (403, 1007), "{host}");
        let absolute = format!("GET http://{host}/openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_ne!(server.ask(absolute).0.status, 200, "{host}");
    }
    let open = Server::product(Settings::default());
    assert_eq!(open.ask(health("sandboxes.example", "")).0.status, 200, "a server for others is asked by its name");
}

#[test]
fn a_foreign_page_has_no_effect() {
    let server = server();
    let run = format!("/api/v1/sandboxes/{HERE}/process/run");
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil",
        "http://localhost:1",
        "http://127.0.0.1:1",
        "http://app.example",
        "https://app.example.evil",
    ] {
        for request in [
            get("/api/v1/health"),
            post("/api/v1/sandboxes", "{}"),
            post(&run, r#"{"command":"a"}"#),
            get("/api/v1/health").replace("GET", "OPTIONS"),
        ] {
            let request = request.replace("Host: a", &format!("Host: localhost\r\nOrigin: {origin}"));
            let answer = server.ask(request).0;
            assert_eq!((answer.status, answer.code()), (403, 1007), "{origin}");
            assert_eq!(answer.field("access-control-allow-origin"), None, "{origin}");
            assert_eq!(answer.field("vary"), Some("origin"));
        }
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(server.ask(health("localhost", &format!("Sec-Fetch-Site: {site}\r\n"))).0.code(), 1007, "{site}");
    }
    assert_eq!(server.ask(health("localhost", "Sec-Fetch-Site: none\r\n")).0.status, 200);
}

#[test]
fn a_page_of_ours_may_call() {
    let server = server();
    let ask = |host: &str, origin: &str| {
        let fields = format!("Host: {host}\r\nOrigin: {origin}\r\nSec-Fetch-Site: same-origin");
        server.ask(post("/api/v1/sandboxes", "{}").replace("Host: a", &fields)).0
    };
    let answer = ask("localhost:8080", "http://localhost:8080");
    assert_eq!((answer.status, answer.field("access-control-allow-origin")), (503, None));
    assert_eq!(ask("localhost:8080", "http://localhost:8081").code(), 1007);
    assert_eq!(ask("evil.example", "http://evil.example").code(), 1007);
}

#[test]
fn a_listed_page_may_call_and_preflight() {
    let server = server();
    let fields = "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n";
    let answer = server.ask(health("localhost", fields)).0;
    assert_eq!((answer.status, answer.field("access-control-allow-origin")), (200, Some("https://app.example")));
    assert_eq!((answer.field("vary"), answer.field("access-control-allow-credentials")), (Some("origin"), None));
    let preflight = format!(
        "OPTIONS /api/v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n{fields}Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Private-Network: true\r\n\r\n"
    );
    let answer = server.ask(preflight).0;
    assert_eq!((answer.status, answer.field("access-control-allow-origin")), (204, Some("https://app.example")));
    assert!(answer.field("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(answer.field("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(answer.field("access-control-allow-private-network"), None);
}
