//! How something in an export is named for clients, so that the name outlives this server and can't be made up.
//!
//! ```text
//!  0       1                  21       29           37            53
//!  version  the sandbox's id   inode    generation   MAC of the rest
//! ```
//! SipHash-2-4 with 128 bits of output is made for short messages under a key that stays secret; whoever cannot compute
//! it finds a handle by 2¹²⁷ calls. It is compared without a branch, before anything else is done with a handle.
//! Nothing in it tells a place: all names of a file have one handle, and it stays when the file is moved.

use super::types::Fault;
use crate::id::SandboxId;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

const VERSION: u8 = 1;
const ID_BYTES: usize = 20;
const MAC_AT: usize = 1 + ID_BYTES + 8 + 8;
const BYTES: usize = MAC_AT + 16;

/// A file handle as it is on the wire; whether this server gave it out is looked at when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle([u8; BYTES]);

impl Handle {
    /// Takes what a client sent; `BadHandle` where its form is wrong already.
    pub fn from_bytes(bytes: &[u8]) -> Result<Handle, Fault> {
        match <[u8; BYTES]>::try_from(bytes) {
            Ok(bytes) if bytes[0] == VERSION => Ok(Handle(bytes)),
            _ => Err(Fault::BadHandle),
        }
    }

    /// At most 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a handle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) id: SandboxId,
    pub(super) inode: u64,
    pub(super) generation: u64,
}

/// Signs handles, and knows its own.
#[derive(Clone)]
pub(super) struct Signer(SipHasher24);

impl Signer {
    pub(super) fn new(key: &[u8; 32]) -> Signer {
        let mut short = [0; 16];
        // Both halves count: the key of a hash of half the width is the sum of them.
        short.iter_mut().zip(&key[..16]).zip(&key[16..]).for_each(|((to, a), b)| *to = a ^ b);
        Signer(SipHasher24::new_with_key(&short))
    }

    pub(super) fn sign(&self, target: &Target) -> Handle {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1..=ID_BYTES].copy_from_slice(&target.id.to_bytes());
        bytes[21..29].copy_from_slice(&target.inode.to_be_bytes());
        bytes[29..MAC_AT].copy_from_slice(&target.generation.to_be_bytes());
        let mac = self.mac(&bytes[..MAC_AT]);
        bytes[MAC_AT..].copy_from_slice(&mac);
        Handle(bytes)
    }

    pub(super) fn verify(&self, handle: &Handle) -> Result<Target, Fault> {
        let bytes = &handle.0;
        let mac = self.mac(&bytes[..MAC_AT]);
        let differs = mac.iter().zip(&bytes[MAC_AT..]).fold(0, |all, (a, b)| all | (a ^ b));
        if std::hint::black_box(differs) != 0 {
            return Err(Fault::BadHandle);
        }
        let number = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(word)
        };
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&bytes[1..=ID_BYTES]);
        Ok(Target { id: SandboxId::from_bytes(id), inode: number(21), generation: number(29) })
    }

    fn mac(&self, bytes: &[u8]) -> [u8; 16] {
        let mut hasher = self.0;
        hasher.write(bytes);
        hasher.finish128().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { id: SandboxId::from_random([9; 20]), inode: 7, generation: 1 << 40 }
    }

    #[test]
    fn each_bit_counts() {
        let signer = Signer::new(&[3; 32].map(|b: u8| b));
        let handle = signer.sign(&target());
        assert_eq!(signer.verify(&handle), Ok(target()));
        assert!(handle.as_bytes().len() <= 64);
        for bit in 0..handle.as_bytes().len() * 8 {
            let mut bytes = handle.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let known = Handle::from_bytes(&bytes).and_then(|handle| signer.verify(&handle));
            assert_eq!(known, Err(Fault::BadHandle), "bit {bit}");
        }
        let mut other = [3; 32];
        other[31] = 4;
        assert_eq!(Signer::new(&other).verify(&handle), Err(Fault::BadHandle));
    }

    /// Bytes are a handle only if they are one that was signed.
    fn any_bytes(input: &[u8]) {
        let signer = Signer::new(&[5; 32]);
        if let Ok(target) = Handle::from_bytes(input).and_then(|handle| signer.verify(&handle)) {
            assert_eq!(signer.sign(&target).as_bytes(), input);
        }
        for length in [0, 1, BYTES - 1, BYTES + 1, 64, 65] {
            let bytes: Vec<u8> = input.iter().copied().chain(std::iter::repeat(VERSION)).take(length).collect();
            assert_eq!(Handle::from_bytes(&bytes), Err(Fault::BadHandle));
        }
    }

    #[test]
    fn any_bytes_are_a_handle_or_refused() {
        let signed = Signer::new(&[5; 32]).sign(&target());
        crate::fuzz::run(any_bytes, &[signed.as_bytes(), &[0; BYTES], &[0xff; BYTES], &[VERSION; BYTES]]);
    }
}
