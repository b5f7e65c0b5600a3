//! Watches over directories of the test's own, seen as one sees them who has nothing but what is told.

use super::*;
use crate::files::{Files, Numbering};
use crate::id::SandboxId;
use crate::shard::mailbox::block_on;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Case {
    root: PathBuf,
    files: Files,
    id: SandboxId,
}

impl Case {
    fn new(name: &str) -> Case {
        let root = std::env::temp_dir().join(format!("workspace-watch-{name}-{}", std::process::id()));
        let id = SandboxId::from_random([7; _]);
        fs::create_dir_all(root.join(id.as_str()).join("workspace")).unwrap();
        fs::create_dir_all(root.join(id.as_str()).join("home")).unwrap();
        let files = Files::start(&root, Numbering::Same, 1).unwrap();
        Case { root, files, id }
    }

    fn workspace(&self) -> PathBuf {
        self.root.join(self.id.as_str()).join("workspace")
    }

    fn watch(&self, path: &str, recursive: Recursive) -> Result<Watch, Error> {
        let tree = self.files.of(self.id, 0, 1 << 30);
        block_on(tree.watch(SandboxPath::parse(path).unwrap(), recursive))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// What one knows who has listed once and then takes what is told.
struct Replica {
    watch: Watch,
    known: BTreeSet<String>,
    overflows: usize,
    modified: Vec<String>,
}

impl Replica {
    fn new(watch: Watch, workspace: &Path) -> Replica {
        let mut known = BTreeSet::new();
        walk(workspace, "/workspace", &mut known);
        Replica { watch, known, overflows: 0, modified: Vec::new() }
    }

    /// Takes all that is told until a name, which is made now, has come.
    fn until(&mut self, workspace: &Path, mark: &str) {
        fs::write(workspace.join(mark), "").unwrap();
        let mark = format!("/workspace/{mark}");
        while !self.known.contains(&mark) {
            let change = block_on(self.watch.next()).unwrap();
            self.take(change, workspace);
        }
    }

    fn take(&mut self, change: Change, workspace: &Path) {
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        let is_sure = self.overflows == 0;
        match change {
            Change::Created { path, .. } => {
                let path = text(path);
                let above = &path[..path.rfind('/').unwrap()];
                assert!(!is_sure || above == "/workspace" || self.known.contains(above), "{path} hangs in the air");
                assert!(self.known.insert(path.clone()) || !is_sure, "{path} was told twice");
            }
            Change::Modified { path, .. } => {
                let path = text(path);
                assert!(self.known.contains(&path) || !is_sure, "{path} is modified and was never told");
                self.modified.push(path);
            }
            Change::Removed { path, .. } => {
                let path = text(path);
                assert!(self.known.contains(&path) || !is_sure, "{path} is removed and was never told");
                self.drop(&path);
            }
            Change::Moved { from, to, .. } => {
                let (from, to) = (text(from), text(to));
                assert!(self.known.contains(&from) || !is_sure, "{from} is moved and was never told");
                if !is_sure {
                    // What was listed after an overflow may be newer than this: what lay below is listed again.
                    for path in [from, to] {
                        self.drop(&path);
                        let place = workspace.join(path.trim_start_matches("/workspace/"));
                        if let Ok(stat) = fs::symlink_metadata(&place) {
                            if stat.is_dir() {
                                walk(&place, &path, &mut self.known);
                            }
                            self.known.insert(path);
                        }
                    }
                    return;
                }
                let below = format!("{from}/");
                let moved: Vec<String> =
                    self.known.iter().filter(|path| **path == from || path.starts_with(&below)).cloned().collect();
                self.drop(&from);
                self.drop(&to);
                self.known.extend(moved.iter().map(|path| format!("{to}{}", &path[from.len()..])));
                self.known.insert(to);
            }
            Change::Overflow => {
                self.overflows += 1;
                self.known.clear();
                walk(workspace, "/workspace", &mut self.known);
            }
        }
    }

    fn drop(&mut self, path: &str) {
        let below = format!("{path}/");
        self.known.retain(|known| known != path && !known.starts_with(&below));
    }

    /// What was listed is told behind the events that came meanwhile, so the last of it may be on its way.
    fn is_right(&mut self, workspace: &Path) {
        let mut now = BTreeSet::new();
        walk(workspace, "/workspace", &mut now);
        let end = Instant::now() + Duration::from_secs(10);
        while now != self.known && Instant::now() < end {
            match self.watch.ready() {
                Some(change) => self.take(change, workspace),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let wrong: Vec<_> = now.symmetric_difference(&self.known).take(10).collect();
        assert!(wrong.is_empty(), "{wrong:?} of {} after {} overflows", now.len(), self.overflows);
    }
}

fn walk(directory: &Path, path: &str, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &path, into);
        }
        into.insert(path);
    }
}

#[test]
fn what_is_made_while_it_is_entered_is_told_once() {
    let case = Case::new("made");
    let root = case.workspace();
    fs::create_dir_all(root.join("old/deep")).unwrap();
    fs::write(root.join("old/deep/f"), "").unwrap();
    let mut replica = Replica::new(case.watch("/workspace", Recursive::Yes).unwrap(), &root);
    let make = |worker: u32| {
        for n in 0..200 {
            let deep = root.join(format!("w{worker}/{}/{n}/x/y", n % 7));
            fs::create_dir_all(&deep).unwrap();
            (0..4).for_each(|f| fs::write(deep.join(format!("f{f}")), "x").unwrap());
        }
    };
    std::thread::scope(|scope| {
        let makers = [scope.spawn(|| make(0)), scope.spawn(|| make(1))];
        while !makers.iter().all(|maker| maker.is_finished()) {
            match replica.watch.ready() {
                Some(change) => replica.take(change, &root),
                None => std::thread::yield_now(),
            }
        }
    });
    replica.until(&root, "mark");
    replica.is_right(&root);
    assert_eq!(replica.overflows, 0);
    // Moved in as a whole, from where nothing is watched; and out again.
    let outside = root.parent().unwrap().join("home/tree");
    fs::rename(root.join("w0"), &outside).unwrap();
    replica.until(&root, "mark-out");
    replica.is_right(&root);
    fs::write(outside.join("0/secret"), "").unwrap();
    fs::rename(&outside, root.join("old/deep/back")).unwrap();
    replica.until(&root, "mark-in");
    // What came with it is told once its directories are listed.
    while !replica.known.contains("/workspace/old/deep/back/6/195/x/y/f3") {
        let change = block_on(replica.watch.next()).unwrap();
        replica.take(change, &root);
    }
}

#[test]
fn two_who_change_all_at_once_are_followed_to_the_end() {
    let case = Case::new("storm");
    let root = case.workspace();
    let mut replica = Replica::new(case.watch("/workspace", Recursive::Yes).unwrap(), &root);
    let storm = |worker: u64| {
        let mut random = 88_172_645_463_325_252 ^ (worker << 32);
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        for _ in 0..20_000 {
            let mut path = || (0..=below(3)).fold(root.clone(), |path, _| path.join(format!("n{}", below(5))));
            let (one, two) = (path(), path());
            // Most of it fails: what is not there, what is there already.
            let _ = match below(7) {
                0 | 1 => fs::create_dir(&one).is_ok(),
                2 => fs::write(&one, "x").is_ok(),
                3 => fs::rename(&one, &two).is_ok(),
                4 => renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).is_ok(),
                5 => fs::remove_dir(&one).is_ok() || fs::remove_file(&one).is_ok(),
                _ => below(8) == 0 && fs::remove_dir_all(&one).is_ok(),
            };
        }
    };
    std::thread::scope(|scope| {
        let storms = [scope.spawn(|| storm(1)), scope.spawn(|| storm(2))];
        while !storms.iter().all(|storm| storm.is_finished()) {
            match replica.watch.ready() {
                // Two directories that have changed places were told of twice: what is sure is the end.
                Some(change) => {
                    replica.overflows = replica.overflows.max(1);
                    replica.take(change, &root);
                }
                None => std::thread::yield_now(),
            }
        }
    });
    replica.until(&root, "mark");
    // Listings that are under way tell a little later.
    for n in 0.. {
        replica.until(&root, &format!("mark{n}"));
        let mut now = BTreeSet::new();
        walk(&root, "/workspace", &mut now);
        if now == replica.known || n == 50 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    replica.is_right(&root);
}

#[test]
fn a_file_in_the_place_of_another_is_modified_and_one_that_is_new_is_created() {
    let case = Case::new("place");
    let root = case.workspace();
    let tree = case.files.of(case.id, 0, 1 << 30);
    let put = |path: &str| {
        let path = SandboxPath::parse(path).unwrap();
        block_on(tree.write(path, Default::default(), bytes::Bytes::from_static(b"x"))).unwrap();
    };
    put("old");
    let mut watch = case.watch("/workspace", Recursive::No).unwrap();
    put("old");
    put("new");
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/unseen"), "").unwrap();
    fs::rename(root.join("new"), root.join("old")).unwrap();
    fs::rename(root.join("old"), root.join("d/away")).unwrap();
    fs::rename(root.join("d/away"), root.join("back")).unwrap();
    let path = |name: &str| format!("/workspace/{name}").into_bytes();
    let created = |name: &str, is_dir| Change::Created { path: path(name), is_dir };
    let removed = |name: &str| Change::Removed { path: path(name), is_dir: false };
    let moved = Change::Moved { from: path("new"), to: path("old"), is_dir: false };
    let modified = Change::Modified { path: path("old"), is_dir: false };
    let expected = [modified, created("new", false), created("d", true), moved, removed("old"), created("back", false)];
    let mut told = Vec::new();
    while told.len() < expected.len() {
        let change = block_on(watch.next()).unwrap();
        // How often the same file was modified is nobody's promise.
        let is_again = matches!(change, Change::Modified { .. }) && (told.contains(&change) || told.len() > 1);
        if !is_again {
            told.push(change);
        }
    }
    assert_eq!(told, expected);
}

#[test]
fn a_watch_ends_with_its_place() {
    let case = Case::new("end");
    let root = case.workspace();
    let refused = |path: &str| case.watch(path, Recursive::Yes).err().unwrap().reason;
    assert_eq!(refused("missing"), Reason::FileNotFound);
    fs::write(root.join("file"), "").unwrap();
    assert_eq!(refused("file"), Reason::NotADirectory);
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    assert_eq!(refused("link"), Reason::NotImplemented, "places that only the sandbox has");
    let end = |act: &dyn Fn()| {
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        let mut watch = case.watch("a/b/c", Recursive::Yes).unwrap();
        fs::write(root.join("a/b/c/f"), "").unwrap();
        act();
        let mut last = Vec::new();
        loop {
            match block_on(watch.next()) {
                Ok(change) => last.push(change),
                Err(error) => return (last.pop(), error.reason),
            }
        }
    };
    let gone = Some(Change::Removed { path: b"/workspace/a/b/c".to_vec(), is_dir: true });
    let moved = || fs::rename(root.join("a/b/c"), root.join("a/b/d")).unwrap();
    assert_eq!(end(&moved), (gone.clone(), Reason::FileNotFound));
    let above = || fs::rename(root.join("a"), root.join("z")).unwrap();
    assert_eq!(end(&above), (gone.clone(), Reason::FileNotFound));
    let removed = || fs::remove_dir_all(root.join("a/b")).unwrap();
    assert_eq!(end(&removed), (gone, Reason::FileNotFound));
    // The whole sandbox goes.
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    let mut watch = case.watch("a/b", Recursive::Yes).unwrap();
    let top = root.parent().unwrap();
    fs::rename(top, case.root.join("trash")).unwrap();
    assert_eq!(block_on(watch.next()).unwrap_err().reason, Reason::SandboxNotFound);
    assert_eq!(refused("a"), Reason::SandboxNotFound);
}
