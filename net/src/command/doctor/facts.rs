//! What is true on this machine, before anybody judges it?

use super::cgroups::Cgroups;
use super::ids::{IdPlan, Subordinate};
use super::storage::DataMount;
use super::trial::{self, Steps};
use crate::sys::uring;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use workspace_core::config::Config;

/// Where data and engine would be, were the environment well-formed.
const DATA_DIR: &str = "data";
const DOCKER_HOST: &str = "unix:///var/run/docker.sock";
/// The settings that the rows read, by their sysctl(8) names.
const SYSCTLS: &[&str] = &[
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "fs.mount-max",
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.io_uring_disabled",
    "kernel.pid_max",
    "kernel.pty.max",
    "kernel.pty.reserve",
    "kernel.threads-max",
    "kernel.unprivileged_userns_clone",
    "user.max_cgroup_namespaces",
    "user.max_ipc_namespaces",
    "user.max_mnt_namespaces",
    "user.max_net_namespaces",
    "user.max_pid_namespaces",
    "user.max_user_namespaces",
    "user.max_uts_namespaces",
];

/// How a real try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Works,
    /// The errno.
    Fails(i32),
    /// An earlier step failed, or it is not for this user.
    NotTried,
}

/// Everything that the rows are made of.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) uid: u32,
    pub(super) user: String,
    /// Major and minor.
    pub(super) kernel: (u32, u32),
    /// A filter is already on this process: we are in somebody's container.
    pub(super) seccomp_filter: bool,
    pub(super) container: Option<&'static str>,
    /// systemd runs this machine, so it can delegate.
    pub(super) systemd: bool,
    pub(super) plan: IdPlan,
    pub(super) subordinate: Subordinate,
    pub(super) steps: Steps,
    pub(super) io_uring: Outcome,
    pub(super) openat2: Outcome,
    pub(super) pidfd: Outcome,
    pub(super) sysctls: BTreeMap<&'static str, u64>,
    pub(super) files_hard: u64,
    pub(super) processes_hard: u64,
    pub(super) memory_available_bytes: u64,
    pub(super) cgroups: Cgroups,
    pub(super) data: DataMount,
    pub(super) docker: Outcome,
    /// What the environment's check had to remark, or the line with which it stops the start.
    pub(super) configuration: Result<Vec<String>, String>,
}

impl Facts {
    pub(super) fn read(config: Result<Config, String>) -> Facts {
        let data_dir = config.as_ref().map_or_else(|_| PathBuf::from(DATA_DIR), |c| c.data_dir.clone());
        let docker_host = config.as_ref().map_or(DOCKER_HOST, |c| &c.docker_host);
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let user = user_of(&text("/etc/passwd"), uid).unwrap_or_else(|| uid.to_string());
        let status = text("/proc/self/status");
        let capabilities = status_field(&status, "CapEff").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0);
        let subordinate = Subordinate::read(&user, uid);
        let plan = IdPlan::choose(uid, gid, capabilities, &text("/proc/self/uid_map"), &subordinate);
        let mounts = text("/proc/self/mountinfo");
        let data = DataMount::of(&data_dir, &mounts);
        let kernel = kernel_version(&text("/proc/sys/kernel/osrelease"));
        Facts {
            uid,
            user,
            kernel,
            seccomp_filter: status_field(&status, "Seccomp") == Some("2"),
            container: container(),
            systemd: Path::new("/run/systemd/system").is_dir(),
            steps: trial::sandbox(&plan, &data.folder),
            plan,
            subordinate,
            io_uring: outcome(uring::try_setup()),
            openat2: outcome(openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)),
            pidfd: outcome(pidfd_open(getpid(), PidfdFlags::empty())),
            sysctls: SYSCTLS.iter().filter_map(|name| Some((*name, sysctl(name)?))).collect(),
            files_hard: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            processes_hard: getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX),
            memory_available_bytes: memory_available(&text("/proc/meminfo")).unwrap_or(0),
            cgroups: Cgroups::read(&mounts, &text("/proc/self/cgroup"), uid == 0, kernel),
            data,
            docker: docker(docker_host),
            configuration: config.map(|c| c.warnings),
        }
    }

    pub(super) fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name).copied()
    }

    /// `sudo ` where the reader of a remedy needs it.
    pub(super) fn sudo(&self) -> &'static str {
        if self.uid == 0 { "" } else { "sudo " }
    }

    /// The command that sets a sysctl now and after the next boot.
    pub(super) fn set_sysctl(&self, name: &str, value: u64) -> String {
        let sudo = self.sudo();
        format!("echo '{name}={value}' | {sudo}tee -a /etc/sysctl.d/90-workspace.conf && {sudo}sysctl --system")
    }
}

fn outcome<T>(result: Result<T, rustix::io::Errno>) -> Outcome {
    match result {
        Ok(_) => Outcome::Works,
        Err(errno) => Outcome::Fails(errno.raw_os_error()),
    }
}

/// A file's text, empty where it cannot be read: every reader has an answer for absent facts.
pub(super) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn sysctl(name: &str) -> Option<u64> {
    text(format!("/proc/sys/{}", name.replace('.', "/"))).trim().parse().ok()
}

fn container() -> Option<&'static str> {
    if Path::new("/.dockerenv").exists() {
        return Some("Docker");
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("Podman");
    }
    std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "Kubernetes")
}

fn docker(host: &str) -> Outcome {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if !path.starts_with('/') {
        return Outcome::NotTried;
    }
    match UnixStream::connect(path) {
        Ok(_) => Outcome::Works,
        Err(error) => Outcome::Fails(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// The name of a uid in the text of /etc/passwd.
fn user_of(passwd: &str, uid: u32) -> Option<String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(entry)
}

/// The value of a `Name:\tvalue` line.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// `6.18.44-x` as (6, 18).
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn memory_available(meminfo: &str) -> Option<u64> {
    let kib: u64 = status_field(meminfo, "MemAvailable")?.trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A machine on which everything is as it should be, for the tests of the rows.
#[cfg(test)]
pub(super) fn good() -> Facts {
    Facts {
        uid: 0,
        user: "root".into(),
        kernel: (6, 18),
        seccomp_filter: false,
        container: None,
        systemd: true,
        plan: IdPlan::Root,
        subordinate: Subordinate::default(),
        steps: Steps::parse("unshare 0\nmap 0\nidmap 0\nids 0\nnamespaces 0\nprivate 0\ntmpfs 0\nproc 0\noverlay 0\n"),
        io_uring: Outcome::Works,
        openat2: Outcome::Works,
        pidfd: Outcome::Works,
        sysctls: SYSCTLS
            .iter()
            .filter(|n| !n.starts_with("kernel.a"))
            .map(|n| (*n, if *n == "kernel.pty.reserve" { 1_024 } else { 4_194_304 }))
            .collect(),
        files_hard: 1_048_576,
        processes_hard: 1_000_000,
        memory_available_bytes: 64 << 30,
        cgroups: Cgroups::good(),
        data: DataMount::good(),
        docker: Outcome::Fails(libc::ENOENT),
        configuration: Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_proc_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v595\n"), (6, 18));
        assert_eq!(kernel_version("5.15"), (5, 15));
        assert_eq!(kernel_version(""), (0, 0));
        assert_eq!(memory_available("MemFree: 1 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(memory_available("MemFree: 1 kB\n"), None);
        let status = "Name:\tx\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "CapEff"), Some("00000000a80425fb"));
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/user:/bin/sh\nbroken\n";
        assert_eq!(user_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_of(passwd, 7), None);
    }

    /// What is told stands in the text, in its place.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        if let Some(name) = user_of(&text, 1000) {
            assert!(!name.contains(':') && text.lines().any(|line| line.starts_with(&format!("{name}:"))));
        }
        for name in ["CapEff", "Seccomp"] {
            let value = status_field(&text, name);
            assert!(value.is_none_or(|value| value == value.trim() && !value.contains('\n')));
            assert_eq!(status_field(&format!("{name}s:\tno\n{text}"), name), value);
        }
        let (major, minor) = kernel_version(&text);
        assert_eq!(kernel_version(&format!("{major}.{minor}.7-x")), (major, minor));
        assert!(memory_available(&text).is_none_or(|bytes| bytes % 1024 == 0));
    }

    #[test]
    fn any_text_of_proc_is_a_fact_or_none() {
        let corpus: [&[u8]; 6] = [
            b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/user:/bin/sh\nbroken\n",
            b"Name:\tx\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n",
            b"6.18.44-fc-v595\n",
            b"v6.1\n4294967296.1",
            b"MemFree: 1 kB\nMemAvailable:   2048 kB\n",
            // Overflowed.
            b"MemAvailable: 18446744073709551615 kB\n",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
