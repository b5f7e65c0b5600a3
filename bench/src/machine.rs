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
    model(&text).unwrap_or(std::env::consts::ARCH).to_owned()
}

/// From the text of /proc/cpuinfo.
fn model(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(": ").map(|(_, name)| name)
}

fn groups() -> &'static str {
    groups_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

fn groups_in(mounts: &str) -> &'static str {
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
    kind_at(&mounts, &path).unwrap_or("?").to_owned()
}

fn kind_at<'a>(mounts: &'a str, path: &std::path::Path) -> Option<&'a str> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let fitting = fields.filter(|line| line.len() > 2 && path.starts_with(line[1]));
    fitting.max_by_key(|line| line[1].len()).map(|line| line[2])
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told stands in the text.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        assert!(model(&text).is_none_or(|name| text.contains(&format!(": {name}")) && !name.contains('\n')));
        assert!(groups_in(&text) == "none" || text.contains(" cgroup"));
        assert!(kind_at(&text, "/var/tmp".as_ref()).is_none_or(|kind| text.contains(&format!(" {kind}"))));
        let own = format!("{text}\nnone /var/tmp own rw 0 0\n");
        assert!(kind_at(&own, "/var/tmp".as_ref()).is_some());
    }

    #[test]
    fn any_text_of_the_machine_is_read() {
        let corpus: [&[u8]; 3] = [
            b"processor\t: 0\nmodel name\t: A: B\n",
            b"/dev/vda / ext4 rw 0 0\ntmpfs /var/tmp tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
            b"model name\n/ /",
        ];
        assert_eq!(model(&String::from_utf8_lossy(corpus[0])), Some("A: B"));
        assert_eq!(kind_at(&String::from_utf8_lossy(corpus[1]), "/var/tmp/x".as_ref()), Some("tmpfs"));
        crate::fuzz::run(any_text, &corpus);
    }
}
