//! Where things were seen last, so that a handle that is not held open leads there again.
//!
//! Whatever a client was given a handle of was met under a name in a directory. That is remembered in memory, bounded,
//! and only believed when the inode and its generation are found there. What was given out before this server started,
//! or was moved by others, is found by one walk over the export (`find.rs`), which remembers all that it meets.

use super::types::Time;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PARTS: usize = 16;
/// Places in all: about 120 bytes each.
pub(super) const PLACES_MAX: usize = 262_144;

/// An export's number, an inode's.
type Key = (u64, u64);

/// A directory's inode, and a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: u64,
    pub(super) name: Box<[u8]>,
    /// When it was made, and its generation, where these were seen there.
    pub(super) known: Option<(Time, u64)>,
}

#[derive(Default)]
struct Part {
    young: HashMap<Key, Place>,
    old: HashMap<Key, Place>,
}

/// Of all exports.
#[derive(Default)]
pub(super) struct Places([Mutex<Part>; PARTS]);

impl Places {
    fn part(&self, key: &Key) -> MutexGuard<'_, Part> {
        let part = &self.0[(key.1 as usize) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, export: u64, inode: u64, directory: u64, name: &[u8], known: Option<(Time, u64)>) {
        let key = (export, inode);
        let mut part = self.part(&key);
        match part.young.entry(key) {
            Entry::Occupied(mut entry) => {
                let place = entry.get_mut();
                if place.directory != directory || &place.name[..] != name {
                    *place = Place { directory, name: name.into(), known };
                } else if known.is_some() {
                    place.known = known;
                }
                return;
            }
            Entry::Vacant(entry) => drop(entry.insert(Place { directory, name: name.into(), known })),
        }
        if part.young.len() > PLACES_MAX / PARTS / 2 {
            part.old = std::mem::take(&mut part.young);
        }
    }

    /// The generation of an inode that was seen there before and was made then.
    pub(super) fn generation(&self, export: u64, inode: u64, directory: u64, name: &[u8], made: Time) -> Option<u64> {
        let key = (export, inode);
        let part = self.part(&key);
        let place = part.young.get(&key).or_else(|| part.old.get(&key))?;
        let (then, generation) = place.known?;
        let is_same = place.directory == directory && &place.name[..] == name && then == made;
        (is_same && made.seconds != 0).then_some(generation)
    }

    pub(super) fn get(&self, export: u64, inode: u64) -> Option<Place> {
        let key = (export, inode);
        let mut part = self.part(&key);
        if let Some(place) = part.young.get(&key) {
            return Some(place.clone());
        }
        let place = part.old.remove(&key)?;
        part.young.insert(key, place.clone());
        Some(place)
    }

    pub(super) fn forget(&self, export: u64, inode: u64) {
        let key = (export, inode);
        let mut part = self.part(&key);
        part.young.remove(&key);
        part.old.remove(&key);
    }
}
