//! Which limits can cgroups keep here, and may this process make cgroups at all?

use super::facts::{Facts, text};
use super::report::Row;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// The controllers that a sandbox's limits stand on.
pub(super) const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
const NAME: &str = "cgroups";
pub(super) const DELEGATE: &str = "systemd-run --user --scope -p Delegate=yes workspace-server";

/// One mounted hierarchy, as far as this process goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// 1 or 2.
    version: u8,
    /// Of [`CONTROLLERS`], those that can be used in it.
    controllers: Vec<String>,
    /// The folder in which ours would be made.
    folder: PathBuf,
    writable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// The kernel has cgroup.kill and cgroup.freeze (Linux 5.14).
    kills: bool,
}

impl Cgroups {
    pub(super) fn read(mountinfo: &str, own: &str, root: bool, kernel: (u32, u32)) -> Cgroups {
        let mut hierarchies = mounted(mountinfo, own, root);
        for hierarchy in &mut hierarchies {
            if !hierarchy.folder.is_dir() {
                // The path of another cgroup namespace: what is mounted is all there is.
                hierarchy.folder = hierarchy.folder.ancestors().find(|a| a.is_dir()).unwrap_or(Path::new("/")).into();
            }
            if hierarchy.version == 2 {
                let offered = text(hierarchy.folder.join("cgroup.controllers"));
                hierarchy.controllers.retain(|c| offered.split_whitespace().any(|o| o == c.as_str()));
            }
            let ours = |path: &Path| access(path, Access::WRITE_OK).is_ok();
            hierarchy.writable = ours(&hierarchy.folder) && ours(&hierarchy.folder.join("cgroup.procs"));
        }
        Cgroups { hierarchies, kills: kernel >= (5, 14) }
    }

    /// True where some hierarchy can limit this.
    pub(super) fn keeps(&self, controller: &str) -> bool {
        self.hierarchies.iter().any(|h| h.writable && h.controllers.iter().any(|c| c == controller))
    }

    /// True where a whole tree of processes can be killed at once.
    pub(super) fn kills_trees(&self) -> bool {
        self.kills && self.hierarchies.iter().any(|h| h.version == 2 && h.writable)
    }

    fn versions(&self) -> &'static str {
        let has = |version| self.hierarchies.iter().any(|h| h.version == version);
        match (has(1), has(2)) {
            (true, true) => "v1 with v2 beside it",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }

    #[cfg(test)]
    pub(super) fn good() -> Cgroups {
        let controllers = CONTROLLERS.map(str::to_owned).to_vec();
        let folder = "/sys/fs/cgroup".into();
        Cgroups { hierarchies: vec![Hierarchy { version: 2, controllers, folder, writable: true }], kills: true }
    }
}

/// Pure: the hierarchies of a mountinfo text. Root makes cgroups at the top, others below their own.
fn mounted(mountinfo: &str, own: &str, root: bool) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4) else { continue };
        let mut source = source.split(' ');
        let (kind, options) = (source.next().unwrap_or_default(), source.nth(1).unwrap_or_default());
        let of =
            |wanted: &[&str]| CONTROLLERS.iter().filter(|c| wanted.contains(*c)).map(|c| (*c).to_owned()).collect();
        let (version, controllers): (u8, Vec<String>) = match kind {
            "cgroup2" => (2, of(&CONTROLLERS)),
            "cgroup" => (1, of(&options.split(',').collect::<Vec<_>>())),
            _ => continue,
        };
        if version == 1 && controllers.is_empty() || hierarchies.iter().any(|h| h.version == 2 && version == 2) {
            continue;
        }
        let inside = if root { "" } else { own_path(own, version, &controllers).unwrap_or_default() };
        // `..` leads out of the cgroup namespace (cgroup_namespaces(7)), and here out of the mount.
        let outside = inside.split('/').any(|part| part == "..");
        let inside = if outside { "" } else { inside.trim_start_matches('/') };
        let folder = if inside.is_empty() { point.into() } else { Path::new(point).join(inside) };
        hierarchies.push(Hierarchy { version, controllers, folder, writable: false });
    }
    hierarchies
}

/// This process's path in a hierarchy, from the text of /proc/self/cgroup.
fn own_path<'a>(own: &'a str, version: u8, controllers: &[String]) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let same = match version {
            2 => number == "0" && names.is_empty(),
            _ => controllers.iter().any(|c| names.split(',').any(|n| n == c.as_str())),
        };
        same.then_some(path)
    })
}

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let cgroups = &facts.cgroups;
    let (kept, lost): (Vec<&str>, Vec<&str>) = CONTROLLERS.iter().partition(|c| cgroups.keeps(c));
    let version = cgroups.versions();
    let limits = if lost.is_empty() {
        Row::ok(NAME, format!("{version}; memory, pids and cpu limits are kept by the kernel"))
    } else {
        let why = format!(
            "{version}; not kept: {}; kept: {}",
            lost.join(", "),
            if kept.is_empty() { "none".into() } else { kept.join(", ") }
        );
        let row = if kept.is_empty() { Row::missing(NAME, why) } else { Row::limited(NAME, why) };
        row.mend(mend(facts))
    };
    let tree = if cgroups.kills_trees() {
        Row::ok("cgroup kill", "a command's whole tree ends at once, and can be frozen")
    } else if !cgroups.kills {
        Row::limited("cgroup kill", "needs Linux 5.14; trees are ended process by process")
    } else {
        Row::limited("cgroup kill", "no writable v2 hierarchy; trees are ended process by process").mend(mend(facts))
    };
    vec![limits, tree]
}

fn mend(facts: &Facts) -> String {
    if facts.uid != 0 && facts.systemd {
        return DELEGATE.into();
    }
    if facts.container.is_some() {
        return "as root; in a container: docker run --privileged --cgroupns=private …".into();
    }
    if facts.uid != 0 {
        return format!("sudo workspace-server; where systemd runs: {DELEGATE}");
    }
    let v2 = facts.cgroups.hierarchies.iter().any(|h| h.version == 2);
    if v2 { "mount -o remount,rw /sys/fs/cgroup".into() } else { "mount -t cgroup2 cgroup2 /sys/fs/cgroup".into() }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::report::Level;
    use super::*;
    use std::path::Component;

    const HYBRID: &str = "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
    const OWN: &str = "4:memory:/user/ann\n2:cpu,cpuacct:/a\n0::/user.slice/user-1000.slice\n";

    #[test]
    fn hierarchies_are_found() {
        let folders =
            |root| mounted(HYBRID, OWN, root).iter().map(|h| h.folder.display().to_string()).collect::<Vec<_>>();
        assert_eq!(folders(true), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]);
        assert_eq!(
            folders(false),
            [
                "/sys/fs/cgroup/cpu/a",
                "/sys/fs/cgroup/memory/user/ann",
                "/sys/fs/cgroup/unified/user.slice/user-1000.slice"
            ]
        );
        let hybrid = Cgroups { hierarchies: mounted(HYBRID, OWN, true), kills: true };
        assert_eq!(hybrid.versions(), "v1 with v2 beside it");
        assert!(!hybrid.keeps("memory"), "nothing is writable yet");
        assert_eq!(mounted("", "", true), []);
        assert_eq!(Cgroups::default().versions(), "none");
    }

    #[test]
    fn delegation_is_the_remedy_of_an_ordinary_user() {
        let mut facts = good();
        assert!(rows(&facts).iter().all(|r| r.level == Level::Ok));
        facts.uid = 1000;
        facts.cgroups.hierarchies[0].writable = false;
        let rows = rows(&facts);
        assert_eq!(rows[0].level, Level::Missing);
        assert_eq!(rows[0].mend.as_deref(), Some(DELEGATE));
        assert_eq!(rows[1].mend.as_deref(), Some(DELEGATE));
    }

    #[test]
    fn a_part_of_the_controllers_is_a_limit() {
        let mut facts = good();
        facts.cgroups.hierarchies[0].controllers = vec!["memory".into(), "pids".into()];
        let row = rows(&facts).remove(0);
        assert_eq!((row.level, row.why.as_str()), (Level::Limited, "v2; not kept: cpu; kept: memory, pids"));
    }

    /// Every hierarchy's folder lies below a mount point of the table; v2 is there once, v1 for a controller of ours.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        for root in [true, false] {
            let hierarchies = mounted(&text, &text, root);
            assert!(hierarchies.iter().filter(|h| h.version == 2).count() <= 1);
            for Hierarchy { version, controllers, folder, writable } in &hierarchies {
                assert!(!writable && !controllers.is_empty() && (*version == 1 || controllers.len() == 3));
                let points = || text.lines().filter_map(|line| line.split_once(" - ")?.0.split(' ').nth(4));
                let below = points().find_map(|point| folder.strip_prefix(point).ok());
                let inside = below.is_some_and(|below| below.components().all(|c| c != Component::ParentDir));
                assert!(inside && (!root || points().any(|point| folder == Path::new(point))), "{folder:?}");
            }
        }
    }

    #[test]
    fn folders_lie_below_their_mounts() {
        let hybrid = format!("{HYBRID}{OWN}");
        // Was /sys/fs: the nearest directory above /sys/fs/cgroup/../x.
        let outside = "0::/../x\n1:memory:/a/../../b\n".to_owned() + HYBRID;
        let corpus: [&[u8]; 3] = [hybrid.as_bytes(), outside.as_bytes(), b"1 1 0:1 / /cg rw - cgroup2\n0::/x"];
        crate::fuzz::run(any_text, &corpus);
    }
}
