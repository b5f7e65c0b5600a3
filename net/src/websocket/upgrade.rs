//! Does a head ask for a WebSocket, and may it have one? Everything before the 101; a refusal is an ordinary answer.
//!
//! Who may ask at all (Host, Origin, key) is judged before, by the rules of every request. Source: RFC 6455 section 4.2.

use crate::failure::Refusal;
use crate::wire::framing::{Body, Framing, single};
use crate::wire::query;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Version};
use tungstenite::handshake::derive_accept_key;

/// The only version there is.
pub(crate) const VERSION: &str = "13";
/// 16 bytes as base64.
const KEY_CHARS: usize = 24;

/// What the 101 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// Sec-WebSocket-Accept.
    pub(crate) accept: String,
    /// Sec-WebSocket-Protocol: one that both sides know.
    pub(crate) protocol: Option<&'static str>,
}

/// True where a head asks to become a WebSocket.
pub(crate) fn is_asked(head: &Parts) -> bool {
    has_token(&head.headers, &UPGRADE, "websocket") && has_token(&head.headers, &CONNECTION, "upgrade")
}

/// The `api_key` of the query, for clients that cannot set a header: a browser's WebSocket.
pub(crate) fn key_in_query(head: &Parts) -> Option<String> {
    let query = query::object(head.uri.query()?).ok()?;
    query.get("api_key")?.as_str().map(str::to_owned)
}

/// Agrees to an upgrade, or says why not. The first protocol that the client offers and `known` holds is chosen.
pub(crate) fn read(head: &Parts, framing: &Framing, known: &[&'static str]) -> Result<Upgrade, Refusal> {
    if head.version != Version::HTTP_11 || framing.body != Body::Length(0) {
        return Err(Refusal::request(400, "a WebSocket starts with a GET of HTTP/1.1 that has no body"));
    }
    if !is_asked(head) {
        return Err(Refusal::request(426, "this route is a WebSocket: connect with `Upgrade: websocket`"));
    }
    let field = |name| single(&head.headers, name, "a Sec-WebSocket field stands there twice");
    let version = field(&SEC_WEBSOCKET_VERSION).map_err(|bad| Refusal::request(bad.status, bad.message))?;
    if version != Some(VERSION) {
        return Err(Refusal::request(426, "`Sec-WebSocket-Version` must be 13"));
    }
    let key = field(&SEC_WEBSOCKET_KEY).map_err(|bad| Refusal::request(bad.status, bad.message))?;
    let key = key
        .filter(|key| is_key(key))
        .ok_or_else(|| Refusal::request(400, "`Sec-WebSocket-Key` must be 16 bytes in base64"))?;
    let offered = tokens(&head.headers, &SEC_WEBSOCKET_PROTOCOL);
    let protocol = offered.into_iter().find_map(|offer| known.iter().find(|name| **name == offer).copied());
    Ok(Upgrade { accept: derive_accept_key(key.as_bytes()), protocol })
}

fn is_key(text: &str) -> bool {
    let Some(digits) = text.strip_suffix("==") else { return false };
    text.len() == KEY_CHARS && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).iter().any(|t| t.eq_ignore_ascii_case(token))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn ask(fields: &[(&str, &str)]) -> Result<Upgrade, u16> {
        let mut request = http::Request::builder().uri("/").header("host", "a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        read(&head, &framing::read(&head).unwrap(), &["b.v1", "a.v1"]).map_err(|refusal| refusal.status)
    }

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let fields = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        let kept = fields.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        kept.chain(more.iter().copied().filter(|(_, value)| *value != "-")).collect()
    }

    #[test]
    fn the_example_of_the_standard() {
        let upgrade = ask(&with(&[])).unwrap();
        assert_eq!(upgrade, Upgrade { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(), protocol: None });
    }

    #[test]
    fn the_first_offer_that_is_known() {
        let protocol = |offers: &[&str]| {
            let fields: Vec<_> = offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
            ask(&with(&fields)).unwrap().protocol
        };
        assert_eq!(protocol(&["chat, a.v1,b.v1"]), Some("a.v1"));
        assert_eq!(protocol(&["chat", "b.v1"]), Some("b.v1"));
        assert_eq!(protocol(&["A.V1, a.v10"]), None);
    }

    #[test]
    fn each_field_is_asked_for() {
        for (field, status) in [
            (("upgrade", "-"), 426),
            (("upgrade", "h2c"), 426),
            (("connection", "-"), 426),
            (("connection", "keep-alive"), 426),
            (("sec-websocket-version", "-"), 426),
            (("sec-websocket-version", "8"), 426),
            (("sec-websocket-version", "13, 8"), 426),
            (("sec-websocket-key", "-"), 400),
            (("sec-websocket-key", ""), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25j"), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQAA"), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub2*jZQ=="), 400),
            (("content-length", "5"), 400),
            (("transfer-encoding", "chunked"), 400),
        ] {
            assert_eq!(ask(&with(&[field])), Err(status), "{field:?}");
        }
        let twice = [with(&[]), vec![("sec-websocket-key", KEY)]].concat();
        assert_eq!(ask(&twice), Err(400));
    }

    #[test]
    fn a_key_in_the_query_is_decoded_once() {
        let key = |target: &str| key_in_query(&http::Request::builder().uri(target).body(()).unwrap().into_parts().0);
        assert_eq!(key("/a?x=1&api_key=a%2Bb"), Some("a+b".to_owned()));
        for target in ["/a", "/a?", "/a?x=1", "/a?api_key=1&api_key=1", "/a?api_key=%"] {
            assert_eq!(key(target), None, "{target}");
        }
    }

    /// Lines of fields: who is let up has asked for it, has one key of 16 bytes, and gets a protocol that it offered.
    #[test]
    fn any_fields_are_an_upgrade_or_refused() {
        let target = |input: &[u8]| {
            let mut head = http::Request::builder().uri("/").header("host", "a").body(()).unwrap().into_parts().0;
            for line in input.split(|byte| *byte == b'\n') {
                let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
                let name = HeaderName::from_bytes(&line[..at]);
                if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(line[at + 1..].trim_ascii())) {
                    head.headers.append(name, value);
                }
            }
            let Ok(framing) = framing::read(&head) else { return };
            let Ok(upgrade) = read(&head, &framing, &["a.v1"]) else { return };
            let key = single(&head.headers, &SEC_WEBSOCKET_KEY, "").unwrap().unwrap();
            assert!(is_asked(&head) && key.len() == KEY_CHARS && upgrade.accept.len() == 28);
            let offered = head
                .headers
                .get_all(SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .any(|v| v.as_bytes().windows(4).any(|w| w == b"a.v1"));
            assert!(upgrade.protocol.is_none() || offered);
        };
        let whole = format!(
            "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {KEY}\nSec-WebSocket-Protocol: b, a.v1"
        );
        let twice = format!("{whole}\nSec-WebSocket-Key: {KEY}");
        crate::fuzz::run(target, &[whole.as_bytes(), twice.as_bytes(), b"Upgrade: h2c\nConnection: close, upgrade"]);
    }

    /// The key is what the query decodes to, once.
    #[test]
    fn any_query_has_one_key_or_none() {
        let target = |input: &[u8]| {
            let Ok(uri) = http::Uri::try_from([b"/?", input].concat()) else { return };
            let head = http::Request::builder().uri(uri).body(()).unwrap().into_parts().0;
            if let Some(key) = key_in_query(&head) {
                assert!(head.uri.query().unwrap().contains("api_key") || head.uri.query().unwrap().contains('%'));
                assert!(!key.contains('\0'));
            }
        };
        crate::fuzz::run(
            target,
            &[b"api_key=a", b"api_key=%2b&api_key=b", b"a=1&api_key=%00", b"api%5fkey=x", b"api_key"],
        );
    }
}
