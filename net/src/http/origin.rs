//! Does a web page ask, or a program? A page may call from a listed origin or from our own, and never by a foreign name.
//!
//! A server on a loopback address is reached by every page of the machine's browser: by DNS rebinding (a foreign Host),
//! by a form or fetch (Origin), by an image or script tag (Sec-Fetch-Site alone). Programs send none of these.

use super::Settings;
use crate::wire::framing::single;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderName};
use std::net::{Ipv4Addr, Ipv6Addr};
use workspace_core::{Error, Reason};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request in, with its origin where that is a listed one.
pub(super) fn check<'h>(settings: &Settings, headers: &'h HeaderMap, host: &str) -> Result<Option<&'h str>, Error> {
    if settings.loopback && !host_is_ours(settings, host) {
        return Err(refused("this server is bound to a loopback address and answers only to names of this machine"));
    }
    let origin = single(headers, &ORIGIN, "two Origin fields").map_err(|b| refused(b.message))?;
    if let Some(origin) = origin {
        if settings.allowed_origins.iter().any(|listed| listed == origin) {
            return Ok(Some(origin));
        }
        if !is_own(settings, origin, host) {
            return Err(refused("this web origin is not on the server's list of allowed origins"));
        }
    }
    let mut sites = headers.get_all(&SEC_FETCH_SITE).iter();
    if sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return Ok(None);
    }
    Err(refused("a web page of another site asked"))
}

fn refused(message: &str) -> Error {
    Error::new(Reason::ForbiddenOrigin, message)
}

/// True for a page that came from here, as the terminal does: its origin is the name by which we are asked. That name
/// must be ours, or anybody's name could be pointed at this address: on a loopback bind it is, an address cannot be
/// pointed elsewhere, and where keys are set a page has none but what its user gave to it.
fn is_own(settings: &Settings, origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        && (settings.loopback || !settings.api_keys.is_empty() || is_address(host) || host_is_ours(settings, host))
}

fn is_address(host: &str) -> bool {
    let Some(name) = without_port(host) else { return false };
    let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    v6.map_or_else(|| name.parse::<Ipv4Addr>().is_ok(), |v6| v6.parse::<Ipv6Addr>().is_ok())
}

/// True for the names and addresses of this machine, with any port: a forwarded port is another one. A listed name has
/// the port that it is listed with, or any.
fn host_is_ours(settings: &Settings, host: &str) -> bool {
    let Some(name) = without_port(host) else { return false };
    let port = &host[name.len()..];
    let listed = |name: &str| {
        let with_port = format!("{name}{port}");
        let allowed = |allowed: &String| name.eq_ignore_ascii_case(allowed) || with_port.eq_ignore_ascii_case(allowed);
        settings.allowed_hosts.iter().any(allowed)
    };
    if let Some(v6) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback() || listed(&format!("[{a}]")));
    }
    name.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case("localhost.")
        || name.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
        || listed(name)
}

fn without_port(host: &str) -> Option<&str> {
    let at = |from: usize, wanted: u8| host.bytes().skip(from).position(|byte| byte == wanted);
    let name_end = at(0, b']').map_or(0, |i| i + 1);
    match at(name_end, b':').map(|colon| host[name_end..].split_at(colon)) {
        None => Some(host),
        Some((rest, port)) => {
            let port = &port[1..];
            let whole = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            whole.then(|| &host[..name_end + rest.len()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(host: &str, fields: &[(&'static str, &str)]) -> bool {
        let settings = Settings {
            loopback: true,
            allowed_origins: vec!["https://app.example".to_owned()],
            allowed_hosts: vec!["sandbox.internal".to_owned()],
            ..Settings::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check(&settings, &headers, host).is_ok()
    }

    #[test]
    fn only_names_of_this_machine() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]",
            "[::1]:8080",
            "sandbox.internal",
        ] {
            assert!(let_in(host, &[]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.nip.io",
            "localhost.evil",
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "[::1",
            "::1",
            "[::2]",
            "0.0.0.0",
            "a.localhost",
            "127.1",
            "0x7f.0.0.1",
        ] {
            assert!(!let_in(host, &[]), "{host}");
        }
    }

    #[test]
    fn only_listed_origins_and_no_foreign_page() {
        assert!(let_in("localhost", &[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")]));
        for site in ["same-origin", "none"] {
            assert!(let_in("localhost", &[("sec-fetch-site", site)]));
        }
        for site in ["cross-site", "same-site", "", "None"] {
            assert!(!let_in("localhost", &[("sec-fetch-site", site)]), "{site}");
        }
        for origin in [
            "null",
            "",
            "localhost",
            "ftp://localhost",
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://localhost/",
            "https://app.example.evil",
            "https://app.example:443",
            "http://app.example",
        ] {
            assert!(!let_in("localhost", &[("origin", origin)]), "{origin}");
        }
        assert!(!let_in("localhost", &[("origin", "https://app.example"), ("origin", "https://evil.example")]));
    }

    #[test]
    fn our_own_page_may_call_where_its_name_is_ours() {
        let own = |settings: &Settings, scheme: &str, host: &str, site: &str| {
            let mut headers = HeaderMap::new();
            headers.append("origin", format!("{scheme}://{host}").parse().unwrap());
            headers.append("sec-fetch-site", site.parse().unwrap());
            check(settings, &headers, host).map(|listed| listed.is_some())
        };
        let loopback = Settings { loopback: true, ..Settings::default() };
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(own(&loopback, "http", host, "same-origin").ok(), Some(false), "no field of CORS is sent");
            assert!(own(&loopback, "https", host, "same-origin").is_ok(), "a proxy in front speaks TLS");
            assert!(own(&loopback, "http", host, "cross-site").is_err());
        }
        assert!(own(&loopback, "http", "evil.example", "same-origin").is_err());
        let open = Settings::default();
        assert!(own(&open, "http", "10.0.0.5:8080", "same-origin").is_ok());
        assert!(own(&open, "http", "[fd00::5]:8080", "same-origin").is_ok());
        for rebound in ["evil.example", "evil.example:8080", "10.0.0.5.nip.io", "10.0.0.5:x", "[evil]:1"] {
            assert!(own(&open, "http", rebound, "same-origin").is_err(), "{rebound}");
        }
        let named = Settings { allowed_hosts: vec!["sandbox.internal:8080".to_owned()], ..Settings::default() };
        assert!(own(&named, "http", "sandbox.internal:8080", "same-origin").is_ok());
        assert!(own(&named, "http", "sandbox.internal:8081", "same-origin").is_err());
        let api_keys = super::super::ApiKeys::new(["secret"]).unwrap();
        let keyed = Settings { api_keys, ..Settings::default() };
        assert!(own(&keyed, "https", "sandbox.example", "same-origin").is_ok());
    }
}
