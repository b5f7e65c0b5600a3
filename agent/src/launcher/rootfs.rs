//! What the launcher and what a sandbox see as files: two mount namespaces, made once.
//!
//! ```text
//!  L, the launcher's own:  /data                         (open_tree for idmapped clones needs it mounted here)
//!  T, the template tree:   /usr bin sbin lib* ro, /etc synthetic, /dev six nodes, mount points; no data directory
//! ```
//! A sandbox is cloned while the launcher stands in T, so its mount table starts as a copy of T and never holds the
//! data directory. T keeps a whole proc mount at /proc: without one the kernel refuses a user namespace its own proc.
//! Source: mount_namespaces(7), open_tree(2) (Linux 5.2), pivot_root(2).

use super::etc;
use super::fault::{At, Fault};
use super::small_file;
use crate::sys::clone::unshare;
use crate::sys::mount::{Scope, restrict};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

/// The two mount namespaces and the data directory as seen in the first.
pub(crate) struct Views {
    pub(crate) own: OwnedFd,
    pub(crate) template: OwnedFd,
    pub(crate) data: OwnedFd,
}

const DIRECTORIES: &[&str] = &[
    "usr",
    "etc",
    "dev",
    "dev/pts",
    "dev/shm",
    "proc",
    "tmp",
    "workspace",
    "home",
    "home/user",
    "root",
    "run",
    "var",
    "var/tmp",
    "var/empty",
];
const LINKS: &[(&str, &str)] = &[
    ("pts/ptmx", "dev/ptmx"),
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/run", "var/run"),
];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
const LIBRARIES: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Places that sandboxes see: a data directory beneath one would be seen too.
const SHOWN: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

const READ_ONLY: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_RDONLY.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(MountAttrFlags::MOUNT_ATTR_NODEV);
const PRIVATE_TREE: MountPropagationFlags = MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC);

/// Builds both namespaces and leaves the process in L. Afterwards no host path can be resolved any more.
pub(crate) fn build(data_dir: &str, proc: BorrowedFd<'_>) -> Result<Views, Fault> {
    let real = std::fs::canonicalize(data_dir).map_err(|error| Fault::refused("data_dir", error.to_string()))?;
    if SHOWN.iter().any(|shown| real.starts_with(shown)) || real == Path::new("/") {
        return Err(Fault::refused("data_dir", format!("{} is shown to sandboxes: choose another", real.display())));
    }
    unshare(UnshareFlags::NEWNS).at("mount_namespace")?;
    mount_change("/", PRIVATE_TREE).at("mount_private")?;
    let sources = Sources::open(&real)?;
    let own = current_namespace(proc).at("mount_namespace")?;

    unshare(UnshareFlags::NEWNS).at("mount_namespace")?;
    mount_empty(&real, c"mode=0755,size=64m,nr_inodes=32k").at("template_root")?;
    chdir(&real).at("template_root")?;
    sources.place_template(proc)?;
    enter_current_directory_as_root().at("template_root")?;
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("template_root")?;
    restrict(root.as_fd(), READ_ONLY, Scope::One).at("template_root")?;
    let template = current_namespace(proc).at("mount_namespace")?;

    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).at("mount_namespace")?;
    mount_empty(&real, c"mode=0755,size=64k").at("launcher_root")?;
    chdir(&real).at("launcher_root")?;
    std::fs::create_dir("data").map_err(|error| Fault::refused("launcher_root", error.to_string()))?;
    attach(sources.data.as_fd(), "data").at("launcher_root")?;
    enter_current_directory_as_root().at("launcher_root")?;
    let data = small_file::place("/data").at("launcher_root")?;
    Ok(Views { own, template, data })
}

/// Detached clones of everything that is shown, taken before anything is mounted over it.
struct Sources {
    usr: OwnedFd,
    libraries: Vec<(&'static str, Library)>,
    devices: Vec<(&'static str, OwnedFd)>,
    host_proc: Result<OwnedFd, Errno>,
    data: OwnedFd,
}

/// A top directory of programs: merged into /usr by a symlink, or a real directory.
enum Library {
    Link(std::path::PathBuf),
    Tree(OwnedFd),
}

impl Sources {
    fn open(data_dir: &Path) -> Result<Self, Fault> {
        let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let whole = tree | OpenTreeFlags::AT_RECURSIVE;
        let usr = open_tree(CWD, "/usr", whole).at("open_usr")?;
        restrict(usr.as_fd(), READ_ONLY, Scope::Tree).at("restrict_usr")?;
        let mut libraries = Vec::new();
        for &name in LIBRARIES {
            let path = Path::new("/").join(name);
            if let Ok(target) = std::fs::read_link(&path) {
                libraries.push((name, Library::Link(target)));
            } else if path.is_dir() {
                let clone = open_tree(CWD, &path, whole).at("open_libraries")?;
                restrict(clone.as_fd(), READ_ONLY, Scope::Tree).at("restrict_libraries")?;
                libraries.push((name, Library::Tree(clone)));
            }
        }
        let mut devices = Vec::new();
        for &name in DEVICES {
            let clone = open_tree(CWD, Path::new("/dev").join(name), tree).at("open_devices")?;
            // Without nodev: that is what makes it a device. Read-only keeps its mode and owner, not its use.
            let flags = READ_ONLY.difference(MountAttrFlags::MOUNT_ATTR_NODEV) | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            restrict(clone.as_fd(), flags, Scope::One).at("restrict_devices")?;
            devices.push((name, clone));
        }
        let host_proc = open_tree(CWD, "/proc", whole);
        // Where mounts of another user namespace lie beneath it, the kernel gives the whole tree or nothing.
        let data = open_tree(CWD, data_dir, tree).or_else(|_| open_tree(CWD, data_dir, whole)).at("open_data")?;
        let unarmed = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        restrict(data.as_fd(), unarmed, Scope::Tree).at("restrict_data")?;
        Ok(Sources { usr, libraries, devices, host_proc, data })
    }

    /// Fills the current directory, an empty tmpfs, with the tree.
    fn place_template(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        let io = |error: std::io::Error| Fault {
            step: "template_tree",
            errno: error.raw_os_error().unwrap_or(0),
            message: error.to_string(),
        };
        for name in DIRECTORIES {
            std::fs::create_dir(name).map_err(io)?;
        }
        for (target, name) in LINKS {
            symlink(target, name).map_err(io)?;
        }
        etc::write(Path::new("etc"), Path::new("/etc")).map_err(io)?;
        attach(self.usr.as_fd(), "usr").at("attach_usr")?;
        for (name, library) in &self.libraries {
            match library {
                Library::Link(target) => symlink(target, name).map_err(io)?,
                Library::Tree(clone) => {
                    std::fs::create_dir(name).map_err(io)?;
                    attach(clone.as_fd(), name).at("attach_libraries")?;
                }
            }
        }
        for (name, clone) in &self.devices {
            let path = format!("dev/{name}");
            std::fs::write(&path, "").map_err(io)?;
            attach(clone.as_fd(), &path).at("attach_devices")?;
        }
        self.place_proc(proc).at("attach_proc")
    }

    /// A new proc mount where we may make one, because Docker's masks lie over the host's; else the host's.
    fn place_proc(&self, _proc: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", "proc", "proc", flags, None::<&std::ffi::CStr>).or_else(|errno| match &self.host_proc {
            Ok(clone) => attach(clone.as_fd(), "proc"),
            Err(_) => Err(errno),
        })
    }
}

fn mount_empty(target: &Path, options: &std::ffi::CStr) -> Result<(), Errno> {
    mount("workspace", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
}

/// Attaches a detached mount at `path`.
fn attach(detached: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    move_mount(detached, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes the mount that we stand in the root, and lets the old root go.
fn enter_current_directory_as_root() -> Result<(), Errno> {
    pivot_root(".", ".")?;
    // The old root now lies over the new one; taking it away shows the new one.
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

fn current_namespace(proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(proc, "self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
