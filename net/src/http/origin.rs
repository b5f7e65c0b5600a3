//! Does a web page ask, or a program? A page may call only from a listed origin, and never by a foreign name.
//!
//! A server on a loopback address is reached by every page of the machine's browser: by DNS rebinding (a foreign Host),
//! by a form or fetch (Origin), by an image or script tag (Sec-Fetch-Site alone). Programs send none of these.

use super::Settings;
use crate::wire::framing::single;
use http::HeaderMap;
use http::header::ORIGIN;
use std::net::{Ipv4Addr, Ipv6Addr};
use workspace_core::{Error, Reason};

/// Lets a request in, with its origin where that is a listed one.
pub(super) fn check<'h>(settings: &Settings, headers: &'h HeaderMap, host: &str) -> Result<Option<&'h str>, Error> {
    if settings.loopback && !host_is_ours(settings, host) {
        return Err(refused("this server is bound to a loopback address and answers only to names of this machine"));
    }
    match single(headers, &ORIGIN, "two Origin fields").map_err(|b| refused(b.message))? {
        Some(origin) if settings.allowed_origins.iter().any(|listed| listed == origin) => Ok(Some(origin)),
        Some(_) => Err(refused("this web origin is not on the server's list of allowed origins")),
        None => {
            let mut sites = headers.get_all("sec-fetch-site").iter();
            if sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none")) {
                Ok(None)
            } else {
                Err(refused("a web page of another site asked"))
            }
        }
    }
}

fn refused(message: &str) -> Error {
    Error::new(Reason::ForbiddenOrigin, message)
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
    let name_end = host.find(']').map_or(0, |i| i + 1);
    match host[name_end..].split_once(':') {
        None => Some(host),
        Some((rest, port)) => {
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
            "http://localhost",
            "https://app.example.evil",
            "https://app.example:443",
            "http://app.example",
        ] {
            assert!(!let_in("localhost", &[("origin", origin)]), "{origin}");
        }
        assert!(!let_in("localhost", &[("origin", "https://app.example"), ("origin", "https://evil.example")]));
    }
}
