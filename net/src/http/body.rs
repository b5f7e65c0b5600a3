//! How a JSON body is received: bounded by what was declared, by what has arrived on this core, and by time.

use super::socket::{Gone, Wire};
use super::{App, BODIES_BYTES_MAX};
use crate::failure::Refusal;
use crate::wire::chunked;
use crate::wire::framing::{Body, Framing};
use bytes::Bytes;
use monoio::time::Instant;
use workspace_core::{Error, Reason};

/// What is read and dropped so that a refused request does not cost the connection.
const DRAIN_BYTES_MAX: u64 = 64 << 10;
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why there is no body. The connection ends in both cases.
pub(super) enum Stop {
    /// With an answer.
    Refused(Refusal),
    /// Without one.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

/// Receives a whole body of at most `bytes_max`.
pub(super) async fn receive(
    app: &App,
    wire: &mut Wire<'_>,
    framing: &Framing<'_>,
    bytes_max: usize,
) -> Result<Bytes, Stop> {
    let length = match framing.body {
        Body::Length(length) if length > bytes_max as u64 => return Err(too_large(bytes_max).into()),
        Body::Length(length) => Some(length as usize),
        Body::Chunked => None,
    };
    if let Some(length) = length.filter(|length| *length <= wire.input.len()) {
        return Ok(wire.input.split_to(length).freeze());
    }
    if framing.expect_continue && wire.input.is_empty() {
        wire.out.extend_from_slice(CONTINUE);
    }
    wire.flush().await.map_err(|_| Stop::Gone)?;
    let mut intake = Intake { app, counted: 0, ends: Instant::now() + app.settings.deadlines.body_total };
    match length {
        Some(length) => {
            while wire.input.len() < length {
                intake.more(wire, 0).await?;
            }
            Ok(wire.input.split_to(length).freeze())
        }
        None => chunks(wire, intake, bytes_max).await,
    }
}

async fn chunks(wire: &mut Wire<'_>, mut intake: Intake<'_>, bytes_max: usize) -> Result<Bytes, Stop> {
    let (mut decoder, mut data) = (chunked::Decoder::default(), Vec::new());
    loop {
        let done = decoder.decode(&mut wire.input, &mut data).map_err(|e| Refusal::request(400, e.0))?;
        if data.len() > bytes_max {
            return Err(too_large(bytes_max).into());
        }
        if done {
            return Ok(data.into());
        }
        intake.more(wire, data.len()).await?;
    }
}

/// Reads a small body that nobody wants; false where the connection must end instead.
pub(super) async fn drain(app: &App, wire: &mut Wire<'_>, framing: &Framing<'_>) -> bool {
    let Body::Length(mut left) = framing.body else { return false };
    if left > DRAIN_BYTES_MAX || (framing.expect_continue && left > 0) {
        return false;
    }
    let mut deadline = None;
    loop {
        let take = left.min(wire.input.len() as u64);
        let _ = wire.input.split_to(take as usize);
        left -= take;
        if left == 0 {
            return true;
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + app.settings.deadlines.body);
        if wire.fill(deadline).await.is_err() {
            return false;
        }
    }
}

/// Receives pieces, and counts what is held for them among all bodies of the core.
struct Intake<'a> {
    app: &'a App,
    counted: usize,
    ends: Instant,
}

impl Intake<'_> {
    async fn more(&mut self, wire: &mut Wire<'_>, decoded_bytes: usize) -> Result<(), Stop> {
        let deadline = (Instant::now() + self.app.settings.deadlines.body).min(self.ends);
        wire.fill(deadline).await.map_err(|gone| match gone {
            Gone::Left => Stop::Gone,
            Gone::Late => Refusal::request(408, "the body did not arrive in time").into(),
        })?;
        let held = decoded_bytes + wire.input.len();
        let all = self.app.bodies_bytes.get() - self.counted + held;
        if all > BODIES_BYTES_MAX {
            let message = "the server is receiving too much at once; try again";
            return Err(Refusal::from(Error::new(Reason::Overloaded, message)).into());
        }
        self.app.bodies_bytes.set(all);
        self.counted = held;
        Ok(())
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        self.app.bodies_bytes.set(self.app.bodies_bytes.get() - self.counted);
    }
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::request(413, format!("the body is longer than {bytes_max} bytes"))
}
