//! Which host ids this server may give to sandboxes: blocks of 65,536, claimed so that two servers never collide.
//!
//! One file per machine, in /run so that a reboot frees all, holds a line for each claim: `SPAN DATA_DIR`. It is changed under a lock. A claim
//! whose data directory is gone is free again. Ids that /etc/subuid, /etc/subgid or /etc/passwd name are left alone.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use workspace_proto::launcher::BlockSpan;

/// Host ids in one block.
pub(super) const BLOCK_IDS: u32 = 65_536;
const FIRST_BLOCK: u32 = 8; // 524,288: above what distributions give out
const END_BLOCK: u32 = 28_672; // below 1,879,048,192: systemd's own ranges start there
const SPAN_BLOCKS: u32 = 128;
const SPANS: u32 = (END_BLOCK - FIRST_BLOCK) / SPAN_BLOCKS;
const SPANS_MAX: usize = 64;
const CLAIMS_DIR: &str = "/run/workspace-server";

/// Claims spans for a data directory, or gives those it has already. One line on failure.
pub(super) fn claim(data_dir: &Path) -> Result<Vec<BlockSpan>, String> {
    let failed = |error: std::io::Error| format!("host ids could not be claimed in {CLAIMS_DIR}: {error}");
    if data_dir.as_os_str().as_encoded_bytes().contains(&b'\n') {
        return Err("the data directory's path holds a line break; set WORKSPACE_DATA_DIR to one without".into());
    }
    std::fs::create_dir_all(CLAIMS_DIR).map_err(failed)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = Path::new(CLAIMS_DIR).join("id-spans");
    let file = open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let named = named_ids(&["/etc/subuid", "/etc/subgid"]);
    let lines = choose(&text, data_dir, &named, &|path| path.is_dir());
    let mine: Vec<u32> =
        lines.iter().filter(|(_, owner)| Path::new(owner) == data_dir).map(|(span, _)| *span).collect();
    if mine.is_empty() {
        return Err(format!("all host id blocks are claimed by other servers; {CLAIMS_DIR}/id-spans names them"));
    }
    let text = write(&lines);
    file.rewind().map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(mine.into_iter().map(|span| BlockSpan { first: FIRST_BLOCK + span * SPAN_BLOCKS, count: SPAN_BLOCKS }).collect())
}

type Claim = (u32, String);

/// The claims of a file, without what is none. A span beyond the last one would be somebody else's ids.
fn read(text: &str) -> Vec<Claim> {
    text.split('\n')
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(span, owner)| Some((span.parse().ok()?, owner.to_owned())))
        .filter(|(span, _)| *span < SPANS)
        .collect()
}

fn write(claims: &[Claim]) -> String {
    claims.iter().map(|(span, owner)| format!("{span} {owner}\n")).collect()
}

fn choose(text: &str, data_dir: &Path, named: &[(u32, u32)], exists: &dyn Fn(&Path) -> bool) -> Vec<Claim> {
    let mut lines: Vec<Claim> = read(text).into_iter().filter(|(_, owner)| exists(Path::new(owner))).collect();
    if lines.iter().any(|(_, owner)| Path::new(owner) == data_dir) {
        return lines;
    }
    let taken: BTreeSet<u32> = lines.iter().map(|(span, _)| *span).collect();
    let free: Vec<u32> = (0..SPANS).filter(|span| !taken.contains(span) && !is_named(*span, named)).collect();
    // A quarter of what is left, so that many later servers find some too.
    let count = free.len().div_ceil(4).min(SPANS_MAX);
    lines.extend(free.into_iter().take(count).map(|span| (span, data_dir.display().to_string())));
    lines.sort();
    lines
}

fn is_named(span: u32, named: &[(u32, u32)]) -> bool {
    let first = u64::from(FIRST_BLOCK + span * SPAN_BLOCKS) * u64::from(BLOCK_IDS);
    let end = first + u64::from(SPAN_BLOCKS) * u64::from(BLOCK_IDS);
    named.iter().any(|(start, count)| u64::from(*start) < end && u64::from(*start) + u64::from(*count) > first)
}

fn named_ids(files: &[&str]) -> Vec<(u32, u32)> {
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let mut named: Vec<(u32, u32)> = texts.flat_map(|text| subordinate(&text)).collect();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    named.extend(users(&passwd));
    named
}

/// The ids of a file in the form of passwd(5), as ranges of one.
fn users(passwd: &str) -> impl Iterator<Item = (u32, u32)> {
    passwd.lines().filter_map(|line| Some((line.split(':').nth(2)?.parse().ok()?, 1)))
}

/// The ranges of a file in the form of subuid(5).
pub(super) fn subordinate(text: &str) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans_of(lines: &[Claim], owner: &str) -> Vec<u32> {
        lines.iter().filter(|(_, o)| o == owner).map(|(s, _)| *s).collect()
    }

    #[test]
    fn claims_are_kept_disjoint_and_freed_with_their_directory() {
        let all = |_: &Path| true;
        let one = choose("", Path::new("/a"), &[], &all);
        assert_eq!(spans_of(&one, "/a"), (0..56).collect::<Vec<_>>());
        let text: String = one.iter().map(|(s, o)| format!("{s} {o}\n")).collect();
        let two = choose(&text, Path::new("/b c"), &[], &all);
        assert_eq!(spans_of(&two, "/a"), (0..56).collect::<Vec<_>>());
        assert_eq!(spans_of(&two, "/b c"), (56..98).collect::<Vec<_>>());
        let text: String = two.iter().map(|(s, o)| format!("{s} {o}\n")).collect();
        assert_eq!(choose(&text, Path::new("/b c"), &[], &all), two, "a claim is found again");
        let three = choose(&text, Path::new("/d"), &[], &|path| path != Path::new("/a"));
        assert_eq!(spans_of(&three, "/d")[..42], (0..42).collect::<Vec<_>>()[..]);
    }

    #[test]
    fn ids_that_the_host_names_are_left_alone() {
        let named = subordinate("user:524288:65536\nother:100000:65536\nbroken\n");
        assert_eq!(named, [(524_288, 65_536), (100_000, 65_536)]);
        let lines = choose("", Path::new("/a"), &named, &|_| true);
        assert_eq!(spans_of(&lines, "/a"), (1..57).collect::<Vec<_>>());
    }

    /// Whatever the file holds: a newcomer gets spans that exist, that nobody has and nothing names, and finds them again.
    fn any_claims(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let named: Vec<(u32, u32)> = subordinate(&text).into_iter().chain(users(&text)).collect();
        let before = read(&text);
        assert_eq!(read(&write(&before)), before);
        let me = Path::new("/a b");
        let after = choose(&text, me, &named, &|_| true);
        let mine = spans_of(&after, "/a b");
        assert!(mine.iter().all(|span| FIRST_BLOCK + span * SPAN_BLOCKS + SPAN_BLOCKS <= END_BLOCK), "{mine:?}");
        assert_eq!(choose(&write(&after), me, &named, &|_| true), after, "a claim is found again");
        if spans_of(&before, "/a b").is_empty() {
            let others = || before.iter().map(|(span, _)| span);
            assert!(mine.iter().all(|span| !is_named(*span, &named) && !others().any(|other| other == span)));
            assert!(before.iter().all(|claim| after.contains(claim)) && mine.len() <= SPANS_MAX);
        }
        for (start, count) in named {
            assert!(
                count == 0 || (0..SPANS).all(|span| is_named(span, &[(start, count)]) == overlaps(span, start, count))
            );
        }
    }

    fn overlaps(span: u32, start: u32, count: u32) -> bool {
        let first = u64::from(FIRST_BLOCK + span * SPAN_BLOCKS) * 65_536;
        let last = first + u64::from(SPAN_BLOCKS) * 65_536 - 1;
        let last_named = u64::from(start) + u64::from(count) - 1;
        u64::from(start) <= last && last_named >= first
    }

    #[test]
    fn any_file_of_claims_leaves_everybody_theirs() {
        let corpus: [&[u8]; 6] = [
            b"0 /a b\n1 /a b\n223 /c\n",
            b"7 /b\r\n8 /b c\n\n9\nx /d\n",
            // Was taken and overflowed: blocks of other ids.
            b"4294967295 /a b\n224 /a b\n",
            b"user:524288:65536\nother:100000:65536\nbroken\nlast:4294967295:4294967295\n",
            b"root:x:0:0:root:/root:/bin/sh\nann:x:600000:1000::/home/user:/bin/sh\n",
            b"a:524288:1879048192\n",
        ];
        crate::fuzz::run(any_claims, &corpus);
    }
}
