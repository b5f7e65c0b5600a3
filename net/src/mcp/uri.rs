//! Which file does `workspace://{sandbox_id}/{+path}` name? The path that HTTP takes, percent-encoded.
//!
//! What is behind the id is the path alone, `?` and `#` too: the template's `+` lets them stand as they are. Nothing is
//! judged here: `..`, encoded slashes and all else mean what they mean over HTTP, where each path is resolved inside its
//! sandbox. Bytes that are not UTF-8 are those of the name.
//! Source: RFC 3986 section 2, RFC 6570 section 3.2.3.

use std::fmt::Write;
use workspace_core::SandboxId;
use workspace_core::files::name;

/// How all resources are named.
pub(super) const TEMPLATE: &str = "workspace://{sandbox_id}/{+path}";
const SCHEME: &str = "workspace://";
/// The longest path, each byte encoded, and what stands before it.
pub(super) const URI_BYTES_MAX: usize = 16 << 10;
/// Where relative paths begin.
pub(super) const ROOT: &str = "/workspace";

/// A file or directory of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sandbox: SandboxId,
    /// As HTTP takes it, never empty.
    pub(super) path: String,
}

impl Place {
    /// Reads a URI, or says what is wrong with it.
    pub(super) fn read(uri: &str) -> Result<Place, &'static str> {
        if uri.len() > URI_BYTES_MAX {
            return Err("the uri is longer than 16 KiB");
        }
        let rest = uri.split_at_checked(SCHEME.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        let Some((_, rest)) = rest else { return Err("the uri is not workspace://{sandbox_id}/{path}") };
        let (id, path) = rest.split_once('/').unwrap_or((rest, ""));
        let sandbox = SandboxId::parse(id).ok_or("the uri does not name a sandbox: workspace://{sandbox_id}/{path}")?;
        let path = decode(path).ok_or("the uri holds a % that is not followed by two hexadecimal digits")?;
        Ok(Place { sandbox, path: if path.is_empty() { ROOT.to_owned() } else { path } })
    }

    /// The URI of a path, absolute inside the sandbox, as HTTP shows it.
    pub(super) fn write(sandbox: SandboxId, path: &str) -> String {
        let below = match path.strip_prefix(ROOT) {
            Some("") => "",
            Some(below) => below.strip_prefix('/').unwrap_or(path),
            None => path,
        };
        let mut uri = format!("{SCHEME}{sandbox}/");
        for byte in below.bytes() {
            // Writing to memory does not fail.
            let _ = match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => uri.write_char(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => uri.write_char(char::from(byte)),
                _ => write!(uri, "%{byte:02X}"),
            };
        }
        uri
    }
}

/// A path of a URI as HTTP takes it; `None` where an escape is broken.
pub(super) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8(decoded).unwrap_or_else(|not_text| name::show(not_text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SandboxId {
        SandboxId::from_bytes([7; 20])
    }

    fn path(rest: &str) -> Option<String> {
        Place::read(&format!("workspace://{}{rest}", id())).ok().map(|place| place.path)
    }

    #[test]
    fn what_stands_behind_the_id_is_the_path() {
        for (rest, meant) in [
            ("", "/workspace"),
            ("/", "/workspace"),
            ("/a/b.txt", "a/b.txt"),
            ("//etc/hosts", "/etc/hosts"),
            ("/a%20b?c#d", "a b?c#d"),
            ("/../a%2f..%2Fb", "../a/../b"),
            ("/%e6%97%a5", "日"),
            ("/%FF%00", "\u{10efff}\0"),
            ("/100%25", "100%"),
        ] {
            assert_eq!(path(rest).as_deref(), Some(meant), "{rest}");
        }
        for bad in ["/%", "/%4", "/%zz", "/%+1", ":80/a", "x/a"] {
            assert_eq!(path(bad), None, "{bad}");
        }
        for bad in
            ["", "workspace:", "workspace:///a", "file:///a", "workspace://../a", "workspacé://", "workspace://é/"]
        {
            assert!(Place::read(bad).is_err(), "{bad}");
        }
        assert!(Place::read(&format!("WorkSpace://{}/a", id())).is_ok());
        assert!(Place::read(&format!("workspace://{}/{}", id(), "a".repeat(URI_BYTES_MAX))).is_err());
    }

    #[test]
    fn below_the_workspace_is_short_and_elsewhere_absolute() {
        for (path, rest) in [
            ("/workspace", ""),
            ("/workspace/a b/ü", "a%20b/%C3%BC"),
            ("/workspaces/a", "/workspaces/a"),
            ("/etc/hosts", "/etc/hosts"),
            ("/workspace//etc", "/etc"),
        ] {
            assert_eq!(Place::write(id(), path), format!("workspace://{}/{rest}", id()));
        }
    }

    /// Whatever can be read is written as a URI that is read the same, and holds nothing that ends a line.
    fn any_uri(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let Ok(place) = Place::read(&text).or_else(|_| Place::read(&format!("workspace://{}/{text}", id()))) else {
            return;
        };
        let absolute = if place.path.starts_with('/') { place.path.clone() } else { format!("{ROOT}/{}", place.path) };
        let uri = Place::write(place.sandbox, &absolute);
        assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
        if uri.len() <= URI_BYTES_MAX && !absolute.starts_with("/workspace//") {
            let again = Place::read(&uri).unwrap().path;
            let again = if again.starts_with('/') { again } else { format!("{ROOT}/{again}") };
            assert_eq!(again.trim_end_matches('/'), absolute.trim_end_matches('/'));
        }
    }

    #[test]
    fn any_uri_is_read_as_it_is_written() {
        let corpus: [&[u8]; 5] = [b"a/%2e%2e/b", b"%F4%8E%BF%BF/\xff", b"/etc//%", b"?q=1#f", b"workspace://"];
        crate::fuzz::run(any_uri, &corpus);
    }
}
