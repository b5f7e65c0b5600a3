//! Where would the data lie, can its size be limited, and is there a Docker engine?

use super::facts::{Facts, Outcome};
use super::kernel::name_of;
use super::report::Row;
use std::path::{Path, PathBuf};

pub(super) const CONFIGURATION: &str = "configuration";

/// The mount that holds the data directory, or will hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataMount {
    /// The data directory, or its nearest parent that exists.
    pub(super) folder: PathBuf,
    /// Kind of file system.
    pub(super) kind: String,
    /// Options of the mount and of the file system.
    options: String,
}

impl DataMount {
    pub(super) fn of(data_dir: &Path, mountinfo: &str) -> DataMount {
        let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.into());
        let existing = absolute.ancestors().find(|a| a.is_dir()).unwrap_or(Path::new("/"));
        let folder = existing.canonicalize().unwrap_or_else(|_| existing.into());
        let (kind, options) = mount_of(&folder, mountinfo).unwrap_or_default();
        DataMount { folder, kind, options }
    }

    #[cfg(test)]
    pub(super) fn good() -> DataMount {
        DataMount { folder: "/srv/data".into(), kind: "ext4".into(), options: "rw,relatime".into() }
    }

    /// What could hold a limit on disk space here.
    fn quota(&self) -> Option<&'static str> {
        let options = || self.options.split(',');
        if options().any(|o| o == "prjquota" || o == "pquota") {
            return Some("project quota is on");
        }
        (self.kind == "btrfs").then_some("btrfs qgroups are possible")
    }
}

/// Pure: kind and options of the mount that covers `folder`. Of several at one place the last counts.
fn mount_of(folder: &Path, mountinfo: &str) -> Option<(String, String)> {
    let mount = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (unescape(mount.next()?), mount.next()?);
        let mut source = source.split(' ');
        let (kind, of_superblock) = (source.next()?, source.nth(1)?);
        folder.starts_with(&point).then(|| (point.len(), kind.to_owned(), format!("{options},{of_superblock}")))
    };
    let covering = mountinfo.lines().filter_map(mount).max_by_key(|(length, ..)| *length)?;
    Some((covering.1, covering.2))
}

/// mountinfo writes a blank as \040.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Whether the environment would let `serve` start.
pub(super) fn configuration(facts: &Facts) -> Row {
    match &facts.configuration {
        Ok(warnings) if warnings.is_empty() => Row::ok(CONFIGURATION, "the environment's variables are well-formed"),
        Ok(warnings) => Row::limited(CONFIGURATION, warnings.join("; ")),
        Err(line) => Row::missing(CONFIGURATION, line.clone()).mend("correct or unset the variable"),
    }
}

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    vec![data(facts), quota(facts), docker(facts)]
}

fn data(facts: &Facts) -> Row {
    const NAME: &str = "data directory";
    let DataMount { folder, kind, options } = &facts.data;
    let place = format!("{kind} at {}", folder.display());
    let remedy = "set WORKSPACE_DATA_DIR to a folder on a local disk";
    if options.split(',').next() == Some("ro") {
        return Row::missing(NAME, format!("{place} is read-only")).mend(remedy);
    }
    match kind.as_str() {
        "nfs" | "nfs4" | "cifs" | "9p" | "fuse.sshfs" => {
            Row::limited(NAME, format!("{place}: the database needs a local file system")).mend(remedy)
        }
        "tmpfs" | "ramfs" => {
            Row::limited(NAME, format!("{place}: gone after a reboot, and counts as memory")).mend(remedy)
        }
        _ => Row::ok(NAME, place),
    }
}

fn quota(facts: &Facts) -> Row {
    let found = facts.data.quota().unwrap_or("neither project quota nor btrfs");
    Row::limited("disk quota", format!("{found}; in this version disk use is counted, not bounded by the kernel"))
}

fn docker(facts: &Facts) -> Row {
    const NAME: &str = "docker engine";
    match facts.docker {
        Outcome::Works => Row::ok(NAME, "its socket answers; no runtime here uses it yet"),
        Outcome::NotTried => Row::missing(NAME, "remote, not tried; the namespace runtime needs none"),
        Outcome::Fails(errno) => Row::missing(NAME, format!("{}; the namespace runtime needs none", name_of(errno))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::report::Level;
    use super::*;

    const MOUNTS: &str = "1 0 8:1 / / rw,relatime - ext4 /dev/vda rw\n\
        2 1 8:2 / /srv rw,nosuid shared:3 - xfs /dev/vdb rw,prjquota\n\
        3 1 0:9 / /srv/my\\040data ro - btrfs /dev/vdc rw\n\
        broken line\n";

    #[test]
    fn the_longest_mount_point_covers() {
        let kind = |path: &str| mount_of(Path::new(path), MOUNTS).unwrap().0;
        assert_eq!(kind("/srv/x"), "xfs");
        assert_eq!(kind("/srvx"), "ext4");
        assert_eq!(kind("/srv/my data/y"), "btrfs");
        assert_eq!(mount_of(Path::new("/"), ""), None);
    }

    #[test]
    fn a_variable_that_stops_the_start_is_told() {
        let mut facts = good();
        assert_eq!(configuration(&facts).level, Level::Ok);
        facts.configuration = Err("WORKSPACE_HTTP_PORT=x: 0..=65535".into());
        assert_eq!((configuration(&facts).level, configuration(&facts).why.contains("PORT=x")), (Level::Missing, true));
        facts.configuration = Ok(vec!["NFS_SERVER is never read".into()]);
        assert_eq!(configuration(&facts).level, Level::Limited);
    }

    #[test]
    fn quota_kinds_are_told() {
        let mut facts = good();
        assert_eq!(facts.data.quota(), None);
        facts.data.options = "rw,prjquota".into();
        assert_eq!(facts.data.quota(), Some("project quota is on"));
        (facts.data.kind, facts.data.options) = ("btrfs".into(), "rw".into());
        assert!(quota(&facts).why.contains("qgroups"));
    }

    #[test]
    fn a_place_that_cannot_hold_the_data_is_told() {
        let mut facts = good();
        assert_eq!(data(&facts).level, Level::Ok);
        facts.data.kind = "nfs4".into();
        assert_eq!(data(&facts).level, Level::Limited);
        facts.data.options = "ro,relatime,rw".into();
        assert_eq!(data(&facts).level, Level::Missing);
    }

    /// The covering mount is one of the table, and what the kernel escapes comes back.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let found = mount_of(Path::new("/srv/my data/y"), &text);
        assert!(found.is_none_or(|(kind, options)| text.contains(&kind) && options.split(',').count() >= 2));
        // As seq_path of the kernel writes a path.
        let escape = |path: &str| {
            let octal = |c: char| matches!(c, ' ' | '\t' | '\n' | '\\').then(|| format!("\\{:03o}", c as u32));
            path.chars().map(|c| octal(c).unwrap_or_else(|| c.to_string())).collect::<String>()
        };
        assert_eq!(unescape(&escape(&text)), text);
        // A mount at the folder itself covers it before all others.
        let own = format!("9 1 0:9 / {} rw - own /dev/x rw", escape(&format!("/{text}")));
        let folder = format!("/{text}");
        assert_eq!(mount_of(Path::new(&folder), &format!("{MOUNTS}{own}\n")).map(|found| found.0), Some("own".into()));
    }

    #[test]
    fn any_mount_table_is_read() {
        let corpus: [&[u8]; 3] = [MOUNTS.as_bytes(), b"a \\040b\\134\tc", b"3 1 0:9 / / ro - ext4"];
        crate::fuzz::run(any_text, &corpus);
    }
}
