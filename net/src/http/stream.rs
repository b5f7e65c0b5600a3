//! How a body without end is sent: events as they come, a sign of life where none come, until either side leaves.
//!
//! One write a batch. A client that leaves is noticed by its socket, not by the next write.
//!
//! What lies in the sockets when a connection is cut was never read, and who made it keeps only so much of what it has
//! sent (the agent: some 7 MiB) for a client that comes back. A client's socket takes 6 MiB at most where nobody has raised
//! that; so ours must take little where a client may come back.
//! Source: WHATWG HTML, server-sent events; RFC 9112 section 7.1 for the chunks.

use super::socket::{Gone, Wire};
use crate::operation::Events;
use crate::sys::borrow::borrow;
use futures_util::future::{Either, select};
use monoio::time::sleep;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

/// What our socket to a client that can come back may hold, as asked of the kernel, which takes it twice.
const SEND_BUFFER_BYTES: usize = 256 << 10;

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
    if events.can_resume() {
        let socket = borrow(&wire.peer.stream);
        // Refused, the kernel's own bound holds, and a client that comes back may find a gap, which it is told.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
    }
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
