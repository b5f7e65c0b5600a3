//! How many sandboxes do the machine's limits allow, and which setting raises each?
//!
//! What one sandbox takes was measured on Linux 6.18: see docs/operating.md. The counts are estimates for planning.

use super::facts::Facts;
use super::ids::IdPlan;
use super::report::{Level, Row, grouped};

/// Below this a limit is worth raising.
const SANDBOXES_WANTED: u64 = 2_000;
/// A link to the agent and its pidfd.
const FILES_PER_SANDBOX: u64 = 2;
/// Listeners, rings, the database, clients.
const FILES_OF_SERVER: u64 = 1_000;
/// Agent, spawner, and a command with a few children.
const PROCESSES_PER_SANDBOX: u64 = 6;
/// With all that the kernel keeps for it; measured 600 KiB at 2,000 sandboxes, 1,013 KiB at 5,000.
const BYTES_PER_SANDBOX: u64 = 1 << 20;
/// A tool that watches a source tree takes about so many.
const WATCHES_PER_SANDBOX: u64 = 1_000;
/// Mounts are counted per mount namespace, and a sandbox has one.
const MOUNTS_PER_SANDBOX: u64 = 30;

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = vec![memory(facts), files(facts), processes(facts)];
    rows.extend(counted(facts));
    rows.extend(namespaces(facts));
    rows
}

/// A row for a bound: how many sandboxes, and what to do when that is few.
fn bound(name: &'static str, why: String, sandboxes: u64, mend: String) -> Row {
    let mut row = Row::ok(name, why);
    row.sandboxes_max = Some(sandboxes);
    if sandboxes < SANDBOXES_WANTED {
        row.level = if sandboxes == 0 { Level::Missing } else { Level::Limited };
        row = row.mend(mend);
    }
    row
}

fn memory(facts: &Facts) -> Row {
    let available = facts.memory_available_bytes;
    let why = format!("{} MiB available, about 1 MiB for an idle sandbox", grouped(available >> 20));
    bound("memory", why, available / BYTES_PER_SANDBOX, "add memory, or stop other programs".into())
}

fn files(facts: &Facts) -> Row {
    const NAME: &str = "RLIMIT_NOFILE";
    let sandboxes = facts.files_hard.saturating_sub(FILES_OF_SERVER) / FILES_PER_SANDBOX;
    let why = format!("hard limit {}", number(facts.files_hard));
    bound(NAME, why, sandboxes, "ulimit -Hn 1048576 as root, or LimitNOFILE=1048576 in the systemd unit".into())
}

fn processes(facts: &Facts) -> Row {
    const NAME: &str = "RLIMIT_NPROC";
    if matches!(facts.plan, IdPlan::Root) {
        return Row::ok(NAME, "no bound for all together: each sandbox has ids of its own");
    }
    let why = format!("hard limit {}, for all sandboxes of this user together", number(facts.processes_hard));
    let mend =
        format!("echo '{} hard nproc 1000000' | sudo tee -a /etc/security/limits.conf, then log in again", facts.user);
    bound(NAME, why, facts.processes_hard / PROCESSES_PER_SANDBOX, mend)
}

/// The sysctls that count something for all sandboxes together.
fn counted(facts: &Facts) -> Vec<Row> {
    const WATCH: Option<&str> = Some("watch files");
    let table = [
        ("fs.inotify.max_user_instances", 1, 65_536, WATCH, "for all together: one sandbox that takes all leaves none"),
        (
            "fs.inotify.max_user_watches",
            WATCHES_PER_SANDBOX,
            4_194_304,
            WATCH,
            "for all together, a source tree takes 1,000",
        ),
        ("kernel.pid_max", PROCESSES_PER_SANDBOX, 4_194_304, None, "for the whole machine, six to a working sandbox"),
        (
            "kernel.threads-max",
            PROCESSES_PER_SANDBOX,
            4_194_304,
            None,
            "for the whole machine, six to a working sandbox",
        ),
    ];
    let row = |(name, each, raised, that, what): (&'static str, u64, u64, Option<&'static str>, &str)| {
        let value = facts.sysctl(name)?;
        let mut row = bound(name, format!("{}, {what}", grouped(value)), value / each, facts.set_sysctl(name, raised));
        row.sandboxes_that = that;
        Some(row)
    };
    table.into_iter().filter_map(row).chain(terminals(facts)).chain(mounts(facts)).collect()
}

fn terminals(facts: &Facts) -> Option<Row> {
    const NAME: &str = "kernel.pty.max";
    let (max, reserve) = (facts.sysctl(NAME)?, facts.sysctl("kernel.pty.reserve").unwrap_or(0));
    let why = format!("{} less {} kept back, for all together", grouped(max), grouped(reserve));
    let mut row = bound(NAME, why, max.saturating_sub(reserve), facts.set_sysctl(NAME, 65_536));
    row.sandboxes_that = Some("open a terminal");
    Some(row)
}

fn mounts(facts: &Facts) -> Option<Row> {
    const NAME: &str = "fs.mount-max";
    let max = facts.sysctl(NAME)?;
    let why = format!("{} in each mount namespace, a sandbox has about {MOUNTS_PER_SANDBOX}", grouped(max));
    let enough = max >= MOUNTS_PER_SANDBOX * 4;
    Some(if enough { Row::ok(NAME, why) } else { Row::missing(NAME, why).mend(facts.set_sysctl(NAME, 100_000)) })
}

fn namespaces(facts: &Facts) -> Vec<Row> {
    // Outer and inner; as root a third keeps the map of the files.
    let user = if matches!(facts.plan, IdPlan::Root) { 3 } else { 2 };
    let kinds = [
        ("user.max_user_namespaces", user),
        ("user.max_mnt_namespaces", 1),
        ("user.max_pid_namespaces", 1),
        ("user.max_net_namespaces", 1),
        ("user.max_ipc_namespaces", 1),
        ("user.max_uts_namespaces", 1),
        ("user.max_cgroup_namespaces", 1),
    ];
    let row = |(name, each): (&'static str, u64)| {
        let value = facts.sysctl(name)?;
        let why = format!("{}, a sandbox takes {each}", grouped(value));
        Some(bound(name, why, value / each, facts.set_sysctl(name, 131_072)))
    };
    kinds.into_iter().filter_map(row).collect()
}

fn number(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { grouped(limit) }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::*;

    fn row(facts: &Facts, name: &str) -> Row {
        rows(facts).into_iter().find(|r| r.name == name).unwrap()
    }

    #[test]
    fn a_good_machine_needs_no_mending() {
        let facts = good();
        assert!(rows(&facts).iter().all(|r| r.level == Level::Ok && r.mend.is_none()), "{:#?}", rows(&facts));
    }

    #[test]
    fn defaults_of_a_distribution_are_told_with_their_remedy() {
        let mut facts = good();
        facts.sysctls.insert("fs.inotify.max_user_instances", 128);
        let inotify = row(&facts, "fs.inotify.max_user_instances");
        assert_eq!((inotify.level, inotify.sandboxes_max), (Level::Limited, Some(128)));
        assert!(inotify.mend.unwrap().contains("fs.inotify.max_user_instances=65536"));

        facts.files_hard = 20_000;
        assert_eq!(row(&facts, "RLIMIT_NOFILE").sandboxes_max, Some(9_500));
        facts.sysctls.insert("kernel.pid_max", 32_768);
        assert_eq!(row(&facts, "kernel.pid_max").sandboxes_max, Some(5_461));
        (*facts.sysctls.get_mut("kernel.pty.max").unwrap(), *facts.sysctls.get_mut("kernel.pty.reserve").unwrap()) =
            (4_096, 1_024);
        assert_eq!(row(&facts, "kernel.pty.max").sandboxes_max, Some(3_072));
    }

    #[test]
    fn an_ordinary_user_shares_its_process_limit() {
        let mut facts = good();
        assert_eq!(row(&facts, "RLIMIT_NPROC").sandboxes_max, None);
        facts.plan = IdPlan::Single { uid: 1000, gid: 1000 };
        facts.processes_hard = 600;
        assert_eq!(row(&facts, "RLIMIT_NPROC").sandboxes_max, Some(100));
        facts.sysctls.insert("user.max_user_namespaces", 1);
        assert_eq!(row(&facts, "user.max_user_namespaces").level, Level::Missing);
    }
}
