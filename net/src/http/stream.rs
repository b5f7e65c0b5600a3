//! How a body without end is sent: events as they come, a sign of life where none come, until either side leaves.
//!
//! One write a batch. A client that leaves is noticed by its socket, not by the next write.
//!
//! What lies in a client's socket when its connection is cut was never read, and who made it keeps only so much for a
//! client that comes back. So where one may, no more is sent than [`UNREAD_BYTES_MAX`] beyond what it has read: a peer
//! whose window is that much smaller than it was has not read.
//! Source: WHATWG HTML, server-sent events; RFC 9112 section 7.1 for the chunks.

use super::socket::{Gone, Wire};
use crate::operation::Events;
use crate::sys::borrow::borrow;
use crate::sys::tcp::peer_window_bytes;
use futures_util::future::{Either, select};
use monoio::time::{Instant, sleep};
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

/// Of a client that can come back: what its socket may hold unread.
const UNREAD_BYTES_MAX: u32 = 64 << 10;
/// Of such a client: what ours may hold, as asked of the kernel, which takes it twice.
const SEND_BUFFER_BYTES: usize = 32 << 10;
/// How often a client that has not read is looked at.
const READ_LOOK: Duration = Duration::from_millis(1);
/// A window that has not moved for so long may be a smaller one, not an unread one: a little more is sent.
const READ_WAIT: Duration = Duration::from_secs(1);

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
    let mut reading = None;
    if events.can_resume() {
        let socket = borrow(&wire.peer.stream);
        // Refused, the kernel's own bound holds, and a client that comes back may find a gap, which it is told.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
        reading = Some(Reading::default());
    }
    wire.flush().await?;
    let mut page = Vec::new();
    loop {
        if let Some(reading) = &mut reading {
            reading.has_read(wire).await?;
        }
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

/// What a client has read, as far as its window tells.
#[derive(Default)]
struct Reading {
    /// The largest window so far.
    window_bytes: u32,
}

impl Reading {
    /// Waits until the client has read all but a little, or has left.
    async fn has_read(&mut self, wire: &mut Wire<'_>) -> Result<(), Gone> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let Some(now) = peer_window_bytes(borrow(&wire.peer.stream)) else { return Ok(()) };
            self.window_bytes = self.window_bytes.max(now);
            if self.window_bytes - now <= UNREAD_BYTES_MAX {
                return Ok(());
            }
            if last != Some(now) {
                (last, since) = (Some(now), Instant::now());
            } else if since.elapsed() >= READ_WAIT {
                self.window_bytes = now.saturating_add(UNREAD_BYTES_MAX);
                return Ok(());
            }
            if let Either::Right(_) = select(pin!(sleep(READ_LOOK)), pin!(wire.left())).await {
                return Err(Gone::Left);
            }
        }
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
