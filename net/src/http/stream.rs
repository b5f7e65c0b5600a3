//! How a body without end is sent: events as they come, a sign of life where none come, until either side leaves.
//!
//! One write a batch, never held back. A client that leaves is noticed by its socket, not by the next write.
//! Source: WHATWG HTML, server-sent events; RFC 9112 section 7.1 for the chunks.

use super::socket::{Gone, Wire};
use crate::operation::Events;
use futures_util::future::{Either, select};
use monoio::time::sleep;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

/// A comment, which readers of events skip.
const SIGN_OF_LIFE: &[u8] = b":\n\n";

/// Sends the head that was written, then events until they end. An error: the client has gone, and the events are
/// dropped, which ends what makes them.
pub(super) async fn send(
    wire: &mut Wire<'_>,
    mut events: Box<dyn Events>,
    chunked: bool,
    heartbeat: Duration,
) -> Result<(), Gone> {
    wire.flush().await?;
    let mut page = Vec::new();
    loop {
        let more = {
            let mut next = events.write_next(&mut page);
            loop {
                {
                    let (quiet, left) = (pin!(sleep(heartbeat)), pin!(wire.left()));
                    match select(next, select(quiet, left)).await {
                        Either::Left((more, _)) => break more,
                        Either::Right((Either::Right(_), _)) => return Err(Gone::Left),
                        Either::Right((Either::Left(_), still)) => next = still,
                    }
                }
                put(&mut wire.out, SIGN_OF_LIFE, chunked);
                wire.flush().await?;
            }
        };
        put(&mut wire.out, &page, chunked);
        page.clear();
        if !more {
            if chunked {
                wire.out.extend_from_slice(b"0\r\n\r\n");
            }
            return Ok(());
        }
        wire.flush().await?;
    }
}

/// Appends bytes as they are, or as one chunk. An empty chunk would be the end.
fn put(out: &mut Vec<u8>, bytes: &[u8], chunked: bool) {
    if bytes.is_empty() {
        return;
    }
    if !chunked {
        return out.extend_from_slice(bytes);
    }
    // Writing to memory does not fail.
    let _ = write!(out, "{:x}\r\n", bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
