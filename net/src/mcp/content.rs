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

/// Takes the part, and leaves the rest unread.
pub(super) async fn collect(mut content: Content, range: Range, as_base64: bool) -> Result<Value, Error> {
    let (mut bytes, limit) = (Vec::new(), usize::try_from(range.limit).unwrap_or(usize::MAX));
    let size = content.size.unwrap_or(0);
    while bytes.len() < limit
        && let Some(piece) = content.pieces.next().await
    {
        bytes.extend_from_slice(&piece?);
    }
    bytes.truncate(limit);
    let (text, encoding) = match as_base64 {
        true => (base64::encode(&bytes), "base64"),
        false => (text(&mut bytes, range.offset, size)?, "utf8"),
    };
    let next = range.offset + bytes.len() as u64;
    let mut value = json!({"content": text, "encoding": encoding, "size": size, "etag": content.tag});
    if next < size {
        value["next_offset"] = next.into();
    }
    Ok(value)
}

/// The text, without a character that the limit cuts.
fn text(bytes: &mut Vec<u8>, offset: u64, size: u64) -> Result<String, Error> {
    let cut = offset + (bytes.len() as u64) < size;
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(why) if cut && why.error_len().is_none() && why.valid_up_to() > 0 => why.valid_up_to(),
        Err(_) => {
            let message = "this part of the file is not UTF-8 text (or `offset` is within a character)";
            return Err(Error::new(
                Reason::InvalidParameter,
                format!("{message}; ask with `encoding` \"base64\", or use a program that reads it"),
            ));
        }
    };
    bytes.truncate(valid);
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
