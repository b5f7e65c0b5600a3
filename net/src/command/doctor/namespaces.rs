//! Can sandboxes have their namespaces and mounts, and if not, who forbids it?

use super::facts::{Facts, Outcome};
use super::ids::IdPlan;
use super::kernel::name_of;
use super::report::Row;

pub(super) const USER: &str = "user namespaces";
pub(super) const PROC: &str = "proc in a sandbox";
/// What a container needs to hold sandboxes of its own.
const DOCKER_RUN: &str = "docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt \
                          apparmor=unconfined --security-opt systempaths=unconfined …";

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    vec![user(facts), proc(facts), overlay(facts), idmap(facts)]
}

/// The trial's first failure, told by errno and by what the settings say.
fn user(facts: &Facts) -> Row {
    let Some((step, errno)) = facts.steps.first_failure() else {
        return match facts.steps.outcome("tmpfs") {
            Outcome::Works => Row::ok(USER, "all namespaces of a sandbox were entered"),
            _ => Row::missing(USER, "the trial ended without an answer").mend("run workspace-server doctor again"),
        };
    };
    let row = |why: &str| Row::missing(USER, format!("{why} ({step}: {})", name_of(errno)));
    if facts.sysctl("user.max_user_namespaces") == Some(0) {
        return row("user.max_user_namespaces is 0").mend(facts.set_sysctl("user.max_user_namespaces", 65_536));
    }
    if facts.uid != 0 && facts.sysctl("kernel.unprivileged_userns_clone") == Some(0) {
        return row("kernel.unprivileged_userns_clone is 0: only root may")
            .mend(facts.set_sysctl("kernel.unprivileged_userns_clone", 1));
    }
    // Ubuntu lets the namespace be made and then takes its capabilities away, so a later step fails.
    if facts.uid != 0 && facts.sysctl("kernel.apparmor_restrict_unprivileged_userns") == Some(1) && step != "unshare" {
        return row("AppArmor denies capabilities in user namespaces of ordinary programs (Ubuntu 23.10 and later)")
            .mend(format!("run as root, or: {}", facts.set_sysctl("kernel.apparmor_restrict_unprivileged_userns", 0)));
    }
    match errno {
        libc::ENOSPC => {
            row("a limit on namespaces is reached").mend(facts.set_sysctl("user.max_user_namespaces", 65_536))
        }
        libc::EUSERS => row("user namespaces are nested too deep").mend("start the server further outside"),
        libc::EINVAL | libc::ENOSYS if step == "unshare" => {
            row("this kernel has none").mend("use a kernel with CONFIG_USER_NS=y")
        }
        libc::EPERM if facts.seccomp_filter || facts.container.is_some() => {
            row("a container's seccomp filter or missing capability forbids them").mend(DOCKER_RUN)
        }
        libc::EPERM if step == "unshare" => {
            row("forbidden: by a chroot, or by a security module").mend("start outside of the chroot, or as root")
        }
        _ if step == "map" => row("the id map was refused").mend("check /etc/subuid, /etc/subgid and newuidmap"),
        _ => row("refused").mend("run as root, or in a container: --privileged"),
    }
}

/// The kernel gives a fresh proc only where the one outside is not covered by masks.
fn proc(facts: &Facts) -> Row {
    match facts.steps.outcome("proc") {
        Outcome::Works => Row::ok(PROC, "a fresh /proc can be mounted"),
        Outcome::NotTried => Row::missing(PROC, "not tried: see user namespaces"),
        Outcome::Fails(libc::EPERM) => {
            Row::missing(PROC, "EPERM: parts of this machine's /proc are masked, as Docker does it")
                .mend("docker run --security-opt systempaths=unconfined …")
        }
        Outcome::Fails(errno) => Row::missing(PROC, name_of(errno)).mend("run as root outside of a container"),
    }
}

fn overlay(facts: &Facts) -> Row {
    const NAME: &str = "overlay in a sandbox";
    match facts.steps.outcome("overlay") {
        Outcome::Works => Row::ok(NAME, "works; image templates will use it"),
        Outcome::NotTried => Row::limited(NAME, "not tried: see user namespaces"),
        Outcome::Fails(errno) => {
            let row = Row::limited(NAME, format!("{}: the built-in template needs none", name_of(errno)));
            if facts.kernel < (5, 11) { row.mend("use Linux 5.11 or newer") } else { row }
        }
    }
}

fn idmap(facts: &Facts) -> Row {
    const NAME: &str = "idmapped mounts";
    let own = "files of a sandbox keep its own ids, so a workspace cannot move to another sandbox";
    match facts.steps.outcome("idmap") {
        Outcome::Works => Row::ok(NAME, format!("work on {} of {}", facts.data.kind, facts.data.folder.display())),
        Outcome::NotTried if !matches!(facts.plan, IdPlan::Root) => {
            Row::limited(NAME, format!("only real root may; {own}")).mend("run as root: sudo workspace-server")
        }
        Outcome::NotTried => Row::limited(NAME, "not tried: see user namespaces"),
        Outcome::Fails(libc::ENOSYS) => Row::limited(NAME, format!("not in this kernel (needs 5.12); {own}")),
        Outcome::Fails(errno) => Row::limited(NAME, format!("{} on {}; {own}", name_of(errno), facts.data.kind))
            .mend("set WORKSPACE_DATA_DIR to a folder on ext4, xfs or btrfs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::report::Level;
    use super::super::trial::Steps;
    use super::*;

    fn ordinary(steps: &str) -> Facts {
        let mut facts = good();
        facts.uid = 1000;
        facts.plan = IdPlan::Single { uid: 1000, gid: 1000 };
        facts.steps = Steps::parse(steps);
        facts
    }

    #[test]
    fn a_good_machine_has_no_complaint() {
        assert!(rows(&good()).iter().all(|r| r.level == Level::Ok), "{:?}", rows(&good()));
    }

    #[test]
    fn the_cause_is_named_by_errno_and_setting() {
        let mut facts = ordinary("unshare 28\n");
        facts.sysctls.insert("user.max_user_namespaces", 0);
        assert!(user(&facts).mend.unwrap().contains("user.max_user_namespaces=65536"));

        let mut facts = ordinary("unshare 1\n");
        facts.sysctls.insert("kernel.unprivileged_userns_clone", 0);
        assert!(user(&facts).mend.unwrap().contains("kernel.unprivileged_userns_clone=1"));

        for ubuntu in ["unshare 0\nmap 13\n", "unshare 0\nmap 0\nids 0\nnamespaces 1\n"] {
            let mut facts = ordinary(ubuntu);
            facts.sysctls.insert("kernel.apparmor_restrict_unprivileged_userns", 1);
            assert!(user(&facts).why.contains("AppArmor"), "{:?}", user(&facts));
            assert!(user(&facts).mend.unwrap().contains("apparmor_restrict_unprivileged_userns=0"));
        }

        let mut facts = ordinary("unshare 1\n");
        (facts.container, facts.seccomp_filter) = (Some("Docker"), true);
        assert!(user(&facts).mend.unwrap().contains("seccomp=unconfined"));

        assert!(user(&ordinary("unshare 22\n")).mend.unwrap().contains("CONFIG_USER_NS"));
        assert_eq!(user(&ordinary("")).level, Level::Missing);
    }

    #[test]
    fn a_masked_proc_is_told_by_eperm() {
        let facts = ordinary("unshare 0\nmap 0\nids 0\nnamespaces 0\nprivate 0\ntmpfs 0\nproc 1\noverlay 0\n");
        assert_eq!(user(&facts).level, Level::Ok);
        assert_eq!(proc(&facts).level, Level::Missing);
        assert!(proc(&facts).mend.unwrap().contains("systempaths=unconfined"));
        assert!(idmap(&facts).mend.unwrap().contains("root"));
    }
}
