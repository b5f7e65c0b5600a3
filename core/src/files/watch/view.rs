//! What does one watch know of its tree, and what does an event of the kernel's change in that?
//!
//! Of every watched directory the names are known, as hashes: `created` and `removed` are told where a name becomes
//! known or unknown, so each is told once, whether an event, a listing or both have found it, and a file that was
//! renamed over another one is `modified`. Directories below are nodes with their whole names, from which paths are
//! made. Pure: what has to be asked of the disk is said in `asks`.

use super::Change;
use super::nodes::{Entry, Key, Nodes};

/// What the view wants of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A directory that an event has told of: it is to be watched before the next event, and then listed.
    Enter(Key),
    /// A directory that a listing has found, or that is to be compared again: to be watched and listed in its turn.
    List(Key),
    /// What is there by this name?
    Look(Key, Vec<u8>),
    /// A directory is not of this tree any more.
    Leave(i32, Key),
}

/// The known tree.
pub(super) struct View {
    pub(super) nodes: Nodes,
    recursive: bool,
    /// Names that were replaced, or that have changed places with another (renameat2, RENAME_EXCHANGE): the events of
    /// both are the same, so the disk is asked once they have all been taken.
    doubts: Vec<(Key, Vec<u8>)>,
    /// To be told, in order.
    pub(super) told: Vec<Change>,
    /// To be done, in order.
    pub(super) asks: Vec<Ask>,
}

impl View {
    /// Knows nothing but the root, whose path is `base`, without a slash at its end.
    pub(super) fn new(base: Vec<u8>, recursive: bool) -> View {
        View { nodes: Nodes::new(base), recursive, doubts: Vec::new(), told: Vec::new(), asks: Vec::new() }
    }

    pub(super) fn root(&self) -> Key {
        Key { index: 0, serial: 1 }
    }

    pub(super) fn wd(&self, key: Key) -> Option<i32> {
        self.nodes.node(key).and_then(|node| node.wd)
    }

    pub(super) fn set_wd(&mut self, key: Key, wd: Option<i32>) {
        if let Some(node) = self.nodes.node_mut(key) {
            node.wd = wd;
        }
    }

    /// Marks a directory as waiting for a listing; false where it does already, or is gone.
    pub(super) fn queue(&mut self, key: Key) -> bool {
        self.nodes.node_mut(key).is_some_and(|node| !std::mem::replace(&mut node.queued, true))
    }

    /// It does not wait any more.
    pub(super) fn unqueue(&mut self, key: Key) {
        if let Some(node) = self.nodes.node_mut(key) {
            node.queued = false;
        }
    }

    /// Its path below the root, `.` for that itself; `None` where it is gone or has become too long to be named.
    pub(super) fn below(&self, key: Key) -> Option<Vec<u8>> {
        self.nodes.node(key)?;
        if key.index == 0 {
            return Some(b".".to_vec());
        }
        self.nodes.join(b"", key.index, b"").map(|path| path[1..].to_vec())
    }

    /// A listing of this directory begins now.
    pub(super) fn begin(&mut self, key: Key) {
        if let Some(node) = self.nodes.node_mut(key) {
            node.queued = false;
            let known = std::mem::take(&mut node.entries);
            node.unconfirmed.extend(known);
        }
    }

    /// The listing has met this name.
    pub(super) fn meet(&mut self, key: Key, name: &[u8], is_dir: bool) {
        let hash = self.nodes.hash(name);
        let Some(node) = self.nodes.node_mut(key) else { return };
        let had = node.unconfirmed.remove(&hash);
        if let Some(entry) = had {
            node.entries.insert(hash, entry);
        }
        match self.nodes.entry(key, hash) {
            None => self.created(key, name, is_dir),
            Some(Entry::Node(index)) if is_dir => {
                let child = self.nodes.key(index).filter(|child| had.is_some() || self.wd(*child).is_none());
                self.asks.extend(child.map(Ask::List));
            }
            Some(Entry::Leaf) if !is_dir || !self.recursive => {}
            Some(_) => {
                self.forget(key, hash);
                self.told.push(Change::Overflow);
                self.put(key, name, is_dir, Ask::List);
            }
        }
    }

    /// The listing has met all: what it has not met is not there.
    pub(super) fn end(&mut self, key: Key) {
        let Some(node) = self.nodes.node_mut(key) else { return };
        let gone = std::mem::take(&mut node.unconfirmed);
        if gone.is_empty() {
            return;
        }
        self.nodes.forget_names(gone.len());
        for entry in gone.into_values() {
            self.drop_entry(entry);
        }
        // Only hashes of those names are left.
        self.told.push(Change::Overflow);
    }

    /// A name has come.
    pub(super) fn created(&mut self, key: Key, name: &[u8], is_dir: bool) {
        let hash = self.nodes.hash(name);
        if self.nodes.node(key).is_none() {
            return;
        }
        match self.nodes.entry(key, hash) {
            Some(Entry::Leaf) if !is_dir || !self.recursive => return,
            Some(Entry::Node(_)) if is_dir => return,
            None => {}
            // Its end was missed, or comes with a listing that was quicker.
            Some(_) => self.forget(key, hash),
        }
        self.tell(key, name, |path| Change::Created { path, is_dir });
        self.put(key, name, is_dir, Ask::Enter);
    }

    /// A name has gone.
    pub(super) fn removed(&mut self, key: Key, name: &[u8], is_dir: bool) {
        let hash = self.nodes.hash(name);
        if self.nodes.entry(key, hash).is_some() {
            self.forget(key, hash);
            self.tell(key, name, |path| Change::Removed { path, is_dir });
        }
    }

    /// What a name stands for has changed.
    pub(super) fn modified(&mut self, key: Key, name: &[u8], is_dir: bool) {
        if self.nodes.entry(key, self.nodes.hash(name)).is_some() {
            self.tell(key, name, |path| Change::Modified { path, is_dir });
        }
    }

    /// A name has come from a place that is not watched.
    pub(super) fn arrived(&mut self, key: Key, name: &[u8], is_dir: bool) {
        let had = self.nodes.entry(key, self.nodes.hash(name));
        if had.is_some() {
            self.doubts.push((key, name.to_vec()));
        }
        match had {
            Some(Entry::Leaf) if !is_dir => self.modified(key, name, false),
            Some(_) => {
                self.removed(key, name, is_dir);
                self.created(key, name, is_dir);
            }
            None => self.created(key, name, is_dir),
        }
    }

    /// A name has become another one.
    pub(super) fn moved(&mut self, from: (Key, &[u8]), to: (Key, &[u8]), is_dir: bool) {
        let (source, target) = ((from.0, self.nodes.hash(from.1)), (to.0, self.nodes.hash(to.1)));
        let Some(entry) = self.nodes.entry(source.0, source.1) else { return self.arrived(to.0, to.1, is_dir) };
        // The kernel makes no such loop; a view that has missed something could.
        let is_loop = matches!(entry, Entry::Node(index) if self.nodes.is_within(to.0, index));
        if self.nodes.node(to.0).is_none() || source == target || is_loop {
            return self.removed(from.0, from.1, is_dir);
        }
        let is_known = matches!((entry, is_dir), (Entry::Node(_), true) | (Entry::Leaf, false)) || !self.recursive;
        let paths = (self.nodes.path(from.0, from.1), self.nodes.path(to.0, to.1));
        if self.nodes.entry(target.0, target.1).is_some() {
            self.forget(target.0, target.1);
            self.doubts.extend([(from.0, from.1.to_vec()), (to.0, to.1.to_vec())]);
        }
        match (is_known, entry) {
            (true, Entry::Node(index)) => {
                self.nodes.take(source.0, source.1);
                self.nodes.insert(target.0, target.1, entry);
                self.nodes.hang(index, to.0.index, to.1);
            }
            _ => {
                self.forget(source.0, source.1);
                self.put(to.0, to.1, is_dir, Ask::Enter);
            }
        }
        match paths {
            (Some(from), Some(to)) => self.told.push(Change::Moved { from, to, is_dir }),
            (None, Some(path)) => self.told.push(Change::Created { path, is_dir }),
            (Some(path), None) => self.told.push(Change::Removed { path, is_dir }),
            (None, None) => {}
        }
    }

    /// All events that there are have been taken: what is in doubt can be looked at.
    pub(super) fn calm(&mut self) {
        let doubts = std::mem::take(&mut self.doubts);
        self.asks.extend(doubts.into_iter().map(|(key, name)| Ask::Look(key, name)));
    }

    pub(super) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// What was asked: what is there by this name. `None`: nothing.
    pub(super) fn looked(&mut self, key: Key, name: &[u8], is_dir: Option<bool>) {
        let hash = self.nodes.hash(name);
        match (self.nodes.entry(key, hash), is_dir) {
            (Some(Entry::Node(index)), Some(true)) => {
                let child = self.nodes.key(index);
                self.asks.extend(child.map(Ask::Enter));
            }
            (Some(Entry::Leaf), Some(is_dir)) if !is_dir || !self.recursive => {}
            (Some(entry), now) => {
                self.removed(key, name, matches!(entry, Entry::Node(_)));
                if let Some(is_dir) = now {
                    self.created(key, name, is_dir);
                }
            }
            (None, Some(is_dir)) => self.created(key, name, is_dir),
            (None, None) => {}
        }
    }

    /// Makes a name known.
    fn put(&mut self, key: Key, name: &[u8], is_dir: bool, ask: fn(Key) -> Ask) {
        let hash = self.nodes.hash(name);
        // A directory that can't be named is not watched.
        let is_node = is_dir && self.recursive && self.nodes.path(key, name).is_some();
        let entry = match is_node {
            true => Entry::Node(self.nodes.add_node(key.index, name)),
            false => Entry::Leaf,
        };
        self.nodes.insert(key, hash, entry);
        if let Entry::Node(index) = entry {
            let child = self.nodes.key(index);
            self.asks.extend(child.map(ask));
        }
    }

    fn forget(&mut self, key: Key, hash: u64) {
        if let Some(entry) = self.nodes.take(key, hash) {
            self.drop_entry(entry);
        }
    }

    fn drop_entry(&mut self, entry: Entry) {
        let asks = &mut self.asks;
        self.nodes.drop_entry(entry, |wd, key| asks.push(Ask::Leave(wd, key)));
    }

    fn tell(&mut self, key: Key, name: &[u8], change: impl FnOnce(Vec<u8>) -> Change) {
        let path = self.nodes.path(key, name);
        self.told.extend(path.map(change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Any events in any order, on any directory: the view stays a tree, counts what it has, and gives back each
    /// directory that it took, once. Only names of its own are told.
    fn any_events(input: &[u8]) {
        let mut view = View::new(b"/workspace".to_vec(), input.first().is_none_or(|byte| byte % 8 != 0));
        let mut watched: BTreeSet<i32> = BTreeSet::new();
        let mut wd = 0;
        for step in input.chunks_exact(4) {
            let keys = view.nodes.keys();
            let (one, two) = (keys[usize::from(step[1]) % keys.len()], keys[usize::from(step[2]) % keys.len()]);
            let (name, other) = ([b'a' + step[3] % 4], [b'a' + step[3] / 4 % 4]);
            let is_dir = step[0] & 16 == 0;
            match step[0] % 9 {
                0 => view.created(one, &name, is_dir),
                1 => view.removed(one, &name, is_dir),
                2 => view.modified(one, &name, is_dir),
                3 => view.moved((one, &name), (two, &other), is_dir),
                4 => view.arrived(one, &name, is_dir),
                5 => view.begin(one),
                6 => view.meet(one, &name, is_dir),
                7 => view.end(one),
                8 if step[3] < 8 => view.calm(),
                _ => view.looked(one, &name, (step[3] < 200).then_some(is_dir)),
            }
            for ask in std::mem::take(&mut view.asks) {
                match ask {
                    Ask::Enter(key) | Ask::List(key) if view.wd(key).is_none() && view.nodes.node(key).is_some() => {
                        wd += 1;
                        watched.insert(wd);
                        view.set_wd(key, Some(wd));
                    }
                    Ask::Leave(wd, _) => assert!(watched.remove(&wd), "{wd} was left twice"),
                    _ => {}
                }
            }
            for change in std::mem::take(&mut view.told) {
                if let Change::Created { path, .. } | Change::Removed { path, .. } | Change::Modified { path, .. } =
                    change
                {
                    assert!(path.starts_with(b"/workspace/") && path.len() < 4096);
                }
            }
        }
        let keys = view.nodes.keys();
        assert_eq!(keys.len(), view.nodes.directories());
        let all: usize =
            keys.iter().filter_map(|key| view.nodes.node(*key)).map(|n| n.entries.len() + n.unconfirmed.len()).sum();
        assert_eq!(all, view.nodes.names());
        let held: BTreeSet<i32> = keys.iter().filter_map(|key| view.wd(*key)).collect();
        assert_eq!(held, watched);
        for key in keys {
            assert!(view.nodes.is_within(key, 0), "{key:?} hangs on nothing");
        }
    }

    #[test]
    fn any_events_leave_a_tree() {
        let corpus: [&[u8]; 4] = [
            &[0, 0, 0, 0, 0, 1, 0, 1, 3, 0, 0, 1, 3, 1, 0, 4, 3, 0, 1, 1],
            &[4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 1, 7, 0, 0, 0, 1, 0, 0, 0],
            &[9, 0, 0, 0, 18, 1, 0, 2, 27, 2, 0, 3, 3, 0, 2, 9, 12, 2, 0, 1],
            &[8, 0, 0, 0, 17, 1, 0, 255, 26, 2, 0, 3],
        ];
        crate::fuzz::run(any_events, &corpus);
    }

    #[test]
    fn a_path_that_cannot_be_named_is_not_told_and_its_directory_not_watched() {
        let mut view = View::new(b"/workspace".to_vec(), true);
        let mut key = view.nodes.key(0).unwrap();
        let name = [b'x'; 255];
        for depth in 1..30 {
            view.created(key, &name, true);
            let told = view.told.pop();
            match view.asks.pop() {
                Some(Ask::Enter(below)) => {
                    assert!(matches!(told, Some(Change::Created { path, .. }) if path.len() == 10 + depth * 256));
                    key = below;
                }
                _ => {
                    assert_eq!((told, depth), (None, 16));
                    return;
                }
            }
        }
        panic!("no bound");
    }
}
