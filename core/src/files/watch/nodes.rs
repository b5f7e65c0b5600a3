//! The directories of one watch and the names in them: what hangs below what, and how a path is made of it.
//!
//! Names are kept as hashes, 8 bytes each, whatever their length; only directories have theirs whole.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// A path is told only where it can be named again: PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;

/// A directory, and its number; a number is used again with another serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) serial: u32,
}

/// A name's hash is its own.
#[derive(Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a name is: a directory that is watched, or anything that is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Leaf,
    Node(u32),
}

pub(super) type Entries = HashMap<u64, Entry, BuildHasherDefault<Same>>;

pub(super) struct Node {
    pub(super) serial: u32,
    /// Its own number for the root.
    pub(super) parent: u32,
    pub(super) name: Box<[u8]>,
    pub(super) wd: Option<i32>,
    pub(super) entries: Entries,
    /// Names known before the listing that is under way, which has not met them yet.
    pub(super) unconfirmed: Entries,
    /// It waits to be listed.
    pub(super) queued: bool,
}

/// All of them; the root is number 0.
pub(super) struct Nodes {
    base: Vec<u8>,
    all: Vec<Option<Node>>,
    free: Vec<u32>,
    serial: u32,
    /// How names are hashed: nobody outside can make two names one.
    hasher: RandomState,
    /// Names that are known.
    names: usize,
}

impl Nodes {
    /// The root alone, whose path is `base`, without a slash at its end.
    pub(super) fn new(base: Vec<u8>) -> Nodes {
        let (all, free, hasher) = (Vec::new(), Vec::new(), RandomState::new());
        let mut nodes = Nodes { base, all, free, serial: 0, hasher, names: 0 };
        nodes.add_node(0, b"");
        nodes
    }

    /// How many directories there are.
    pub(super) fn directories(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// How many names are known.
    pub(super) fn names(&self) -> usize {
        self.names
    }

    /// All directories.
    pub(super) fn keys(&self) -> Vec<Key> {
        let key = |(index, node): (usize, &Option<Node>)| {
            node.as_ref().map(|node| Key { index: index as u32, serial: node.serial })
        };
        self.all.iter().enumerate().filter_map(key).collect()
    }

    pub(super) fn node(&self, key: Key) -> Option<&Node> {
        self.all.get(key.index as usize)?.as_ref().filter(|node| node.serial == key.serial)
    }

    pub(super) fn node_mut(&mut self, key: Key) -> Option<&mut Node> {
        self.all.get_mut(key.index as usize)?.as_mut().filter(|node| node.serial == key.serial)
    }

    pub(super) fn key(&self, index: u32) -> Option<Key> {
        let node = self.all.get(index as usize)?.as_ref()?;
        Some(Key { index, serial: node.serial })
    }

    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn entry(&self, key: Key, hash: u64) -> Option<Entry> {
        let node = self.node(key)?;
        node.entries.get(&hash).or_else(|| node.unconfirmed.get(&hash)).copied()
    }

    pub(super) fn insert(&mut self, key: Key, hash: u64, entry: Entry) {
        if let Some(node) = self.node_mut(key) {
            node.entries.insert(hash, entry);
            self.names += 1;
        }
    }

    pub(super) fn take(&mut self, key: Key, hash: u64) -> Option<Entry> {
        let node = self.node_mut(key)?;
        let entry = node.entries.remove(&hash).or_else(|| node.unconfirmed.remove(&hash))?;
        self.names -= 1;
        Some(entry)
    }

    /// Drops what hangs on an entry that was taken out; tells which directories were watched.
    pub(super) fn drop_entry(&mut self, entry: Entry, mut left: impl FnMut(i32, Key)) {
        let mut doomed = vec![entry];
        while let Some(entry) = doomed.pop() {
            let Entry::Node(index) = entry else { continue };
            let Some(node) = self.all.get_mut(index as usize).and_then(Option::take) else { continue };
            self.free.push(index);
            self.names -= node.entries.len() + node.unconfirmed.len();
            if let Some(wd) = node.wd {
                left(wd, Key { index, serial: node.serial });
            }
            doomed.extend(node.entries.into_values().chain(node.unconfirmed.into_values()));
        }
    }

    pub(super) fn add_node(&mut self, parent: u32, name: &[u8]) -> u32 {
        self.serial += 1;
        let node = Node {
            serial: self.serial,
            parent,
            name: name.into(),
            wd: None,
            entries: Entries::default(),
            unconfirmed: Entries::default(),
            queued: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.all[index as usize] = Some(node);
                index
            }
            None => {
                self.all.push(Some(node));
                (self.all.len() - 1) as u32
            }
        }
    }

    /// Hangs a directory below another one, by another name.
    pub(super) fn hang(&mut self, index: u32, parent: u32, name: &[u8]) {
        if let Some(node) = self.all.get_mut(index as usize).and_then(Option::as_mut) {
            node.parent = parent;
            node.name = name.into();
        }
    }

    /// True for a directory that is, or lies in, the one of this number.
    pub(super) fn is_within(&self, key: Key, ancestor: u32) -> bool {
        let mut index = key.index;
        loop {
            if index == ancestor {
                return true;
            }
            match self.all.get(index as usize).and_then(Option::as_ref) {
                Some(node) if index != 0 => index = node.parent,
                _ => return false,
            }
        }
    }

    pub(super) fn path(&self, key: Key, name: &[u8]) -> Option<Vec<u8>> {
        self.node(key)?;
        self.join(&self.base, key.index, name)
    }

    /// `base/…/directory/name`; `None` where that is too long.
    pub(super) fn join(&self, base: &[u8], mut index: u32, name: &[u8]) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut bytes = base.len() + name.len() + 1;
        while index != 0 {
            let node = self.all.get(index as usize)?.as_ref()?;
            bytes += node.name.len() + 1;
            if bytes > PATH_BYTES_MAX {
                return None;
            }
            names.push(&node.name[..]);
            index = node.parent;
        }
        if bytes > PATH_BYTES_MAX {
            return None;
        }
        let mut path = Vec::with_capacity(bytes);
        path.extend_from_slice(base);
        for part in names.into_iter().rev().chain((!name.is_empty()).then_some(name)) {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Some(path)
    }

    /// Names that were given up with their hashes.
    pub(super) fn forget_names(&mut self, count: usize) {
        self.names -= count;
    }
}
