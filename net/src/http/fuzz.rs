//! What a head says before a byte of its body is read: is a page, a stranger or a foreign name ever let in by odd bytes?

use super::route::{Found, Router};
use super::{ApiKeys, Settings, fields, origin};
use crate::fuzz::run;
use crate::operation::Carries;
use crate::operations::OPERATIONS;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use std::net::IpAddr;

const ORIGIN: &str = "https://app.example";

fn settings() -> Settings {
    let hosts = ["sandbox.internal", "proxy.internal:8443", "[2001:db8::7]", "[2001:db8::8]:443"];
    Settings {
        loopback: true,
        allowed_origins: vec![ORIGIN.to_owned()],
        allowed_hosts: hosts.map(str::to_owned).to_vec(),
        ..Settings::default()
    }
}

/// `Name: value` lines as the head of a request; what is no field is left out.
fn head(method: Method, input: &[u8]) -> Parts {
    let mut head = Request::builder().method(method).body(()).unwrap().into_parts().0;
    for line in input.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[at + 1..].trim_ascii())) {
            head.headers.append(name, value);
        }
    }
    head
}

/// A name that is let in is one of this machine or a listed one, as a URL's own parser reads it.
fn host(input: &[u8]) {
    let Ok(host) = std::str::from_utf8(input) else { return };
    let head = head(Method::GET, b"");
    if origin::check(&settings(), &head.headers, host).is_err() {
        return;
    }
    let authority: http::uri::Authority = host.parse().unwrap();
    let name = authority.host().to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|_| !host.ends_with(']')).unwrap_or("");
    let ours = match (name.as_str(), address) {
        ("localhost" | "localhost." | "sandbox.internal", _) => true,
        ("proxy.internal", _) => port == "8443",
        (_, Ok(address)) if address.is_loopback() => true,
        (_, Ok(address)) if address == "2001:db8::7".parse::<IpAddr>().unwrap() => true,
        (_, Ok(address)) => address == "2001:db8::8".parse::<IpAddr>().unwrap() && port == "443",
        _ => false,
    };
    assert!(ours && !host.contains(['@', '/']), "{host}");
}

#[test]
fn no_text_makes_a_foreign_name_ours() {
    let corpus: [&[u8]; 12] = [
        b"localhost:8080",
        b"LocalHost.",
        b"127.9.9.9:80",
        b"[::1]:8080",
        b"sandbox.internal:1",
        b"proxy.internal:8443",
        b"[2001:DB8:0::7]:9",
        b"[2001:db8::8]:443",
        b"127.0.0.1.nip.io",
        b"localhost:80@evil.example",
        b"[::1]evil.example",
        b"evil.example:8443",
    ];
    run(host, &corpus);
    let let_in = |host| origin::check(&settings(), &head(Method::GET, b"").headers, host).is_ok();
    // A listed name with a port, and every listed IPv6 address, was never matched.
    for host in
        ["proxy.internal:8443", "PROXY.internal:8443", "[2001:db8::7]", "[2001:DB8:0::7]:9", "[2001:db8::8]:443"]
    {
        assert!(let_in(host), "{host}");
    }
    for host in ["proxy.internal", "proxy.internal:8444", "[2001:db8::8]", "[2001:db8::9]", "2001:db8::7"] {
        assert!(!let_in(host), "{host}");
    }
}

/// With an origin that is not listed, or from another site without one, nobody is let in.
fn pages(input: &[u8]) {
    let head = head(Method::GET, input);
    let values = |name: &str| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let (origins, sites) = (values("origin"), values("sec-fetch-site"));
    match origin::check(&settings(), &head.headers, "localhost") {
        Ok(Some(origin)) => assert!(origin == ORIGIN && origins == [ORIGIN.as_bytes()]),
        Ok(None) => {
            assert!(origins.is_empty());
            assert!(sites.iter().all(|site| *site == b"same-origin" || *site == b"none"));
        }
        Err(_) => assert!(!origins.is_empty() && origins != [ORIGIN.as_bytes()] || !sites.is_empty()),
    }
}

#[test]
fn no_fields_let_a_foreign_page_in() {
    let corpus: [&[u8]; 5] = [
        b"Origin: https://app.example\nSec-Fetch-Site: cross-site",
        b"Origin: https://app.example\nOrigin: https://app.example",
        b"Origin: null\nOrigin:\nOrigin: \xff",
        b"Sec-Fetch-Site: none\nSec-Fetch-Site: same-site",
        b"Sec-Fetch-Site: same-origin",
    ];
    run(pages, &corpus);
}

/// Who is let in has shown a key of ours, and no other one.
fn callers(input: &[u8]) {
    let ours = ["secret-1", "secret-2"];
    let head = head(Method::GET, input);
    let Ok(key) = ApiKeys::new(ours).unwrap().caller(&head.headers).map(<[u8]>::to_vec) else { return };
    assert!(ours.iter().any(|own| own.as_bytes() == key));
    assert!(head.headers.get_all("x-api-key").iter().all(|value| value.as_bytes() == key));
    for value in head.headers.get_all("authorization") {
        let bearer = value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        assert!(!bearer || value.as_bytes()[7..].trim_ascii() == key);
    }
}

#[test]
fn no_fields_make_a_stranger_a_caller() {
    let corpus: [&[u8]; 6] = [
        b"Authorization: Bearer secret-1",
        b"authorization: bearer  secret-2\nX-API-Key: secret-2",
        b"X-API-Key: secret-1\nX-API-Key: secret-2",
        b"Authorization: Basic dTpw\nX-API-Key: secret-1",
        b"Authorization: Bearer \nX-API-Key:",
        b"Authorization: Bearer secret-11",
    ];
    run(callers, &corpus);
}

/// A body is plain JSON, a key is one and visible, and equal digests come of equal callers and bodies alone.
fn said(input: &[u8]) {
    let head = head(Method::POST, input);
    let values = |name: &str| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if fields::media_type(&head, Carries::Json).is_ok() {
        let types = values("content-type");
        assert!(types.len() == 1 && types[0].to_ascii_lowercase().starts_with(b"application/json"));
        assert!(values("content-encoding").iter().all(|coding| coding.eq_ignore_ascii_case(b"identity")));
    }
    if let Ok(id) = fields::last_event_id(&head) {
        assert_eq!(id.map(str::as_bytes).into_iter().collect::<Vec<_>>(), values("last-event-id"));
    }
    let keys = values("idempotency-key");
    match fields::idempotency(&head, b"caller", input) {
        Ok(None) => assert!(keys.is_empty()),
        Ok(Some(one)) => {
            assert_eq!(keys, [one.key.as_bytes()]);
            assert!((1..=255).contains(&one.key.len()) && one.key.bytes().all(|b| b.is_ascii_graphic()));
            let digest = |caller, body| fields::idempotency(&head, caller, body).unwrap().unwrap().digest;
            assert_eq!(digest(b"caller", input), one.digest);
            assert!(digest(b"other", input) != one.digest && digest(b"caller", &[input, b"x"].concat()) != one.digest);
        }
        Err(_) => assert!(!keys.is_empty()),
    }
}

#[test]
fn fields_say_one_thing_or_are_refused() {
    let longest = format!("Idempotency-Key: {}", "k".repeat(255));
    let corpus: [&[u8]; 8] = [
        b"Content-Type: application/json; charset=utf-8\nIdempotency-Key: a-1",
        b"Content-Type: APPLICATION/JSON\nLast-Event-ID: 7",
        b"Content-Type: application/json\nContent-Type: text/plain",
        // The second was not looked at.
        b"Content-Type: application/json\nContent-Encoding: identity\nContent-Encoding: gzip",
        b"Content-Type: application/jsonp\nLast-Event-ID: 1\nLast-Event-ID: 2",
        b"Idempotency-Key: a\nIdempotency-Key: a",
        b"Idempotency-Key:\nIdempotency-Key: a b",
        longest.as_bytes(),
    ];
    run(said, &corpus);
}

/// What a path names stands in it, between slashes; the pattern with these names in it is the path.
fn paths(input: &[u8]) {
    let Ok(path) = std::str::from_utf8(input) else { return };
    let router = Router::new(OPERATIONS);
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::PUT] {
        let Found::Operation { entry, names } = router.find(&method, path) else { continue };
        let filled = |pattern: &str| {
            let id = pattern.replace("{id}", names.id.unwrap_or("{id}"));
            names.item.map_or(id.clone(), |(name, text)| id.replace(&format!("{{{name}}}"), text))
        };
        assert!(entry.routes.iter().any(|route| filled(route.path) == path), "{path} is {}", entry.name);
        let texts = || names.id.into_iter().chain(names.item.map(|(_, text)| text));
        assert!(texts().all(|text| !text.is_empty() && !text.contains('/')));
    }
}

#[test]
fn a_path_is_the_route_that_it_is_found_by() {
    let routes: Vec<String> =
        OPERATIONS.iter().flat_map(|entry| entry.routes).map(|route| route.path.replace(['{', '}'], "")).collect();
    let mut corpus: Vec<&[u8]> = routes.iter().map(String::as_bytes).collect();
    corpus.extend([&b"/api/v1/sandboxes//process/run"[..], b"/api/v1/sandboxes/../health", b"//", b"*"]);
    run(paths, &corpus);
}
