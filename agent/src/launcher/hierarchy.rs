//! Where the machine's cgroup hierarchies are, and our three directories in each.

use super::cgroup::RealRoot;
use super::small_file;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// The controllers that sandboxes are limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
}

const CONTROLLERS: [(Controller, &str); 3] =
    [(Controller::Memory, "memory"), (Controller::Pids, "pids"), (Controller::Cpu, "cpu")];

/// One hierarchy with our directories in it.
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    controllers: Vec<Controller>,
    name: String,
    root: OwnedFd,
    /// Held here because the top of a hierarchy is no longer reachable by path.
    parent: OwnedFd,
    pub(crate) agents: OwnedFd,
    pub(crate) sandboxes: OwnedFd,
    /// cgroup.procs of where this process was before it went into `agents`.
    origin: Option<OwnedFd>,
}

impl Hierarchy {
    /// True when the controller can limit sandboxes here.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// See [`super::cgroup::Cgroups::leave`]. A directory with something in it stays: sandboxes live on.
    pub(crate) fn leave(&self) {
        if let Some(origin) = &self.origin {
            let _ = small_file::write_once(origin.as_fd(), b"0");
        }
        for (dir, name) in [(&self.parent, "agents"), (&self.parent, "s"), (&self.root, &*self.name)] {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
        }
    }
}

/// A mounted hierarchy, from one line of /proc/self/mountinfo.
#[derive(Debug, PartialEq)]
struct Mounted {
    version: Version,
    point: String,
    /// Which directory of the hierarchy is mounted there.
    root: String,
    controllers: Vec<Controller>,
}

/// Finds the hierarchies, makes `<name>/{agents,s}` in each and enters `agents`.
pub(crate) fn find(proc: BorrowedFd<'_>, name: &str, real_root: RealRoot, notes: &mut Vec<String>) -> Vec<Hierarchy> {
    let mounts = small_file::read(proc, "self/mountinfo").unwrap_or_default();
    let own = small_file::read(proc, "self/cgroup").unwrap_or_default();
    let mut found: Vec<Hierarchy> = Vec::new();
    for mounted in mounts.lines().filter_map(parse_mount) {
        let again = found.iter().any(|hierarchy| match mounted.version {
            Version::Two => hierarchy.version == Version::Two,
            Version::One => mounted.controllers.iter().any(|&controller| hierarchy.has(controller)),
        });
        if again || (mounted.version == Version::One && mounted.controllers.is_empty()) {
            continue;
        }
        let opened = open_root(&mounted, &own, real_root)
            .and_then(|(root, origin)| set_up(mounted.version, mounted.controllers.clone(), root, origin, name, notes));
        match opened {
            Ok(hierarchy) => found.push(hierarchy),
            Err(errno) => notes.push(format!("cgroups at {} are not usable: {errno}", mounted.point)),
        }
    }
    if real_root == RealRoot::Yes && !found.iter().any(|hierarchy| hierarchy.version == Version::Two) {
        // v2 can be mounted beside v1; without a controller it still freezes and kills.
        let mounted = mount_unified().and_then(|root| set_up(Version::Two, Vec::new(), root, None, name, notes));
        match mounted {
            Ok(hierarchy) => found.push(hierarchy),
            Err(errno) => notes.push(format!("cgroup v2 can't be mounted: {errno}")),
        }
    }
    found
}

/// Removes the empty ones of `<name>/{agents,s}` and `<name>` at the top of every hierarchy that is mounted.
pub(crate) fn sweep(name: &str) {
    let mounts = small_file::read(CWD, "/proc/self/mountinfo").unwrap_or_default();
    let mut roots: Vec<OwnedFd> =
        mounts.lines().filter_map(parse_mount).filter_map(|mounted| small_file::place(&mounted.point).ok()).collect();
    roots.extend(mount_unified());
    for root in roots {
        for path in [format!("{name}/agents"), format!("{name}/s"), name.to_owned()] {
            let _ = rustix::fs::unlinkat(&root, path, AtFlags::REMOVEDIR);
        }
    }
}

/// The leaf into which an ordinary user's service moved (the supervisor's `delegation.rs`): ours go beside it.
const SERVICE_LEAF: &str = "/workspace-service";

/// The directory that ours go into, and cgroup.procs of where we are. Real root uses the top of what is mounted, so
/// that stopping the service does not take the sandboxes along; others use the group that was given to them.
fn open_root(mounted: &Mounted, own: &str, real_root: RealRoot) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    let path = own_path(own, mounted);
    let own_dir = path.map(|path| format!("{}/{}", mounted.point, path.trim_start_matches('/')));
    let procs = |dir: &String| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(CWD, format!("{dir}/cgroup.procs"), flags, Mode::empty()).ok()
    };
    let origin = own_dir.as_ref().and_then(procs);
    let root = match real_root {
        RealRoot::Yes => small_file::place(&mounted.point)?,
        RealRoot::No => {
            let own_dir = own_dir.as_deref().ok_or(Errno::NOENT)?;
            small_file::place(own_dir.strip_suffix(SERVICE_LEAF).unwrap_or(own_dir))?
        }
    };
    Ok((root, origin))
}

fn set_up(
    version: Version,
    mut controllers: Vec<Controller>,
    root: OwnedFd,
    origin: Option<OwnedFd>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Hierarchy, Errno> {
    let parent = small_file::make_place_at(root.as_fd(), name, 0o755)?;
    let agents = small_file::make_place_at(parent.as_fd(), "agents", 0o755)?;
    let sandboxes = small_file::make_place_at(parent.as_fd(), "s", 0o755)?;
    let hierarchy = |controllers| Hierarchy {
        version,
        controllers,
        name: name.to_owned(),
        root,
        parent,
        agents,
        sandboxes,
        origin,
    };
    if version == Version::Two {
        let hierarchy = hierarchy(Vec::new());
        enter(&hierarchy)?;
        controllers = enable(&hierarchy, notes);
        return Ok(Hierarchy { controllers, ..hierarchy });
    }
    let hierarchy = hierarchy(controllers);
    enter(&hierarchy)?;
    Ok(hierarchy)
}

fn enter(hierarchy: &Hierarchy) -> Result<(), Errno> {
    small_file::write(hierarchy.agents.as_fd(), "cgroup.procs", "0").inspect_err(|_| hierarchy.leave())
}

/// Hands the v2 controllers that this group has down to `s/`; gives those that arrived.
fn enable(hierarchy: &Hierarchy, notes: &mut Vec<String>) -> Vec<Controller> {
    let available = small_file::read(hierarchy.root.as_fd(), "cgroup.controllers").unwrap_or_default();
    let mut arrived = Vec::new();
    for (controller, name) in CONTROLLERS {
        if !available.split_ascii_whitespace().any(|word| word == name) {
            continue;
        }
        let directories = [&hierarchy.root, &hierarchy.parent, &hierarchy.sandboxes];
        let handed = directories
            .iter()
            .try_for_each(|dir| small_file::write(dir.as_fd(), "cgroup.subtree_control", &format!("+{name}")));
        match handed {
            Ok(()) => arrived.push(controller),
            Err(errno) => notes.push(format!("cgroup v2 controller {name} can't be used: {errno}")),
        }
    }
    arrived
}

fn mount_unified() -> Result<OwnedFd, Errno> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let flags =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// `36 25 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct`
fn parse_mount(line: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let root = fields.nth(3)?.to_owned();
    let point = fields.next()?.to_owned();
    let mut fields = after.split(' ');
    let version = match fields.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = fields.nth(1)?;
    let named = |name: &str| options.split(',').any(|option| option == name);
    let controllers = match version {
        Version::Two => Vec::new(),
        Version::One => CONTROLLERS.iter().filter(|(_, name)| named(name)).map(|&(controller, _)| controller).collect(),
    };
    Some(Mounted { version, point, root, controllers })
}

/// Where this process is, relative to what is mounted; from /proc/self/cgroup, `4:memory:/a/b` or `0::/a/b`.
fn own_path<'a>(own: &'a str, mounted: &Mounted) -> Option<&'a str> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let here = match mounted.version {
            Version::Two => number == "0" && names.is_empty(),
            Version::One => CONTROLLERS.iter().any(|(controller, name)| {
                mounted.controllers.contains(controller) && names.split(',').any(|word| word == *name)
            }),
        };
        here.then_some(path)
    })?;
    beneath(path, &mounted.root)
}

/// What of `path` lies below `root`: nothing, or `/` and more. `/user2` is not below `/user`; a path with `..`, as the
/// kernel writes it for what lies outside of a cgroup namespace (cgroup_namespaces(7)), is below nothing.
fn beneath<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let inside = (rest.is_empty() || rest.starts_with('/')) && !rest.split('/').any(|part| part == "..");
    inside.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_of_both_versions() {
        let one = "41 25 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let mounted = parse_mount(one).unwrap();
        assert_eq!((mounted.version, mounted.controllers.as_slice()), (Version::One, &[Controller::Cpu][..]));
        assert_eq!(own_path("1:cpu,cpuacct:/a\n0::/b\n", &mounted), Some("/a"));
        let two = "50 25 0:31 /own /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let mounted = parse_mount(two).unwrap();
        assert_eq!((mounted.version, mounted.point.as_str()), (Version::Two, "/sys/fs/cgroup"));
        assert_eq!(own_path("0::/own/x\n", &mounted), Some("/x"));
        assert_eq!(parse_mount("1 1 0:1 / / rw - ext4 /dev/vda rw"), None);
        assert_eq!(parse_mount("nonsense"), None);
    }

    #[test]
    fn any_line_is_a_mount_or_none() {
        let corpus: [&[u8]; 3] = [
            b"36 25 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
            b"30 1 0:9 /user.slice /cg rw - cgroup2 none rw",
            b"30 1 0:9 /user.slice /cg rw - cgroup cgroup rw,memory",
        ];
        crate::fuzz::run(
            |input| {
                let line = String::from_utf8_lossy(input);
                if let Some(mounted) = parse_mount(&line) {
                    let own = "0::/user.slice/a\n1:cpu,cpuacct:/b\n2:memory:/user.slice2/../c\n";
                    if let Some(path) = own_path(own, &mounted) {
                        let whole = format!("{}{path}", mounted.root.trim_end_matches('/'));
                        assert!(["/user.slice/a", "/b"].contains(&whole.as_str()), "{whole}");
                        assert!(path.is_empty() || path.starts_with('/'), "{path}");
                    }
                }
            },
            &corpus,
        );
    }

    /// Of any text of /proc/self/cgroup, a path that stays below what is mounted.
    fn any_own(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        for (version, root) in [(Version::One, "/"), (Version::Two, "/user"), (Version::Two, "/user/")] {
            let controllers = vec![Controller::Cpu, Controller::Memory];
            let mounted = Mounted { version, point: "/cg".into(), root: root.into(), controllers };
            let Some(path) = own_path(&text, &mounted) else { continue };
            assert!(path.is_empty() || path.starts_with('/'), "{path}");
            assert!(!path.split('/').any(|part| part == ".."), "{path}");
            assert!(text.contains(&format!(":{}{path}", root.trim_end_matches('/'))));
        }
    }

    #[test]
    fn where_we_are_lies_below_what_is_mounted() {
        let corpus: [&[u8]; 5] = [
            b"9:memory:/a/b\n2:cpu,cpuacct:/a\n0::/user/x\n",
            b"0::/\n",
            b"0::/user\n",
            // Was read as /2/x below /user.
            b"0::/user2/x\n",
            b"0::/user/../../x:y\n1:cpu:/../a\n",
        ];
        crate::fuzz::run(any_own, &corpus);
    }
}
