//! On what machine, from which commit, and by which command were the figures made?

use crate::floor;
use crate::options::Options;
use std::fs;
use std::process::Command;

/// One line that goes with every table.
pub(crate) fn describe(options: &Options) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let total_kib: u64 = memory.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let load: Vec<String> = read("/proc/loadavg").split(' ').take(1).map(str::to_owned).collect();
    let command: Vec<String> = std::env::args().collect();
    let user = if rustix::process::geteuid().is_root() { "root" } else { "ordinary user" };
    format!(
        "Linux {} · {} · {cores} cores · {} MiB · load {} · {user} · cgroup {} · {} on {} · {} · commit {} · {}{}",
        read("/proc/sys/kernel/osrelease"),
        processor(),
        total_kib / 1024,
        load.concat(),
        groups(),
        options.dir.display(),
        file_system(&options.dir),
        floor::bwrap_version(),
        commit(),
        if cfg!(debug_assertions) { "DEBUG BUILD OF THE BENCH · " } else { "" },
        command.join(" "),
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or(std::env::consts::ARCH, |(_, name)| name).to_owned()
}

fn groups() -> &'static str {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "v1 and v2",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

/// The type of the mount whose path is the longest beginning of this one.
fn file_system(path: &std::path::Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let fitting = fields.filter(|line| line.len() > 2 && path.starts_with(line[1]));
    fitting.max_by_key(|line| line[1].len()).map_or("?".to_owned(), |line| line[2].to_owned())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.trim().is_empty());
    format!("{}{}", commit.trim(), if changed { " with changes" } else { "" })
}
