//! Replies to calls that must not be carried out twice: a client that heard no answer sends the same call again,
//! perhaps on a new connection from another port.
//!
//! Known by the client's address, the call's number and a checksum of all of it. Bounded in entries and bytes; what is
//! oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

const CALLS_MAX: usize = 4096;
const REPLY_BYTES_MAX: usize = 1024;

type Key = (IpAddr, u32, u64);

/// What a call is.
pub(super) enum Seen {
    /// New: carry it out, then [`Duplicates::done`].
    New(Ticket),
    /// It was carried out: this was the reply, from the first byte behind the length on.
    Before(Vec<u8>),
    /// It is being carried out: its reply comes.
    UnderWay,
}

/// Names a call that is being carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(Key);

#[derive(Default)]
struct Kept {
    replies: HashMap<Key, Option<Vec<u8>>>,
    oldest: VecDeque<Key>,
}

/// The calls that were heard last.
#[derive(Default)]
pub(super) struct Duplicates {
    kept: Mutex<Kept>,
    hasher: RandomState,
}

impl Duplicates {
    /// Looks a call up, and takes it as begun where it is new.
    pub(super) fn look(&self, peer: IpAddr, xid: u32, record: &[u8]) -> Seen {
        let key = (peer, xid, self.hasher.hash_one(record));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.replies.get(&key) {
            Some(Some(reply)) => return Seen::Before(reply.clone()),
            Some(None) => return Seen::UnderWay,
            None => {}
        }
        if kept.oldest.len() >= CALLS_MAX
            && let Some(oldest) = kept.oldest.pop_front()
        {
            kept.replies.remove(&oldest);
        }
        kept.replies.insert(key, None);
        kept.oldest.push_back(key);
        Seen::New(Ticket(key))
    }

    /// Keeps the reply. One that is too long is not kept, and its call may be carried out again; none is.
    pub(super) fn done(&self, ticket: Ticket, reply: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have become the oldest meanwhile, and gone.
        if let Some(place) = kept.replies.get_mut(&ticket.0) {
            *place = Some(reply[..reply.len().min(REPLY_BYTES_MAX)].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_call_is_new_once_and_the_oldest_goes() {
        let (duplicates, peer) = (Duplicates::default(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let Seen::New(ticket) = duplicates.look(peer, 1, b"remove a") else { panic!("it is new") };
        assert!(matches!(duplicates.look(peer, 1, b"remove a"), Seen::UnderWay));
        duplicates.done(ticket, b"done");
        assert!(matches!(duplicates.look(peer, 1, b"remove a"), Seen::Before(reply) if reply == b"done"));
        assert!(matches!(duplicates.look(peer, 1, b"remove b"), Seen::New(_)));
        assert!(matches!(duplicates.look(Ipv4Addr::new(10, 0, 0, 1).into(), 1, b"remove a"), Seen::New(_)));
        for xid in 2..5000 {
            assert!(matches!(duplicates.look(peer, xid, b"remove a"), Seen::New(_)));
        }
        let kept = duplicates.kept.lock().unwrap();
        assert_eq!((kept.replies.len(), kept.oldest.len()), (CALLS_MAX, CALLS_MAX));
        drop(kept);
        assert!(matches!(duplicates.look(peer, 1, b"remove a"), Seen::New(_)));
    }
}
