//! What does a client carry for us between two requests? What was said so far, signed, so that nobody can make it up.
//!
//! ```text
//!  base64url( JSON [tool, expires, what was said] ) . base64url( MAC of it )
//! ```
//! SipHash-2-4 with 128 bits under a key of this process; compared without a branch. A state is of one tool, and lives
//! for [`LIFE`].

use crate::wire::base64;
use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From one request to the next.
const LIFE: Duration = Duration::from_secs(600);
const BYTES_MAX: usize = 4096;

static KEY: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let mut key = [0; 16];
    // Sixteen bytes come at once or not at all, and without them nothing that is signed may be believed.
    assert_eq!(getrandom(&mut key, GetRandomFlags::empty()), Ok(key.len()), "no randomness for a key");
    key
});

/// What was said so far, by the keys of the questions.
pub(super) type Said = BTreeMap<String, String>;

/// Signs what was said to this tool.
pub(super) fn seal(tool: &str, said: &Said) -> String {
    let expires = now_s() + LIFE.as_secs();
    // Texts and a number are always JSON.
    let text = base64::encode_url(&serde_json::to_vec(&(tool, expires, said)).unwrap_or_default());
    format!("{text}.{}", base64::encode_url(&mac(&text)))
}

/// Reads what was said to this tool; `None` where this was not signed here, is of another tool, or too old.
pub(super) fn open(tool: &str, state: &str) -> Option<Said> {
    let (text, signed) = state.split_once('.').filter(|_| state.len() <= BYTES_MAX)?;
    let signed = base64::decode_url(signed).filter(|bytes| bytes.len() == 16)?;
    let differs = mac(text).iter().zip(&signed).fold(0, |all, (a, b)| all | (a ^ b));
    if std::hint::black_box(differs) != 0 {
        return None;
    }
    let (of, expires, said): (String, u64, Said) = serde_json::from_slice(&base64::decode_url(text)?).ok()?;
    (of == tool && now_s() < expires).then_some(said)
}

fn mac(text: &str) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(&KEY);
    hasher.write(text.as_bytes());
    hasher.finish128().as_bytes()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_tools_and_cannot_be_made_up() {
        let said = Said::from([("step1".to_owned(), "Ada".to_owned())]);
        let state = seal("a", &said);
        assert_eq!(open("a", &state), Some(said));
        assert_eq!(open("b", &state), None);
        for (at, byte) in state.bytes().enumerate() {
            let mut other = state.clone().into_bytes();
            other[at] = if byte == b'A' { b'B' } else { b'A' };
            assert_eq!(open("a", &String::from_utf8(other).unwrap()), None, "byte {at}");
        }
        for wrong in ["", ".", "a.b", &format!("{state}-TAMPERED"), &state[1..]] {
            assert_eq!(open("a", wrong), None, "{wrong}");
        }
    }
}
