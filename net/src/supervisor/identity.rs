//! Which ids this service can give, told by who started it; and the way into a user namespace for an ordinary user.
//!
//! Root: blocks of host ids, one per sandbox. An ordinary user with a subordinate range (subuid(5), newuidmap(1)):
//! that range, shared by all sandboxes. Without one: a single id. See user_namespaces(7).

use super::blocks;
use super::data_dir::DataDir;
use super::idmapped::can_be_idmapped;
use crate::sys::fork::{self, Fork};
use rustix::process::{getegid, geteuid, getpid};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use workspace_proto::launcher::{BlockSpan, Mode};

const RANGE_IDS: u32 = 65_536;

/// The ids of this service, as numbers of the namespace in which supervisor and launcher run from now on.
#[derive(Debug, Clone)]
pub struct Identities {
    /// How ids are given.
    pub mode: Mode,
    /// The id that a sandbox's id 0 has on disk.
    pub base_id: u32,
    /// Owns the data directory; the server's own id.
    pub owner_id: u32,
    /// Claimed blocks; empty unless root.
    pub spans: Vec<BlockSpan>,
    /// Files lie with the ids of their sandbox's own block, see `idmapped.rs`: the server's ids hold the spans too.
    pub files_in_spans: bool,
}

/// Finds out, and enters a user namespace where this is not root. One line on failure.
pub fn establish(data_dir: &DataDir) -> Result<Identities, String> {
    if geteuid().is_root() && has_privilege() {
        let mut spans = blocks::claim(&data_dir.path)?;
        let base_id = match data_dir.base_id() {
            Some(base_id) => base_id,
            None => spans[0].first * blocks::BLOCK_IDS,
        };
        // The block that owners on disk stand in is never given to a sandbox.
        let base_block = base_id / blocks::BLOCK_IDS;
        spans = spans.into_iter().flat_map(|span| without(span, base_block)).collect();
        let files_in_spans = !can_be_idmapped(data_dir.fd.as_fd(), base_id);
        return Ok(Identities { mode: Mode::Root, base_id, owner_id: base_id + 0xffff, spans, files_in_spans });
    }
    super::delegation::stand_aside();
    let mode = enter_user_namespace(&data_dir.path)?;
    let base_id = if mode == Mode::Ranged { 1 } else { 0 };
    Ok(Identities { mode, base_id, owner_id: 0, spans: Vec::new(), files_in_spans: false })
}

impl Identities {
    /// The server's own map of ids, for uid_map and gid_map: the block of files, as 0 to 65535, and the spans as they
    /// are where files lie in them.
    pub(super) fn server_map(&self) -> String {
        let spans = self.spans.iter().filter(|_| self.files_in_spans).map(|span| {
            let (first, count) = (span.first * blocks::BLOCK_IDS, span.count * blocks::BLOCK_IDS);
            format!("{first} {first} {count}\n")
        });
        std::iter::once(format!("0 {} {RANGE_IDS}\n", self.base_id)).chain(spans).collect()
    }
}

fn without(span: BlockSpan, block: u32) -> Vec<BlockSpan> {
    if block < span.first || block >= span.first + span.count {
        return vec![span];
    }
    let below = BlockSpan { first: span.first, count: block - span.first };
    let above = BlockSpan { first: block + 1, count: span.first + span.count - block - 1 };
    [below, above].into_iter().filter(|span| span.count > 0).collect()
}

/// Root of a container without CAP_SYS_ADMIN is an ordinary user to the kernel.
fn has_privilege() -> bool {
    has_sys_admin(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// From the text of /proc/PID/status.
fn has_sys_admin(status: &str) -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Makes the namespace, or joins that of agents which outlived an earlier service.
fn enter_user_namespace(data_dir: &Path) -> Result<Mode, String> {
    if let Some(mode) = super::rejoin::join_survivors(data_dir) {
        fork::become_id(0, 0).map_err(|e| format!("ids could not be taken in the user namespace: {e}"))?;
        return own_mounts(mode);
    }
    let refused = |error: std::io::Error| {
        format!(
            "this user may not make user namespaces ({error}), and sandboxes need them; `workspace-server doctor` says how to allow it"
        )
    };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let range = (subordinate_range("/etc/subuid", uid), subordinate_range("/etc/subgid", uid));
    let pid = getpid().as_raw_nonzero().get();
    // newuidmap must run outside of the new namespace: a helper is forked first and waits for the word.
    let (mut said, mut say) = std::io::pipe().map_err(refused)?;
    let (mut heard, mut hear) = std::io::pipe().map_err(refused)?;
    let helper = match fork::fork().map_err(refused)? {
        Fork::Child => {
            drop((say, heard));
            let mut word = [0u8; 1];
            let mapped = said.read_exact(&mut word).is_ok()
                && matches!(range, (Some(uids), Some(gids)) if map_range(pid, uid, uids, gid, gids));
            drop(hear.write_all(&[u8::from(mapped)]));
            std::process::exit(0)
        }
        Fork::Parent(pid) => pid,
    };
    drop((said, hear));
    fork::unshare_namespaces(libc::CLONE_NEWUSER).map_err(refused)?;
    say.write_all(b".").map_err(refused)?;
    let mut mapped = [0u8; 1];
    heard.read_exact(&mut mapped).map_err(refused)?;
    while fork::reap().is_none_or(|(pid, _)| pid != helper) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mode = if mapped[0] == 1 { Mode::Ranged } else { map_single(uid, gid).map_err(refused)? };
    fork::become_id(0, 0).map_err(refused)?;
    own_mounts(mode)
}

/// Mounts can be changed in a mount namespace that belongs to the user namespace.
fn own_mounts(mode: Mode) -> Result<Mode, String> {
    fork::unshare_namespaces(libc::CLONE_NEWNS).map_err(|e| format!("a mount namespace was refused: {e}"))?;
    Ok(mode)
}

fn map_single(uid: u32, gid: u32) -> std::io::Result<Mode> {
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(Mode::Single)
}

fn map_range(pid: i32, uid: u32, uids: u32, gid: u32, gids: u32) -> bool {
    let map = |program: &str, own: u32, first: u32| {
        let numbers = [0, own, 1, 1, first, RANGE_IDS].map(|n| n.to_string());
        Command::new(program).arg(pid.to_string()).args(numbers).status().is_ok_and(|status| status.success())
    };
    map("newuidmap", uid, uids) && map("newgidmap", gid, gids)
}

/// The start of a range of at least 65,536 ids that the file gives to this user, by number or name.
fn subordinate_range(file: &str, uid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    range_in(&text, &std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
}

/// The same, from the texts of both files.
fn range_in(text: &str, passwd: &str, uid: u32) -> Option<u32> {
    let name =
        passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string())).and_then(|l| l.split(':').next());
    let mine: String = text
        .lines()
        .filter(|line| line.split(':').next().is_some_and(|who| who == uid.to_string() || Some(who) == name))
        .map(|line| format!("{line}\n"))
        .collect();
    blocks::subordinate(&mine).into_iter().find(|(_, count)| *count >= RANGE_IDS).map(|(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_power_over_spans_only_where_files_lie_in_them() {
        let spans = vec![BlockSpan { first: 9, count: 2 }, BlockSpan { first: 12, count: 1 }];
        let mut ids =
            Identities { mode: Mode::Root, base_id: 524_288, owner_id: 589_823, spans, files_in_spans: false };
        assert_eq!(ids.server_map(), "0 524288 65536\n");
        ids.files_in_spans = true;
        assert_eq!(ids.server_map(), "0 524288 65536\n589824 589824 131072\n786432 786432 65536\n");
    }

    #[test]
    fn the_base_block_is_cut_out() {
        let span = BlockSpan { first: 8, count: 4 };
        let cut = |block| without(span, block).into_iter().map(|s| (s.first, s.count)).collect::<Vec<_>>();
        assert_eq!(cut(8), [(9, 3)]);
        assert_eq!(cut(9), [(8, 1), (10, 2)]);
        assert_eq!(cut(11), [(8, 3)]);
        assert_eq!(cut(12), [(8, 4)]);
    }

    /// A range is one that the text gives to this user, and is long enough.
    fn any_texts(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let (subordinate, passwd) = text.split_once('|').unwrap_or((&text, ""));
        if let Some(first) = range_in(subordinate, passwd, 1000) {
            let theirs = |line: &str| {
                let fields: Vec<&str> = line.split(':').collect();
                let name = fields[0] == "1000" || passwd.lines().any(|l| l.starts_with(&format!("{}:", fields[0])));
                name && fields[1].parse() == Ok(first) && fields[2].parse::<u32>().is_ok_and(|count| count >= RANGE_IDS)
            };
            assert!(subordinate.lines().filter(|line| line.split(':').count() > 2).any(theirs), "{first}");
        }
        assert_eq!(range_in(subordinate, "", 4_000_000_001), None);
        let effective = text.lines().find(|line| line.starts_with("CapEff:"));
        assert!(!has_sys_admin(&text) || effective.is_some_and(|line| line.contains(|c: char| c.is_ascii_hexdigit())));
    }

    #[test]
    fn a_range_is_the_users_own() {
        let corpus: [&[u8]; 6] = [
            b"ann:100000:65536\nbob:200000:65536\n|root:x:0:0::/:/bin/sh\nann:x:1000:1000::/home/user:/bin/sh\n",
            b"1000:300000:65536\n",
            b"ann:100000:65535\nann:4294967295:4294967295\n|ann:x:1000",
            b":1:65536\n|:x:1000:",
            b"Name:\tx\nCapEff:\t000001ffffffffff\n",
            b"CapPrm:\t000001ffffffffff\nCapEff:\t00000000a80425fb\n",
        ];
        assert_eq!(range_in("ann:5:65536\n", "ann:x:1000:", 1000), Some(5));
        assert!(has_sys_admin(&String::from_utf8_lossy(corpus[4])));
        assert!(!has_sys_admin(&String::from_utf8_lossy(corpus[5])));
        crate::fuzz::run(any_texts, &corpus);
    }
}
