//! Read and write a file: as JSON where it is text and small, as bytes where it is anything else.

use super::bounds::refuse;
use super::place::{self, FILE_ERRORS};
use crate::content::{self, Content, Part, Wanted};
use crate::failure::{Refusal, Tells};
use crate::operation::{
    AsTool, Asked, Call, Carries, Effect, Incoming, Json, Limits, MIB, Operation, Output, Pieces, Profile, Reply,
    Route, get, post, put,
};
use crate::wire::base64;
use crate::wire::printed::{Encoding, Printed};
use crate::wire::range;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use workspace_core::files::{self, Places, WriteOptions, Written};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

/// Of a file that is written or read as JSON.
const JSON_BYTES_MAX: usize = 8 * MIB;
/// On one sandbox, counted per core.
const IN_FLIGHT_MAX: u32 = 256;

/// Which file to read.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    /// Absolute, or below `/workspace`.
    path: String,
    /// How `content` is written: `utf8`, or `base64` (exact); `utf8`.
    encoding: Option<String>,
}

/// A file's content. With `Accept: application/octet-stream`, or with Range, the answer is the bytes themselves.
#[derive(Debug, JsonSchema)]
#[allow(dead_code)] // The shape for documents: it is written piece by piece.
pub(super) struct Text {
    /// In the encoding asked for.
    content: String,
    /// `utf8` or `base64`.
    encoding: String,
    /// In bytes.
    size: u64,
    /// The tag for If-Match, without quotes.
    etag: String,
}

/// A file on its way out.
pub(super) enum FileBody {
    Text { printed: Printed, encoding: Encoding, size: u64, tag: String },
    Bytes(Content),
    Refused(Refusal),
}

impl Output for FileBody {
    fn reply(self) -> Result<Reply, Error> {
        match self {
            FileBody::Bytes(content) => Ok(Reply::Content(content)),
            FileBody::Refused(refusal) => Ok(Reply::Refused(refusal)),
            FileBody::Text { printed, encoding, size, tag } => {
                let encoding = if encoding == Encoding::Utf8 { "utf8" } else { "base64" };
                let close = format!("\",\"encoding\":\"{encoding}\",\"size\":{size},\"etag\":\"{tag}\"}}");
                Ok(Reply::Pieces(Box::new(JsonText::new(printed, close))))
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Text>())
    }
}

/// A text on its way into JSON.
struct JsonText {
    open: Option<&'static str>,
    printed: Printed,
    close: Option<String>,
}

impl JsonText {
    fn new(printed: Printed, close: String) -> JsonText {
        JsonText { open: Some("{\"content\":\""), printed, close: Some(close) }
    }
}

impl Pieces for JsonText {
    fn bytes(&self) -> u64 {
        let texts = self.open.map_or(0, str::len) + self.close.as_ref().map_or(0, String::len);
        texts as u64 + self.printed.json_bytes()
    }

    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(open) = self.open.take() {
            out.extend_from_slice(open.as_bytes());
            return true;
        }
        if self.printed.write_next(out) {
            return true;
        }
        match self.close.take() {
            Some(close) => out.extend_from_slice(close.as_bytes()),
            None => return false,
        }
        true
    }
}

pub(super) struct FileRead;

impl Operation for FileRead {
    const NAME: &'static str = "file_read";
    const SUMMARY: &'static str =
        "Read a file: text as JSON, or bytes with `Accept: application/octet-stream`, whole or by Range.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files"), get("/api/v1/sandboxes/{id}/fs/read")];
    const TOOL: Option<Profile> = Some(Profile::Developer);
    const AS_TOOL: AsTool = AsTool {
        title: "Read a file",
        about: "Read a file of the sandbox, by default its first 256 KiB. `next_offset` is there where more follows: call again with offset set to it. A file that is not UTF-8 text is refused: ask with encoding `base64`, or use process_run with a program that understands it.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Read;
    const CARRIES: Carries = Carries::Answers;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: IN_FLIGHT_MAX };
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Which;
    type Output = FileBody;

    async fn call(shard: &Shard, call: Call<Which>) -> Result<FileBody, Error> {
        let path = place::path("path", &call.input.path)?;
        let encoding = encoding(call.input.encoding.as_deref())?;
        let file = shard.files(call.sandbox()?)?.open(path).await?;
        let seen = file.seen();
        call.asked.conditions.check_match(Some(&seen))?;
        if call.asked.bytes || call.asked.conditions.is_known(&seen) {
            return Ok(bytes(file, &call.asked));
        }
        text(file, encoding).await
    }
}

/// The part that was asked for.
fn bytes(file: files::Content, asked: &Asked) -> FileBody {
    let is_same = asked.if_range.as_ref().is_none_or(|tag| tag.trim() == format!("\"{}\"", file.tag));
    let (part, read) = match asked.range.as_ref().filter(|_| is_same).map(|field| range::read(field, file.size)) {
        _ if asked.conditions.is_known(&file.seen()) => (Part::Known, 0..0),
        None | Some(range::Part::Whole) => (Part::Whole, 0..file.size),
        Some(range::Part::Of(range)) => (Part::Of(range.clone()), range),
        Some(range::Part::Unsatisfiable) => {
            let message = format!("the file has {} bytes, and an answer has one range of them", file.size);
            return FileBody::Refused(Refusal {
                tells: Some(Tells::RangeOf(file.size)),
                ..Refusal::request(416, message)
            });
        }
    };
    FileBody::Bytes(Content {
        part,
        size: Some(file.size),
        tag: Some(file.tag.clone()),
        modified_us: Some(file.modified_us),
        media_type: "application/octet-stream",
        name: file.name.clone(),
        pieces: Box::new(file.read(read)),
    })
}

async fn text(file: files::Content, encoding: Encoding) -> Result<FileBody, Error> {
    let Some(bytes) = file.collect(JSON_BYTES_MAX as u64).await? else {
        let message = format!(
            "the file has {} bytes, and JSON is for at most {JSON_BYTES_MAX}; ask with `Accept: application/octet-stream`",
            file.size
        );
        return Err(Error::new(Reason::InvalidParameter, message).details("path"));
    };
    if encoding == Encoding::Utf8 && std::str::from_utf8(&bytes).is_err() {
        let message =
            "the file is not UTF-8; ask for bytes with `Accept: application/octet-stream`, or set `encoding=base64`";
        return Ok(FileBody::Refused(Refusal::request(415, message)));
    }
    let size = bytes.len() as u64;
    Ok(FileBody::Text { printed: Printed::new(bytes, encoding), encoding, size, tag: file.tag.clone() })
}

fn encoding(text: Option<&str>) -> Result<Encoding, Error> {
    match text {
        None | Some("utf8") => Ok(Encoding::Utf8),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(refuse("encoding", "must be \"utf8\" or \"base64\"")),
    }
}

/// What to write, and where. Each field stands in the query or in the JSON body.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewContent {
    /// Absolute, or below `/workspace`. What is missing above it is made.
    path: String,
    /// The whole content, where the whole body is at most 8 MiB; without it the body is the content, of any length.
    content: Option<String>,
    /// How `content` is written: `utf8` or `base64`; `utf8`.
    encoding: Option<String>,
    /// Permissions in octal, at most `0777`; those of the file that is there, else `0644`.
    mode: Option<String>,
    /// Behind what is there, instead of in its place.
    #[serde(default)]
    append: bool,
}

/// A file that was written, whole and on the disk.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FileWritten {
    /// `true`.
    success: bool,
    /// Absolute, inside the sandbox.
    path: String,
    /// Of the whole file, in bytes.
    size: u64,
    /// The tag for If-Match, without quotes.
    etag: String,
}

pub(super) struct FileWrite;

impl Operation for FileWrite {
    const NAME: &'static str = "file_write";
    const SUMMARY: &'static str =
        "Write a file, whole or not at all: JSON, or bytes of any length as application/octet-stream.";
    const ROUTES: &'static [Route] = &[put("/api/v1/sandboxes/{id}/files"), post("/api/v1/sandboxes/{id}/fs/write")];
    const TOOL: Option<Profile> = Some(Profile::Developer);
    const AS_TOOL: AsTool = AsTool {
        title: "Write a file",
        about: "Write a whole text file, at most 8 MiB; directories above it are made. What is there is replaced in one step, or extended with append. Use encoding `base64` for bytes that are not text.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const CARRIES: Carries = Carries::Takes;
    const LIMITS: Limits = Limits { body_bytes_max: JSON_BYTES_MAX, in_flight_max_per_sandbox: IN_FLIGHT_MAX };
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = NewContent;
    type Output = Json<FileWritten>;

    async fn call(shard: &Shard, call: Call<NewContent>) -> Result<Self::Output, Error> {
        let path = place::path("path", &call.input.path)?;
        let options = WriteOptions {
            mode: place::mode(call.input.mode.as_deref())?,
            append: call.input.append,
            conditions: call.asked.conditions.clone(),
            length: None,
        };
        let shown = path.text();
        let tree = shard.files(call.sandbox()?)?;
        let written = match (content_of(&call.input)?, call.incoming) {
            (Some(_), Some(_)) => return Err(refuse("content", "stands beside a body of bytes; send one of both")),
            (Some(content), None) | (None, Some(Incoming::Whole(content))) => {
                tree.write(path, options, content).await?
            }
            (None, Some(Incoming::Stream(stream))) => receive(&tree, path, options, stream).await?,
            (None, None) => {
                let message = "`content` is missing; or send the bytes with `Content-Type: application/octet-stream`";
                return Err(Error::new(Reason::InvalidRequest, message).details("content"));
            }
        };
        Ok(Json(FileWritten { success: true, path: shown, size: written.size, etag: written.tag }))
    }
}

fn content_of(input: &NewContent) -> Result<Option<Bytes>, Error> {
    let encoding = encoding(input.encoding.as_deref())?;
    let Some(text) = &input.content else { return Ok(None) };
    let bytes = match encoding {
        Encoding::Utf8 => Bytes::copy_from_slice(text.as_bytes()),
        Encoding::Base64 => base64::decode(text).ok_or_else(|| refuse("content", "is not base64 with padding"))?.into(),
    };
    if bytes.len() > JSON_BYTES_MAX {
        return Err(refuse("content", format_args!("is longer than {JSON_BYTES_MAX} bytes; send it as bytes")));
    }
    Ok(Some(bytes))
}

/// Writes what comes, in constant memory. What ends before its end leaves nothing behind.
async fn receive(
    tree: &Places,
    path: files::SandboxPath,
    options: WriteOptions,
    mut stream: content::Stream,
) -> Result<Written, Error> {
    let options = WriteOptions { length: stream.length, ..options };
    let mut upload = tree.begin(path, options).await?;
    let wanted = if upload.takes_pages() { Wanted::Pages } else { Wanted::Memory };
    while let Some(piece) = stream.next(wanted).await? {
        upload.piece(piece).await?;
    }
    upload.finish().await
}
