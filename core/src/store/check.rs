//! Is the file a whole LMDB database? Asked before it is mapped, because LMDB trusts what it maps: a file that was cut
//! short is SIGBUS, and a wrong page is a jump into nowhere.
//!
//! Walks every page that can be reached, by plain reads. Layout: mdb.c of LMDB 0.9.70, `MDB_page`, `MDB_node`,
//! `MDB_db`, `MDB_meta`, on a 64-bit machine in its own byte order. Cost: the file is read once.

use super::env::Failure;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Refuses a file that LMDB would stumble over. No file, or an empty one, is a new database.
pub(super) fn file(path: &Path) -> Result<(), Failure> {
    let file = match rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::CLOEXEC
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    ) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::LOOP) => return Err(Failure::Damaged("it is a symbolic link".into())),
        Err(errno) => return Err(errno.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Failure::Damaged("it is not a regular file".into()));
    }
    if meta.len() == 0 {
        return Ok(());
    }
    let read = |at: u64, buffer: &mut [u8]| file.read_exact_at(buffer, at).is_ok();
    whole(meta.len(), read).map_err(|why| Failure::Damaged(why.to_string()))
}

/// Whether these bytes are a whole database; for the fuzz target.
pub fn is_whole(bytes: &[u8]) -> bool {
    let found = whole(bytes.len() as u64, |at, buffer| {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        match bytes.get(from..from.saturating_add(buffer.len())) {
            Some(part) => {
                buffer.copy_from_slice(part);
                true
            }
            None => false,
        }
    });
    found.is_ok()
}

const HEADER: usize = 16;
const NODE: usize = 8;
const META_BYTES: usize = 136;
const DB_BYTES: usize = 48;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
const BIG_DATA: u16 = 0x01;
const SUB_DATABASE: u16 = 0x02;
const DEPTH_MAX: u16 = 32;
const KEY_BYTES_MAX: usize = 511;
const NO_PAGE: u64 = u64::MAX;

type Why = &'static str;

/// One of the two trees, or one inside the main tree.
struct Tree {
    flags: u16,
    depth: u16,
    root: u64,
}

impl Tree {
    fn read(db: &[u8]) -> Option<Tree> {
        Some(Tree { flags: u16_at(db, 4)?, depth: u16_at(db, 6)?, root: u64_at(db, 40)? })
    }
}

struct Walk<R> {
    read: R,
    page_bytes: usize,
    file_bytes: usize,
    /// Pages in the file, whole ones.
    pages: u64,
    last_page: u64,
    /// A page may be reached once: what is reached twice is a loop or a page with two owners.
    seen: Vec<u64>,
}

fn whole(length: u64, mut read: impl FnMut(u64, &mut [u8]) -> bool) -> Result<(), Why> {
    let mut first = [0; HEADER + META_BYTES];
    if !read(0, &mut first) {
        return Err("shorter than its first page");
    }
    let page_bytes = meta(&first)?.page_bytes;
    let mut second = [0; HEADER + META_BYTES];
    if !read(page_bytes as u64, &mut second) {
        return Err("shorter than its first two pages");
    }
    let (a, b) = (meta(&first)?, meta(&second)?);
    if a.page_bytes != b.page_bytes {
        return Err("its first two pages disagree");
    }
    // Both: after a crash LMDB takes the newer, and a torn newer one is what the older is for.
    let newest = if b.transaction > a.transaction { b } else { a };
    let pages = length / page_bytes as u64;
    let mut walk = Walk {
        read,
        page_bytes,
        file_bytes: usize::try_from(length).unwrap_or(usize::MAX),
        pages,
        last_page: newest.last_page,
        seen: vec![0; usize::try_from(pages / 64 + 1).map_err(|_| "too large")?],
    };
    walk.tree(&newest.main, true, false)?;
    walk.tree(&newest.free, false, true)
}

struct Meta {
    page_bytes: usize,
    free: Tree,
    main: Tree,
    last_page: u64,
    transaction: u64,
}

fn meta(page: &[u8]) -> Result<Meta, Why> {
    const MAGIC: u32 = 0xBEEF_C0DE;
    const VERSION: u32 = 1;
    let read = || {
        let body = page.get(HEADER..)?;
        let known = u16_at(page, 10)? & META != 0 && u32_at(body, 0)? == MAGIC;
        let meta = Meta {
            page_bytes: u32_at(body, 24)? as usize,
            free: Tree::read(body.get(24..24 + DB_BYTES)?)?,
            main: Tree::read(body.get(72..72 + DB_BYTES)?)?,
            last_page: u64_at(body, 120)?,
            transaction: u64_at(body, 128)?,
        };
        Some((known, u32_at(body, 4)?, meta))
    };
    let (known, version, meta) = read().ok_or("shorter than its first page")?;
    if !known {
        return Err("its first pages are not LMDB's");
    }
    if version != VERSION {
        return Err("of another version of LMDB");
    }
    if !meta.page_bytes.is_power_of_two() || !(512..=65_536).contains(&meta.page_bytes) {
        return Err("its page size is impossible");
    }
    Ok(meta)
}

impl<R: FnMut(u64, &mut [u8]) -> bool> Walk<R> {
    fn tree(&mut self, tree: &Tree, has_trees: bool, is_free: bool) -> Result<(), Why> {
        if tree.root == NO_PAGE {
            return if tree.depth == 0 { Ok(()) } else { Err("a tree has no root") };
        }
        if tree.depth == 0 || tree.depth > DEPTH_MAX {
            return Err("a tree has an impossible depth");
        }
        // The free list's place for flags holds those of the environment.
        if !is_free && tree.flags != 0 {
            return Err("a tree has flags that this program never sets");
        }
        self.page(tree.root, tree.depth, has_trees, is_free)
    }

    fn page(&mut self, number: u64, depth: u16, has_trees: bool, is_free: bool) -> Result<(), Why> {
        self.visit(number)?;
        let mut page = vec![0; self.page_bytes];
        if !(self.read)(number * self.page_bytes as u64, &mut page) {
            return Err("a page cannot be read");
        }
        let kind = u16_at(&page, 10).unwrap_or(0);
        let (lower, upper) = (at(&page, 12), at(&page, 14));
        if u64_at(&page, 0) != Some(number) || kind != if depth == 1 { LEAF } else { BRANCH } {
            return Err("a page is not what its parent says");
        }
        if lower < HEADER || lower > upper || upper > self.page_bytes || lower % 2 != 0 {
            return Err("a page has impossible bounds");
        }
        let nodes = (lower - HEADER) / 2;
        if nodes == 0 || (kind == BRANCH && nodes < 2) {
            return Err("a page has too few nodes");
        }
        for i in 0..nodes {
            let start = at(&page, HEADER + 2 * i);
            let node = page.get(start..).filter(|n| start >= upper && n.len() >= NODE).ok_or("a node is outside")?;
            let (low, high, flags, key_bytes) = (at(node, 0), at(node, 2), at(node, 4), at(node, 6));
            let key_bounds = key_bytes <= KEY_BYTES_MAX && (kind == LEAF || !is_free || i == 0 || key_bytes == 8);
            let data = node.get(NODE + key_bytes..).filter(|_| key_bounds).ok_or("a key is outside")?;
            if kind == BRANCH {
                let child = low as u64 | (high as u64) << 16 | (flags as u64) << 32;
                self.page(child, depth - 1, has_trees, is_free)?;
                continue;
            }
            if key_bytes == 0 || (is_free && key_bytes != 8) {
                return Err("a key has an impossible length");
            }
            self.value(low | high << 16, flags as u16, data, has_trees, is_free)?;
        }
        Ok(())
    }

    fn value(&mut self, bytes: usize, flags: u16, data: &[u8], has_trees: bool, is_free: bool) -> Result<(), Why> {
        match flags {
            0 => {
                let data = data.get(..bytes).ok_or("a value is outside")?;
                if is_free { self.free_pages(data) } else { Ok(()) }
            }
            BIG_DATA => {
                let first = u64_at(data, 0).ok_or("a value is outside")?;
                self.overflow(first, bytes, is_free)
            }
            SUB_DATABASE if has_trees && bytes == DB_BYTES => {
                let tree = data.get(..DB_BYTES).and_then(Tree::read).ok_or("a value is outside")?;
                self.tree(&tree, false, false)
            }
            _ => Err("a node has impossible flags"),
        }
    }

    fn overflow(&mut self, first: u64, bytes: usize, is_free: bool) -> Result<(), Why> {
        // A smaller value may have taken the place of a larger one, and keeps its pages.
        let count = (HEADER + bytes).div_ceil(self.page_bytes) as u64;
        let mut value = vec![0; HEADER + if is_free { bytes.min(self.file_bytes) } else { 0 }];
        if first >= self.pages || !(self.read)(first * self.page_bytes as u64, &mut value) {
            return Err("cut short: a page is beyond the end");
        }
        let stored = u32_at(&value, 12).map_or(0, u64::from);
        if u64_at(&value, 0) != Some(first) || u16_at(&value, 10) != Some(OVERFLOW) || stored < count {
            return Err("a large value's pages are not what its node says");
        }
        for number in first..first.saturating_add(stored) {
            self.visit(number)?;
        }
        if is_free { self.free_pages(&value[HEADER..]) } else { Ok(()) }
    }

    /// A value of the free list: how many page numbers follow, then they, descending.
    fn free_pages(&mut self, data: &[u8]) -> Result<(), Why> {
        let count = u64_at(data, 0).ok_or("a free list is outside")?;
        let numbers = usize::try_from(count).ok().and_then(|n| data.get(8..n.checked_mul(8)?.checked_add(8)?));
        let mut before = NO_PAGE;
        for number in numbers.ok_or("a free list is longer than its room")?.chunks_exact(8) {
            let number = u64_at(number, 0).unwrap_or(0);
            if number < 2 || number > self.last_page || number >= before {
                return Err("a free list holds what is no page");
            }
            before = number;
            // The file may end before its last pages when they are free.
            if number < self.pages {
                self.visit(number)?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, number: u64) -> Result<(), Why> {
        if number < 2 || number > self.last_page || number >= self.pages {
            return Err("cut short: a page is beyond the end");
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        match self.seen.get_mut(word) {
            Some(seen) if *seen & bit == 0 => {
                *seen |= bit;
                Ok(())
            }
            _ => Err("a page is used twice"),
        }
    }
}

fn at(bytes: &[u8], from: usize) -> usize {
    // 0 is refused by every caller's bound.
    u16_at(bytes, from).map_or(0, usize::from)
}

fn u16_at(bytes: &[u8], from: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(from..from + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], from: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(from..from + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], from: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(from..from + 8)?.try_into().ok()?))
}
