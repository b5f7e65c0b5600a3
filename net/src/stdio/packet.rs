//! What do the program at a client's pipes and the server say to each other? Packets, each with a letter before it.
//!
//! ```text
//!  client ─stdin─► relay ── H hello · D bytes · E end of input · A go away ──► server
//!  client ◄stdout─ relay ◄─ H hello, or R refusal · D bytes · L last word ──── server
//! ```
//! A packet is at most [`PACKET_BYTES_MAX`], because the kernel cuts a longer one of a SOCK_SEQPACKET socket in two
//! (unix(7), Linux 3.9 and later: beyond one buffer of 32 KiB in pages).

use serde_json::{Value, json};

/// Of one packet, its letter included.
pub(super) const PACKET_BYTES_MAX: usize = 32 << 10;
/// Of both hellos. Another number is refused, with what to do.
const PROTOCOL: u64 = 1;
/// Of the name of a set of tools.
const NAME_BYTES_MAX: usize = 64;

/// From a client's side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromRelay<'a> {
    /// It begins; names the set of tools. An error is what it is told.
    Hello(Result<String, &'static str>),
    /// Of the client.
    Data(&'a [u8]),
    /// The client sends no more, and waits for the answers.
    End,
    /// The client has gone.
    Abort,
}

/// From the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromServer<'a> {
    /// It listens.
    Hello,
    /// It does not, and says why.
    Refused(String),
    /// For the client.
    Data(&'a [u8]),
    /// Nothing more is to come.
    Last {
        /// The server ends now: nobody else uses it.
        ends: bool,
    },
}

/// The packet that begins.
pub(super) fn hello(tools: &str) -> Vec<u8> {
    letter(b'H', json!({"protocol": PROTOCOL, "tools": tools}).to_string().as_bytes())
}

/// The server's hello.
pub(super) fn welcome() -> Vec<u8> {
    letter(b'H', json!({"protocol": PROTOCOL}).to_string().as_bytes())
}

/// The server's no.
pub(super) fn refusal(text: &str) -> Vec<u8> {
    letter(b'R', text.as_bytes())
}

/// The server's last word.
pub(super) fn last(ends: bool) -> Vec<u8> {
    vec![b'L', u8::from(ends)]
}

/// No more input.
pub(super) const END: &[u8] = b"E";
/// The client has gone.
pub(super) const ABORT: &[u8] = b"A";

/// A letter and what follows.
pub(super) fn letter(letter: u8, bytes: &[u8]) -> Vec<u8> {
    [&[letter], bytes].concat()
}

/// Before bytes of either side.
pub(super) const DATA: u8 = b'D';

/// Reads a packet of a client's side; `None`: it is none.
pub(super) fn from_relay(packet: &[u8]) -> Option<FromRelay<'_>> {
    let (letter, bytes) = packet.split_first()?;
    Some(match letter {
        b'H' => FromRelay::Hello(tools(bytes)),
        b'D' => FromRelay::Data(bytes),
        b'E' => FromRelay::End,
        b'A' => FromRelay::Abort,
        _ => return None,
    })
}

/// Reads a packet of the server.
pub(super) fn from_server(packet: &[u8]) -> Option<FromServer<'_>> {
    let (letter, bytes) = packet.split_first()?;
    Some(match letter {
        b'H' => FromServer::Hello,
        b'R' => FromServer::Refused(String::from_utf8_lossy(bytes).into_owned()),
        b'D' => FromServer::Data(bytes),
        b'L' => FromServer::Last { ends: bytes == [1] },
        _ => return None,
    })
}

fn tools(hello: &[u8]) -> Result<String, &'static str> {
    const OTHER: &str = "this workspace-server and the one that runs are of different versions; stop the running one, \
                         or start a program of its version";
    let hello: Value = serde_json::from_slice(hello).map_err(|_| OTHER)?;
    if hello["protocol"] != PROTOCOL {
        return Err(OTHER);
    }
    let name = hello["tools"].as_str().filter(|name| name.len() <= NAME_BYTES_MAX);
    name.map(str::to_owned).ok_or("the set of tools is not named")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_packet(input: &[u8]) {
        if let Some(FromRelay::Data(bytes)) = from_relay(input) {
            assert_eq!(letter(DATA, bytes), input);
        }
        if let Some(FromRelay::Hello(Ok(name))) = from_relay(input) {
            assert_eq!(from_relay(&hello(&name)), Some(FromRelay::Hello(Ok(name.clone()))));
        }
        assert_eq!(from_server(input).is_none(), !matches!(input.first(), Some(b'H' | b'R' | b'D' | b'L')));
    }

    #[test]
    fn any_packet_is_read_or_refused() {
        let corpus: [&[u8]; 6] = [&hello("developer"), b"DX", END, ABORT, &last(true), b"H{\"protocol\":2}"];
        crate::fuzz::run(any_packet, &corpus);
        assert_eq!(from_relay(END), Some(FromRelay::End));
        assert_eq!(from_relay(ABORT), Some(FromRelay::Abort));
        assert!(matches!(from_relay(b"H{\"protocol\":2}"), Some(FromRelay::Hello(Err(_)))));
        assert_eq!(from_server(&last(false)), Some(FromServer::Last { ends: false }));
        assert_eq!(from_server(&last(true)), Some(FromServer::Last { ends: true }));
        assert_eq!(from_server(&welcome()), Some(FromServer::Hello));
        assert_eq!(from_server(&refusal("x")), Some(FromServer::Refused("x".to_owned())));
    }
}
