//! Room in a delegated control group: an ordinary user's service stands aside, so that the group can pass its
//! controllers on.
//!
//! cgroups(7), "no internal processes": a v2 group with processes of its own cannot give controllers to its children.
//! With `systemd-run --user --scope -p Delegate=yes` the service is such a process. It moves to a leaf of the group; the
//! launcher knows the leaf's name and works in the group above it.

use std::path::PathBuf;

/// The leaf. The launcher's `hierarchy.rs` takes it off the end of its own path.
const LEAF: &str = "workspace-service";
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Moves this process where that is of use and allowed; what it is not allowed, the launcher's notes will say.
pub(super) fn stand_aside() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(group) = group_directory(&own, &mounts) else { return };
    let given = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if group.ends_with(LEAF) || !given.split_ascii_whitespace().any(|name| CONTROLLERS.contains(&name)) {
        return;
    }
    let leaf = group.join(LEAF);
    let _ = std::fs::create_dir(&leaf);
    if let Err(error) = std::fs::write(leaf.join("cgroup.procs"), "0") {
        tracing::debug!(group = %group.display(), %error, "no delegated control group");
    }
}

/// Where the v2 group of this process is seen, from the texts of /proc/self/cgroup and /proc/self/mountinfo.
fn group_directory(own: &str, mounts: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (root, point) = (before.split(' ').nth(3)?, before.split(' ').nth(4)?);
        let below = beneath(path, root)?;
        after.starts_with("cgroup2 ").then(|| PathBuf::from(point).join(below.trim_start_matches('/')))
    })
}

/// What of `path` lies below `root`. `/user2` is not below `/user`; a path with `..`, as the kernel writes it for what lies
/// outside of a cgroup namespace (cgroup_namespaces(7)), is below nothing.
fn beneath<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let inside = (rest.is_empty() || rest.starts_with('/')) && !rest.split('/').any(|part| part == "..");
    inside.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    #[test]
    fn the_group_is_found_where_it_is_mounted() {
        let own = "9:pids:/x\n0::/user.slice/run-1.scope\n";
        let mounts = "20 1 0:5 / /proc rw - proc proc rw\n30 1 0:9 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(group_directory(own, mounts), Some("/sys/fs/cgroup/user.slice/run-1.scope".into()));
        let inside = "30 1 0:9 /user.slice /cg rw - cgroup2 none rw\n";
        assert_eq!(group_directory(own, inside), Some("/cg/run-1.scope".into()));
        assert_eq!(group_directory("1:cpu:/\n", mounts), None);
        assert_eq!(group_directory(own, "30 1 0:9 /other /cg rw - cgroup2 none rw\n"), None);
    }

    /// A group lies below a mount point of the table, whatever the texts say.
    fn any_texts(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let Some(group) = group_directory(&text, &text) else { return };
        let points = || text.lines().filter_map(|line| line.split_once(" - ")?.0.split(' ').nth(4));
        let below = points().find_map(|point| group.strip_prefix(point).ok());
        assert!(below.is_some_and(|below| below.components().all(|part| part != Component::ParentDir)), "{group:?}");
    }

    #[test]
    fn a_group_lies_below_its_mount() {
        let corpus: [&[u8]; 5] = [
            b"0::/user.slice/run-1.scope\n30 1 0:9 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
            b"9:pids:/x\n0::/user/x\n30 1 0:9 /user /cg rw - cgroup2 none rw\n",
            // Was /cg/2/x.
            b"0::/user2/x\n30 1 0:9 /user /cg rw - cgroup2 none rw\n",
            // Was outside of /cg.
            b"0::/../../x\n30 1 0:9 / /cg rw - cgroup2 none rw\n",
            b"0::/\n30 1 0:9 / /cg rw - cgroup2",
        ];
        crate::fuzz::run(any_texts, &corpus);
        for text in &corpus[2..4] {
            let text = String::from_utf8_lossy(text);
            assert_eq!(group_directory(&text, &text), None);
        }
    }
}
