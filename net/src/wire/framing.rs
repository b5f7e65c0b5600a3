//! What does a decoded head say about the message: its body's length, the host it is for, whether the connection lives on?
//!
//! Strict where clients and proxies could read a message in two ways, because then one of them answers the next
//! request as part of this one. Source: RFC 9112 sections 3.2, 6 and 9.3; RFC 9110 sections 7.2 and 10.1.1.

use super::head::Bad;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, Uri, Version, request::Parts};

/// How the body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Exactly this many bytes, perhaps 0.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What a head says about its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing<'h> {
    /// How the body is delimited.
    pub body: Body,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The authority that the request is for; empty only for HTTP/1.0.
    pub host: &'h str,
}

const fn bad(message: &'static str) -> Bad {
    Bad { status: 400, message }
}

/// Reads the framing of a head, or says why the connection must end.
pub fn read(head: &Parts) -> Result<Framing<'_>, Bad> {
    let old = head.version == Version::HTTP_10;
    Ok(Framing {
        body: body(&head.headers, old)?,
        keep_alive: keep_alive(&head.headers, old),
        expect_continue: expect(&head.headers)? && !old,
        host: host(head, old)?,
    })
}

fn body(headers: &HeaderMap, old: bool) -> Result<Body, Bad> {
    let length = single(headers, &CONTENT_LENGTH, "two Content-Length fields")?;
    let coding = single(headers, &TRANSFER_ENCODING, "two Transfer-Encoding fields")?;
    match (length, coding) {
        (None, None) => Ok(Body::Length(0)),
        (Some(_), Some(_)) => Err(bad("Content-Length together with Transfer-Encoding")),
        (Some(text), None) => {
            // 18 digits always fit into 64 bits; `parse` alone would take a sign.
            if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad("Content-Length is not a plain number"));
            }
            text.parse().map(Body::Length).map_err(|_| bad("Content-Length is not a plain number"))
        }
        (None, Some(_)) if old => Err(bad("Transfer-Encoding in HTTP/1.0")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Body::Chunked),
        (None, Some(_)) => Err(bad("a Transfer-Encoding other than chunked")),
    }
}

fn keep_alive(headers: &HeaderMap, old: bool) -> bool {
    let has = |token: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    if old { has("keep-alive") && !has("close") } else { !has("close") }
}

fn expect(headers: &HeaderMap) -> Result<bool, Bad> {
    match single(headers, &EXPECT, "two Expect fields")? {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("100-continue") => Ok(true),
        Some(_) => Err(Bad { status: 417, message: "an Expect other than 100-continue" }),
    }
}

fn host(head: &Parts, old: bool) -> Result<&str, Bad> {
    let field = single(&head.headers, &HOST, "two Host fields")?;
    if field.is_none() && !old {
        return Err(bad("no Host field"));
    }
    let field = field.unwrap_or_default();
    match target(&head.method, &head.uri)? {
        None => Ok(field),
        // RFC 9112 3.2.2: the target wins over Host; two names for one request are refused here.
        Some(authority) if field.is_empty() || authority.eq_ignore_ascii_case(field) => Ok(authority),
        Some(_) => Err(bad("the target names another host than the Host field")),
    }
}

/// The authority of an absolute target; `None` for a path, or for `*` of OPTIONS.
fn target<'a>(method: &Method, uri: &'a Uri) -> Result<Option<&'a str>, Bad> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path().starts_with('/') => Ok(None),
        (None, None) if uri.path() == "*" && method == Method::OPTIONS => Ok(None),
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(Some(authority.as_str())),
        _ => Err(bad("the target is neither a path nor an http URL")),
    }
}

/// The value of a field that may stand there once.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    twice: &'static str,
) -> Result<Option<&'a str>, Bad> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad(twice));
    }
    // The scan let only ASCII through.
    first.map(|v| v.to_str().map_err(|_| bad("a header field that is not ASCII"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the connection lives on, and the host.
    fn framing(target: &str, version: Version, fields: &[(&str, &str)]) -> Result<(bool, String), u16> {
        let mut request = http::Request::builder().method("OPTIONS").uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        read(&head).map(|framing| (framing.keep_alive, framing.host.to_owned())).map_err(|b| b.status)
    }

    #[test]
    fn one_reading_or_none() {
        let h = ("host", "a");
        for fields in [
            &[h, ("content-length", "5"), ("transfer-encoding", "chunked")][..],
            &[h, ("content-length", "5"), ("content-length", "5")],
            &[h, ("content-length", "5"), ("content-length", "6")],
            &[h, ("content-length", "+5")],
            &[h, ("content-length", "5, 5")],
            &[h, ("content-length", "0x5")],
            &[h, ("content-length", "")],
            &[h, ("content-length", "18446744073709551616")],
            &[h, ("transfer-encoding", "chunked, identity")],
            &[h, ("transfer-encoding", "xchunked")],
            &[h, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[],
            &[h, h],
        ] {
            assert_eq!(framing("/", Version::HTTP_11, fields), Err(400), "{fields:?}");
        }
        assert_eq!(framing("/", Version::HTTP_10, &[("transfer-encoding", "chunked")]), Err(400));
        assert_eq!(framing("/", Version::HTTP_11, &[h, ("expect", "tea")]), Err(417));
        assert_eq!(framing("http://b/", Version::HTTP_11, &[h]), Err(400));
        assert_eq!(framing("http://u@a/", Version::HTTP_11, &[("host", "u@a")]), Err(400));
        assert_eq!(framing("http://a/", Version::HTTP_11, &[h]).unwrap().1, "a");
        assert_eq!(framing("*", Version::HTTP_11, &[h]).unwrap().1, "a");
    }

    #[test]
    fn connections_live_as_each_version_says() {
        let keep = |version, value: &str| framing("/", version, &[("host", "a"), ("connection", value)]).unwrap().0;
        assert!(keep(Version::HTTP_11, "x"));
        assert!(!keep(Version::HTTP_11, "x, Close"));
        assert!(!keep(Version::HTTP_10, "x"));
        assert!(keep(Version::HTTP_10, "keep-alive"));
    }
}
