//! How is a part of a file shown to a model? As text that is never cut within a character, with where the next part begins.

use crate::content::Content;
use crate::operation::Asked;
use crate::wire::base64;
use serde_json::{Value, json};
use workspace_core::{Error, Reason};

/// Which bytes of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Range {
    pub(super) offset: u64,
    /// At least 1.
    pub(super) limit: u64,
}

impl Range {
    pub(super) fn asked(&self) -> Asked {
        // No range of an empty file can be had, so that the whole is asked for where it begins at its begin.
        let range = (self.offset > 0).then(|| format!("bytes={}-", self.offset));
        Asked { bytes: true, range, ..Asked::default() }
    }
}

/// A part of a file.
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Of the whole file.
    pub(super) size: u64,
    pub(super) tag: Option<String>,
}

/// Takes the part, and leaves the rest unread.
pub(super) async fn take(mut content: Content, limit: u64) -> Result<Part, Error> {
    let (mut bytes, limit) = (Vec::new(), usize::try_from(limit).unwrap_or(usize::MAX));
    while bytes.len() < limit
        && let Some(piece) = content.pieces.next().await
    {
        bytes.extend_from_slice(&piece?);
    }
    bytes.truncate(limit);
    Ok(Part { bytes, size: content.size.unwrap_or(0), tag: content.tag })
}

/// Takes the part as a tool's answer.
pub(super) async fn collect(content: Content, range: Range, as_base64: bool) -> Result<Value, Error> {
    let Part { mut bytes, size, tag } = take(content, range.limit).await?;
    let (text, encoding) = match as_base64 {
        true => (base64::encode(&bytes), "base64"),
        false => (text(&mut bytes, range.offset, size)?, "utf8"),
    };
    let next = range.offset + bytes.len() as u64;
    let mut value = json!({"content": text, "encoding": encoding, "size": size, "etag": tag});
    if next < size {
        value["next_offset"] = next.into();
    }
    Ok(value)
}

/// The text, without a character that the limit cuts.
fn text(bytes: &mut Vec<u8>, offset: u64, size: u64) -> Result<String, Error> {
    let cut = offset + (bytes.len() as u64) < size;
    let Some(valid) = text_bytes(bytes, cut) else {
        let message = "this part of the file is not UTF-8 text (or `offset` is within a character)";
        return Err(Error::new(
            Reason::InvalidParameter,
            format!("{message}; ask with `encoding` \"base64\", or use a program that reads it"),
        ));
    };
    bytes.truncate(valid);
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// How many of the bytes are whole characters; `None` where they are no text.
pub(super) fn text_bytes(bytes: &[u8], cut: bool) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Some(bytes.len()),
        Err(why) if cut && why.error_len().is_none() && why.valid_up_to() > 0 => Some(why.valid_up_to()),
        Err(_) => None,
    }
}
