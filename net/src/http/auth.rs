//! Who is calling? API keys, compared so that time tells nothing about them, and never shown.
//!
//! Every key stands in a buffer of one size; a comparison reads all of it, for all keys, whatever it has seen.
//! A key in the query is read for a WebSocket only, because a browser's can send no header: queries end in logs,
//! histories and Referer fields.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::hint::black_box;
use workspace_core::{Error, Reason};

/// Of one key.
const KEY_BYTES_MAX: usize = 256;

/// The keys that callers may have; none lets everyone in.
#[derive(Default)]
pub struct ApiKeys(Vec<Padded>);

#[derive(Clone, Copy)]
struct Padded {
    bytes: [u8; KEY_BYTES_MAX],
    len: usize,
}

impl Padded {
    /// What is longer than a key can be stays different from every key by its length.
    fn new(key: &[u8]) -> Padded {
        let mut bytes = [0; KEY_BYTES_MAX];
        let kept = key.len().min(KEY_BYTES_MAX);
        bytes[..kept].copy_from_slice(&key[..kept]);
        Padded { bytes, len: key.len() }
    }

    fn equals(&self, other: &Padded) -> bool {
        let mut difference = self.len ^ other.len;
        for (a, b) in self.bytes.iter().zip(&other.bytes) {
            // Without the barrier the compiler may leave the loop at the first difference.
            difference = black_box(difference | usize::from(a ^ b));
        }
        difference == 0
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl ApiKeys {
    /// Takes keys of 1 to 256 visible ASCII characters.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<ApiKeys, Error> {
        let padded = keys.into_iter().map(|key| {
            let key = key.as_ref().as_bytes();
            if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.iter().all(u8::is_ascii_graphic) {
                let message = "an API key must be 1 to 256 visible ASCII characters";
                return Err(Error::new(Reason::InvalidParameter, message));
            }
            Ok(Padded::new(key))
        });
        padded.collect::<Result<_, _>>().map(ApiKeys)
    }

    /// True where everyone is let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller's key, where it is one of ours; an empty one where everyone is let in.
    pub(super) fn caller<'h>(&self, headers: &'h HeaderMap) -> Result<&'h [u8], Error> {
        if self.0.is_empty() {
            return Ok(b"");
        }
        presented(headers, None).filter(|key| self.has(key)).ok_or_else(|| {
            let message = "an API key is needed: send `Authorization: Bearer KEY` or `X-API-Key: KEY`";
            Error::new(Reason::Unauthenticated, message)
        })
    }

    /// Lets the caller of a WebSocket in, by a key of its head or of its query.
    pub(super) fn socket_caller(&self, headers: &HeaderMap, query: Option<&str>) -> Result<(), Error> {
        if self.0.is_empty() || presented(headers, query).is_some_and(|key| self.has(key)) {
            return Ok(());
        }
        let message =
            "an API key is needed: send `Authorization: Bearer KEY`, `X-API-Key: KEY`, or `?api_key=KEY` in the URL";
        Err(Error::new(Reason::Unauthenticated, message))
    }

    fn has(&self, key: &[u8]) -> bool {
        let key = Padded::new(key);
        self.0.iter().fold(false, |found, ours| found | ours.equals(&key))
    }
}

/// The one key that a request presents; several that differ are none.
fn presented<'h>(headers: &'h HeaderMap, query: Option<&'h str>) -> Option<&'h [u8]> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.as_bytes().split_first_chunk::<7>()?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let own = headers.get_all("x-api-key").iter().map(|value| value.as_bytes());
    let mut all = bearer.chain(own).chain(query.map(str::as_bytes));
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(fields: &[(&'static str, &str)]) -> Option<String> {
        let keys = ApiKeys::new(["secret-1", "secret-2"]).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        keys.caller(&headers).ok().map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn one_whole_key_of_ours() {
        assert_eq!(caller(&[("authorization", "Bearer secret-1")]).as_deref(), Some("secret-1"));
        assert_eq!(caller(&[("authorization", "bearer  secret-2")]).as_deref(), Some("secret-2"));
        assert_eq!(caller(&[("x-api-key", "secret-2")]).as_deref(), Some("secret-2"));
        let both = [("authorization", "Bearer secret-1"), ("x-api-key", "secret-1")];
        assert_eq!(caller(&both).as_deref(), Some("secret-1"));
        let basic = [("authorization", "Basic dTpw"), ("x-api-key", "secret-1")];
        assert_eq!(caller(&basic).as_deref(), Some("secret-1"), "another scheme is not ours to judge");
        let long = "secret-1".repeat(1000);
        for fields in [
            &[][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "secret-1")],
            &[("authorization", "Bearer secret-")],
            &[("authorization", "Bearer Secret-1")],
            &[("authorization", "Bearer secret-11")],
            &[("x-api-key", "")],
            &[("x-api-key", &long)],
            &[("x-api-key", "secret-1"), ("x-api-key", "secret-2")],
            &[("authorization", "Bearer secret-1"), ("x-api-key", "secret-2")],
        ] {
            assert_eq!(caller(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn keys_are_checked_and_never_shown() {
        for bad in ["", "a b", "é", &"a".repeat(257)] {
            assert!(ApiKeys::new([bad]).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", ApiKeys::new(["secret"]).unwrap()), "1 keys");
        assert!(ApiKeys::default().caller(&HeaderMap::new()).is_ok());
        assert!(ApiKeys::default().socket_caller(&HeaderMap::new(), None).is_ok());
    }

    #[test]
    fn a_socket_may_bring_its_key_in_the_query() {
        let keys = ApiKeys::new(["secret-1", "secret-2"]).unwrap();
        let mut headers = HeaderMap::new();
        assert!(keys.socket_caller(&headers, Some("secret-2")).is_ok());
        for none in [None, Some(""), Some("secret-3")] {
            assert!(keys.socket_caller(&headers, none).is_err(), "{none:?}");
        }
        headers.append("x-api-key", "secret-1".parse().unwrap());
        assert!(keys.socket_caller(&headers, None).is_ok() && keys.socket_caller(&headers, Some("secret-1")).is_ok());
        assert!(keys.socket_caller(&headers, Some("secret-2")).is_err(), "two keys that differ are none");
    }
}
