//! Which ids can a sandbox have here: a block of its own, a shared range, or one?

use super::facts::{Facts, Outcome, text};
use super::report::Row;
use rustix::io::Errno;
use std::fs;
use std::process::{Command, Stdio};

const NAME: &str = "id ranges";
/// Ids that a sandbox has.
pub(super) const IDS_PER_SANDBOX: u64 = 65_536;
/// Blocks are taken from here on; the last id that is ours.
const FIRST_ID: u64 = 524_288;
const LAST_ID: u64 = 1_879_048_191;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What /etc/subuid and /etc/subgid give this user, and whether the programs that use them are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Subordinate {
    /// First id and count, the largest entry.
    pub(super) uids: Option<(u32, u32)>,
    pub(super) gids: Option<(u32, u32)>,
    pub(super) programs: bool,
}

impl Subordinate {
    pub(super) fn read(user: &str, uid: u32) -> Subordinate {
        let found = |name: &str| {
            ["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|d| fs::exists(format!("{d}/{name}")).unwrap_or(false))
        };
        Subordinate {
            uids: largest_range(&text("/etc/subuid"), user, uid),
            gids: largest_range(&text("/etc/subgid"), user, uid),
            programs: found("newuidmap") && found("newgidmap"),
        }
    }

    fn is_enough(&self) -> bool {
        let enough = |range: Option<(u32, u32)>| range.is_some_and(|(_, count)| u64::from(count) >= IDS_PER_SANDBOX);
        enough(self.uids) && enough(self.gids)
    }
}

/// The largest `name:first:count` line of a user, who stands there by name or by number.
fn largest_range(subordinate: &str, user: &str, uid: u32) -> Option<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (owner == user || owner.parse() == Ok(uid)).then_some(range)
    };
    subordinate.lines().filter_map(range).max_by_key(|(_, count)| *count)
}

/// How the user namespace of a sandbox is mapped here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdPlan {
    /// Any ids, written by ourselves.
    Root,
    /// Our own id as 0 and one subordinate range from 1 on, written by newuidmap and newgidmap.
    Ranged { uid: u32, gid: u32, uids_first: u32, gids_first: u32 },
    /// Our own id as 0.
    Single { uid: u32, gid: u32 },
}

impl IdPlan {
    /// Pure: the best plan that these facts promise. The trial then shows whether they keep it.
    pub(super) fn choose(uid: u32, gid: u32, capabilities: u64, uid_map: &str, subordinate: &Subordinate) -> IdPlan {
        let root = CAP_SETGID | CAP_SETUID | CAP_SYS_ADMIN;
        if uid == 0 && capabilities & root == root && ids_in(uid_map) >= FIRST_ID + IDS_PER_SANDBOX {
            return IdPlan::Root;
        }
        match (subordinate.uids, subordinate.gids) {
            (Some((uids_first, _)), Some((gids_first, _))) if subordinate.programs && subordinate.is_enough() => {
                IdPlan::Ranged { uid, gid, uids_first, gids_first }
            }
            _ => IdPlan::Single { uid, gid },
        }
    }

    /// Writes the maps of a process that waits in its new user namespace.
    pub(super) fn write(&self, pid: u32) -> Result<(), Errno> {
        let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let put = |file: &str, line: String| fs::write(format!("/proc/{pid}/{file}"), line).map_err(io);
        match *self {
            IdPlan::Root => {
                put("gid_map", format!("0 {FIRST_ID} {IDS_PER_SANDBOX}"))?;
                put("uid_map", format!("0 {FIRST_ID} {IDS_PER_SANDBOX}"))
            }
            IdPlan::Ranged { uid, gid, uids_first, gids_first } => {
                map_by("newgidmap", pid, gid, gids_first)?;
                map_by("newuidmap", pid, uid, uids_first)
            }
            IdPlan::Single { uid, gid } => {
                put("setgroups", "deny".into())?;
                put("gid_map", format!("0 {gid} 1"))?;
                put("uid_map", format!("0 {uid} 1"))
            }
        }
    }
}

fn map_by(program: &str, pid: u32, own: u32, first: u32) -> Result<(), Errno> {
    let ids = [pid, 0, own, 1, 1, first, IDS_PER_SANDBOX as u32].map(|id| id.to_string());
    let status =
        Command::new(program).args(ids).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Errno::PERM),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// How many ids the namespace has that this `uid_map` describes.
fn ids_in(uid_map: &str) -> u64 {
    let counts = uid_map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.fold(0, u64::saturating_add)
}

/// What the plan is and what it lacks.
pub(super) fn row(facts: &Facts) -> Row {
    match facts.plan {
        IdPlan::Root => {
            // One server claims a quarter of what is free, so that others on this machine find some too.
            let blocks = (LAST_ID + 1 - FIRST_ID) / IDS_PER_SANDBOX / 4;
            let mut row = Row::ok(NAME, "root: each sandbox gets a block of 65,536 host ids");
            row.sandboxes_max = Some(blocks);
            row
        }
        IdPlan::Ranged { .. } if facts.steps.outcome("map") == Outcome::Works => Row::limited(
            NAME,
            "one subordinate range, shared by all sandboxes: limits that the kernel keeps per id are shared too",
        )
        .mend("run as root: sudo workspace-server"),
        _ => Row::limited(NAME, single_why(facts)).mend(single_mend(facts)),
    }
}

fn single_why(facts: &Facts) -> String {
    let cause = if facts.uid == 0 {
        "root without SYS_ADMIN, SETUID or SETGID, or in a user namespace with few ids"
    } else if facts.subordinate.uids.is_none() || facts.subordinate.gids.is_none() {
        "no entry in /etc/subuid or /etc/subgid"
    } else if !facts.subordinate.is_enough() {
        "fewer than 65,536 ids in /etc/subuid or /etc/subgid"
    } else if !facts.subordinate.programs {
        "newuidmap or newgidmap is not installed"
    } else {
        "newuidmap refused the range"
    };
    format!("one id only ({cause}): no apt, no chown inside a sandbox")
}

fn single_mend(facts: &Facts) -> String {
    if facts.uid == 0 {
        return match facts.container {
            Some(_) => "start the container with --privileged".into(),
            None => "run as real root, outside of a user namespace".into(),
        };
    }
    let user = &facts.user;
    if !facts.subordinate.programs {
        return "sudo apt-get install uidmap".into();
    }
    format!("sudo usermod --add-subuids 1879048192-1879113727 --add-subgids 1879048192-1879113727 {user}")
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::report::Level;
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    fn subordinate(count: u32) -> Subordinate {
        Subordinate { uids: Some((100_000, count)), gids: Some((200_000, count)), programs: true }
    }

    #[test]
    fn the_best_plan_is_chosen() {
        let ranged = IdPlan::Ranged { uid: 1000, gid: 1000, uids_first: 100_000, gids_first: 200_000 };
        let single = IdPlan::Single { uid: 1000, gid: 1000 };
        assert_eq!(IdPlan::choose(0, 0, u64::MAX, WHOLE, &Subordinate::default()), IdPlan::Root);
        assert_eq!(IdPlan::choose(1000, 1000, 0, WHOLE, &subordinate(65_536)), ranged);
        assert_eq!(IdPlan::choose(1000, 1000, 0, WHOLE, &subordinate(65_535)), single);
        let without_programs = Subordinate { programs: false, ..subordinate(65_536) };
        assert_eq!(IdPlan::choose(1000, 1000, 0, WHOLE, &without_programs), single);
        let docker_caps = 0xa804_25fb;
        assert_eq!(
            IdPlan::choose(0, 0, docker_caps, WHOLE, &Subordinate::default()),
            IdPlan::Single { uid: 0, gid: 0 }
        );
        let nested = "0 100000 65536\n";
        assert_eq!(IdPlan::choose(0, 0, u64::MAX, nested, &Subordinate::default()), IdPlan::Single { uid: 0, gid: 0 });
    }

    #[test]
    fn the_largest_entry_of_the_user_counts() {
        let text = "bob:1:9\nann:100000:1000\n1000:300000:65536\nann:x:y\nann\n";
        assert_eq!(largest_range(text, "ann", 1000), Some((300_000, 65_536)));
        assert_eq!(largest_range(text, "eve", 1001), None);
    }

    #[test]
    fn the_row_says_what_is_missing() {
        assert_eq!(row(&good()).sandboxes_max, Some(7_166));
        let mut facts = good();
        (facts.uid, facts.user, facts.plan) = (1000, "ann".into(), IdPlan::Single { uid: 1000, gid: 1000 });
        let lacking = row(&facts);
        assert_eq!(lacking.level, Level::Limited);
        assert!(lacking.why.contains("/etc/subuid"), "{}", lacking.why);
        assert_eq!(lacking.mend.as_deref(), Some("sudo apt-get install uidmap"));
        facts.subordinate.programs = true;
        assert!(row(&facts).mend.unwrap().ends_with(" ann"));
    }

    /// The user's range is none that another line of theirs beats; a map never has fewer ids than one of its lines.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let found = largest_range(&text, "ann", 1000);
        for line in text.lines() {
            let alone = largest_range(line, "ann", 1000);
            assert!(alone.is_none_or(|(_, count)| found.is_some_and(|(_, largest)| largest >= count)));
            assert!(alone.is_none() || line.starts_with("ann:") || line.contains("1000:"));
            assert!(ids_in(line) <= ids_in(&text));
        }
        assert!(found.is_none() || text.lines().any(|line| largest_range(line, "ann", 1000) == found));
    }

    #[test]
    fn any_text_is_ranges_and_maps_or_nothing() {
        let corpus: [&[u8]; 4] = [
            b"bob:1:9\nann:100000:1000\n1000:300000:65536 \nann:x:y\nann\n",
            b"         0          0 4294967295\n",
            b"0 1000 1\n1 100000 65536\n",
            // Overflowed.
            b"0 0 18446744073709551615\n1 1 18446744073709551615\n",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
