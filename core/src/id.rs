//! Names of things: opaque, unguessable, and telling which shard owns them.
//!
//! A sandbox id is 32 lowercase base32 characters: 8 node bits (0 now), then 152 random bits.

use std::fmt;

/// The alphabet of ids: RFC 4648 base32, lowercase.
pub const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

const ID_CHARS: usize = 32;
const ID_BYTES: usize = 20;

/// The id of a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId([u8; ID_CHARS]);

impl SandboxId {
    /// Reads an id; anything but 32 characters of [`BASE32`] is `None`.
    pub fn parse(text: &str) -> Option<SandboxId> {
        let bytes: [u8; ID_CHARS] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')).then_some(SandboxId(bytes))
    }

    /// Makes the id of 20 random bytes; the first is replaced by the node number 0.
    pub fn from_random(mut random: [u8; ID_BYTES]) -> SandboxId {
        random[0] = 0;
        SandboxId::from_bytes(random)
    }

    /// The id of its 160 bits.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> SandboxId {
        let mut chars = [0u8; ID_CHARS];
        for (i, c) in chars.iter_mut().enumerate() {
            let bit = i * 5;
            let pair = u16::from_be_bytes([bytes[bit / 8], *bytes.get(bit / 8 + 1).unwrap_or(&0)]);
            *c = BASE32[usize::from(pair >> (11 - bit % 8)) & 31];
        }
        SandboxId(chars)
    }

    /// Its 160 bits.
    pub fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0u8; ID_BYTES];
        for (i, char) in self.0.iter().enumerate() {
            let five = if char.is_ascii_digit() { char - b'2' + 26 } else { char - b'a' };
            let (at, pair) = (i * 5 / 8, u16::from(five) << (11 - i * 5 % 8));
            let [high, low] = pair.to_be_bytes();
            bytes[at] |= high;
            if let Some(next) = bytes.get_mut(at + 1) {
                *next |= low;
            }
        }
        bytes
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The shard that owns this sandbox, below `shards`. FNV-1a: stable, and even over random ids.
    pub fn shard_of(&self, shards: usize) -> usize {
        let hash =
            self.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        ((hash >> 32) as usize) % shards.max(1)
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pattern_is_an_id() {
        let id = SandboxId::from_random([0xff; 20]);
        assert_eq!(SandboxId::parse(id.as_str()), Some(id));
        assert!(id.as_str().starts_with('a'), "node bits are 0");
        for bad in
            ["", "../x", "A", &"a".repeat(31), &"a".repeat(33), &"A".repeat(32), &"1".repeat(32), &"é".repeat(16)]
        {
            assert_eq!(SandboxId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_bit_counts() {
        let zero = SandboxId::from_random([0; 20]);
        for bit in 8..160 {
            let mut random = [0u8; 20];
            random[bit / 8] |= 0x80 >> (bit % 8);
            assert_ne!(SandboxId::from_random(random), zero, "bit {bit}");
        }
    }

    #[test]
    fn shards_are_even() {
        let mut counts = [0u32; 4];
        for i in 0..4000u32 {
            let mut random = [0u8; 20];
            random[1..5].copy_from_slice(&i.to_be_bytes());
            counts[SandboxId::from_random(random).shard_of(4)] += 1;
        }
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }

    /// An id is the text that it was read from, safe as a file name, and owned by one of the shards.
    fn any_text(input: &[u8]) {
        if let Some(id) = std::str::from_utf8(input).ok().and_then(SandboxId::parse) {
            assert_eq!(SandboxId::from_bytes(id.to_bytes()), id);
            assert_eq!(id.as_str().as_bytes(), input);
            assert!(input.len() == 32 && input.iter().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(b)));
            assert!((0..9).all(|shards| id.shard_of(shards) < shards.max(1)));
        }
        let mut random = [0; ID_BYTES];
        random.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
        let id = SandboxId::from_random(random);
        assert_eq!(SandboxId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn any_text_is_an_id_or_none() {
        let last = "7".repeat(32);
        let corpus: [&[u8]; 4] =
            [b"aaq2wk57mzn4xcbdefghijklmnop3562", last.as_bytes(), "éééééééééééééééé".as_bytes(), b"../../../../etc"];
        crate::fuzz::run(any_text, &corpus);
    }
}
