//! How a content is answered: the fields that describe it, then its bytes, a piece at a time.
//!
//! What a sandbox wrote is not ours to show: it goes out as an attachment that no browser runs with our origin.
//! Source: RFC 9110 sections 8.8, 14.4 and 15.4.5; RFC 6266 and RFC 8187 for the name.

use super::answer::{COPIED_BYTES_MAX, decimal, field};
use super::socket::{Gone, Wire};
use crate::content::{Content, Part};
use crate::wire::date;
use std::io::Write;

const NOT_RUN: &[u8] = b"content-security-policy: default-src 'none'; sandbox\r\n";
/// Of a name, escaped.
const NAME_BYTES_MAX: usize = 255;

/// Writes the fields of an answer's head.
pub(super) fn write_fields(out: &mut Vec<u8>, content: &Content) {
    if let Some(tag) = &content.tag {
        out.extend_from_slice(b"etag: \"");
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(b"\"\r\n");
    }
    if let Some(us) = content.modified_us {
        out.extend_from_slice(b"last-modified: ");
        out.extend_from_slice(&date::write(us / 1_000_000));
        out.extend_from_slice(b"\r\ncache-control: no-cache\r\n");
    }
    if content.part == Part::Known {
        return;
    }
    if content.size.is_some() {
        out.extend_from_slice(b"accept-ranges: bytes\r\n");
    }
    if let (Part::Of(range), Some(size)) = (&content.part, content.size) {
        out.extend_from_slice(b"content-range: bytes ");
        decimal(out, range.start);
        out.push(b'-');
        decimal(out, range.end - 1);
        out.push(b'/');
        decimal(out, size);
        out.extend_from_slice(b"\r\n");
    }
    field(out, b"content-disposition: attachment; filename*=UTF-8''", &escaped(&content.name));
    out.extend_from_slice(NOT_RUN);
}

/// A name in visible ASCII: nothing of it can end a field or be taken for a part of one. A name that is too long is
/// called `file`.
fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => text.push(char::from(*byte)),
            byte => text += &format!("%{byte:02X}"),
        }
    }
    if text.is_empty() || text.len() > 3 * NAME_BYTES_MAX { "file".to_owned() } else { text }
}

/// Sends the bytes behind the head that was written. An error: the client has gone, or what follows can't be had; the
/// connection is cut, so that nobody takes what came for the whole.
pub(super) async fn send(wire: &mut Wire<'_>, mut content: Content, chunked: bool) -> Result<(), Gone> {
    let mut left = content.length();
    while let Some(piece) = content.pieces.next().await {
        let piece = piece.map_err(|error| {
            tracing::warn!(%error, "a download was cut");
            Gone::Left
        })?;
        let is_framed = left.is_none() && chunked;
        if let Some(left) = &mut left {
            // More than was declared would be taken for the next answer.
            *left = left.checked_sub(piece.len() as u64).ok_or(Gone::Left)?;
        }
        if is_framed {
            // Writing to memory does not fail.
            let _ = write!(wire.out, "{:x}\r\n", piece.len());
        }
        match piece.len() {
            0..=COPIED_BYTES_MAX => wire.out.extend_from_slice(&piece),
            _ => wire.flush_with(&piece).await?,
        }
        if is_framed {
            wire.out.extend_from_slice(b"\r\n");
        }
        if wire.out.len() > COPIED_BYTES_MAX {
            wire.flush().await?;
        }
    }
    match left {
        Some(0) => Ok(()),
        Some(_) => Err(Gone::Left),
        None => {
            if chunked {
                wire.out.extend_from_slice(b"0\r\n\r\n");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_cannot_leave_its_field() {
        assert_eq!(
            escaped("a\r\nSet-Cookie: x;\"é\u{202e}".as_bytes()),
            "a%0D%0ASet-Cookie%3A%20x%3B%22%C3%A9%E2%80%AE"
        );
        assert_eq!(escaped(b"\xff"), "%FF");
        assert_eq!(escaped(b""), "file");
    }
}
