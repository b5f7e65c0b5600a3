//! What each route answers before and after it is let in, walked over THE list.

use crate::kit::{Server, get, post};
use crate::shard::{HERE, NOWHERE};
use workspace_server::http::{ApiKeys, Settings};
use workspace_server::operation::Access;
use workspace_server::operations::OPERATIONS;

fn keyed() -> Server {
    Server::product(Settings { api_keys: ApiKeys::new(["k-123", "k-456"]).unwrap(), ..Settings::default() })
}

#[test]
fn all_but_health_refuse_a_missing_key() {
    let server = keyed();
    for operation in OPERATIONS {
        for route in operation.routes {
            let path = route.path.replace("{id}", NOWHERE);
            let ask = |fields: &str, query: &str| {
                let request = format!(
                    "{} {path}{query} HTTP/1.1\r\nHost: a\r\n{fields}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
                    route.method.name()
                );
                server.ask(request).0
            };
            let open = operation.access == Access::Open;
            for (fields, query) in [
                ("", ""),
                ("X-API-Key: k-12\r\n", ""),
                ("Authorization: Bearer K-123\r\n", ""),
                ("Authorization: Bearer k-123\r\nX-API-Key: k-456\r\n", ""),
                ("", "?api_key=k-123"),
            ] {
                let answer = ask(fields, query);
                assert_eq!(answer.status == 401, !open, "{path} {fields}{query}");
                if operation.access == Access::KeyOrPage {
                    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"), "{path}");
                } else if !open {
                    assert_eq!((answer.code(), answer.field("www-authenticate")), (1005, Some("Bearer")), "{path}");
                    assert!(!answer.head.contains("k-1") && !String::from_utf8_lossy(&answer.body).contains("k-1"));
                }
            }
            for fields in ["X-API-Key: k-123\r\n", "Authorization: Bearer k-456\r\n"] {
                assert_ne!(ask(fields, "").status, 401, "{path}");
            }
        }
    }
    assert_eq!(server.ask(get("/nowhere")).0.status, 401, "a stranger learns nothing of routes");
}

/// A browser cannot send a key with an address: what it gets holds no secret, and asks.
#[test]
fn the_page_comes_with_every_refusal() {
    let server = keyed();
    let open = Server::product(Settings { loopback: true, ..Settings::default() });
    let fields = |answer: &crate::kit::Answer| {
        let names =
            ["content-type", "content-security-policy", "referrer-policy", "cache-control", "x-content-type-options"];
        names.map(|name| answer.field(name).unwrap_or_else(|| panic!("{name}: {}", answer.head)).to_owned())
    };
    let path = format!("/terminal/{NOWHERE}");
    let page = open.ask(get(&path).replace("Host: a", "Host: localhost")).0;
    assert!(page.status == 200 || page.status == 501, "{}", page.head);
    let [media_type, policy, referrer, cache, _] = fields(&page);
    assert_eq!((&*media_type, &*referrer, &*cache), ("text/html; charset=utf-8", "no-referrer", "no-store"));
    for part in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|p| p == part), "{part}: {policy}");
    }
    assert!(!policy.contains("script-src 'unsafe") && !policy.contains("http"), "{policy}");
    let foreign = get(&path).replace("Host: a", "Host: localhost\r\nSec-Fetch-Site: cross-site");
    for (status, answer) in [
        (401, server.ask(get(&path)).0),
        (401, server.ask(get("/terminal/x")).0),
        (401, server.ask(get(&format!("{path}?api_key=k-123"))).0),
        (404, open.ask(get("/terminal/x").replace("Host: a", "Host: localhost")).0),
        (403, open.ask(foreign).0),
        (403, open.ask(get(&path)).0),
    ] {
        assert_eq!((answer.status, fields(&answer), &answer.body), (status, fields(&page), &page.body));
    }
    assert_eq!(server.ask(get("/terminal")).0.code(), 1005);
    assert_eq!(open.ask(post(&path, "{}").replace("Host: a", "Host: localhost")).0.code(), 1001);
}

#[test]
fn unknown_routes_and_methods() {
    let server = Server::product(Settings::default());
    for path in [
        "/",
        "/api/v1",
        "/api/v1/sandboxes/",
        "/api/v2/health",
        "/api/v1/health/x",
        "/api/v1/../v1/health",
        "/%61pi/v1/health",
    ] {
        let answer = server.ask(get(path)).0;
        assert_eq!((answer.status, answer.code()), (404, 1001), "{path}");
    }
    let answer = server.ask(post("/api/v1/health", "{}")).0;
    assert_eq!((answer.status, answer.code(), answer.field("allow")), (405, 1001, Some("GET, HEAD, OPTIONS")));
    let answer = server.ask("BREW /api/v1/sandboxes HTTP/1.1\r\nHost: a\r\n\r\n").0;
    assert_eq!((answer.status, answer.field("allow")), (405, Some("POST, GET, HEAD, OPTIONS")));
    let answer = server.ask("OPTIONS /api/v1/sandboxes HTTP/1.1\r\nHost: a\r\n\r\n").0;
    assert_eq!(
        (answer.status, answer.field("allow"), answer.field("content-length")),
        (204, Some("POST, GET, HEAD, OPTIONS"), None)
    );
    assert_eq!(server.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").0.status, 204);
}

#[test]
fn health_and_the_document() {
    let server = keyed();
    let answer = server.ask(get("/api/v1/health")).0;
    assert_eq!(answer.json(), serde_json::json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}));
    for name in ["content-type", "x-request-id", "date", "vary", "x-content-type-options"] {
        assert!(answer.field(name).is_some(), "{name}");
    }
    let mut client = server.client();
    client.send(get("/api/v1/health").replace("GET", "HEAD"));
    let head = client.answer_to("HEAD").unwrap();
    assert_eq!(head.field("content-length"), answer.field("content-length"));
    client.send("GET /openapi.json HTTP/1.1\r\nHost: a\r\nX-API-Key: k-123\r\n\r\n");
    let document = client.answer();
    assert_eq!(document.json()["openapi"], "3.1.0", "and no body of HEAD stands before it");
    for operation in OPERATIONS {
        for route in operation.routes {
            let described = &document.json()["paths"][route.path][route.method.name().to_lowercase()];
            assert_eq!(described["summary"], operation.summary, "{}", route.path);
        }
    }
}

#[test]
fn ids_and_filters() {
    let server = Server::product(Settings::default());
    for id in ["x", "..", "%2e%2e", "A", "a%00", &NOWHERE.to_uppercase(), &format!("{NOWHERE}a")] {
        let answer = server.ask(get(&format!("/api/v1/sandboxes/{id}"))).0;
        assert_eq!(
            (answer.status, answer.code(), answer.json()["reason"].as_str()),
            (404, 2001, Some("sandbox_not_found")),
            "{id}"
        );
    }
    let list = |query: &str| server.ask(get(&format!("/api/v1/sandboxes?{query}"))).0;
    for (query, code) in [
        ("state=bogus", 1002),
        ("state=Running", 1002),
        ("state=", 1002),
        ("limit=0", 1002),
        ("limit=1001", 1002),
        ("limit=-1", 1001),
        ("limit=1.5", 1001),
        ("limit=18446744073709551616", 1001),
        ("limit=", 1001),
        ("limit=1&limit=2", 1001),
        ("cursor=bogus", 1002),
        ("cursor=", 1002),
        ("metadata=x", 1001),
        ("metadata.=x", 1002),
        ("metadata.a=%00", 1001),
        ("metadata.a=%ff", 1001),
        ("state=%zz", 1001),
    ] {
        let answer = list(query);
        assert_eq!((answer.status, answer.code()), (400, code), "{query}");
    }
    for query in ["", "state=running", "limit=1000", "metadata.a=b&metadata.c=d%20e", "later=1"] {
        let answer = list(query);
        assert_eq!((answer.status, answer.json()["next_cursor"].is_null()), (200, true), "{query}");
    }
    let found = |query: &str| list(query).json()["sandboxes"].as_array().unwrap().len();
    assert_eq!(found("metadata.owner=edge&state=stopped&limit=1"), 1);
    let others = ["metadata.owner=other", "state=running", "metadata.owner=edge&metadata.x=y"];
    assert_eq!(others.map(found), [0, 0, 0]);
    let delete = |query: &str| {
        server.ask(format!("DELETE /api/v1/sandboxes/{NOWHERE}{query} HTTP/1.1\r\nHost: a\r\n\r\n")).0.code()
    };
    assert_eq!((delete("?force=true"), delete("?force=false"), delete("?force=yes")), (2001, 2001, 1001));
}

#[test]
fn a_sandbox_has_the_shape_of_the_contract() {
    let server = Server::product(Settings::default());
    let answer = server.ask(get(&format!("/api/v1/sandboxes/{HERE}"))).0;
    let sandbox = answer.json();
    let fields = [
        "id",
        "name",
        "template",
        "state",
        "env",
        "metadata",
        "nfs_url",
        "created_at",
        "updated_at",
        "timeout",
        "error_message",
        "runtime",
        "workspace_id",
        "resources",
        "network",
        "expires_at",
    ];
    assert_eq!(answer.status, 200);
    for field in fields {
        assert!(sandbox.get(field).is_some(), "{field}");
    }
    assert_eq!((sandbox["id"].as_str(), sandbox["state"].as_str()), (Some(HERE), Some("stopped")));
}

#[test]
fn failures_have_one_form() {
    let server = Server::product(Settings::default());
    let answer = server.ask(post("/api/v1/sandboxes", "{}")).0;
    let expected = serde_json::json!({
        "code": 5001, "reason": "agent_not_connected", "message": "this machine holds no sandboxes",
        "retryable": true, "request_id": answer.field("x-request-id").unwrap(),
    });
    assert_eq!((answer.status, answer.json()), (503, expected));
    assert_eq!(answer.field("retry-after"), Some("1"));
    let create = |key: &str| {
        let request = post("/api/v1/sandboxes", "{}").replace("Host: a", &format!("Host: a\r\nIdempotency-Key: {key}"));
        server.ask(request).0.code()
    };
    assert_eq!((create("abc"), create(""), create("a b"), create(&"a".repeat(256))), (5001, 1002, 1002, 1002));
}
