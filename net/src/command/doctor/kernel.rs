//! Does the kernel have the calls that the server uses for every request?

use super::facts::{Facts, Outcome};
use super::report::Row;

const IO_URING: &str = "io_uring";

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    vec![
        io_uring(facts),
        call("openat2", facts.openat2, "paths of a sandbox are resolved beneath its root", "5.6"),
        call("pidfd", facts.pidfd, "processes are named without a race", "5.3"),
    ]
}

fn io_uring(facts: &Facts) -> Row {
    let Outcome::Fails(errno) = facts.io_uring else { return Row::ok(IO_URING, "io_uring_setup works") };
    let slower = "the server falls back to epoll";
    match (errno, facts.sysctl("kernel.io_uring_disabled")) {
        (libc::EPERM, Some(2)) => Row::limited(IO_URING, format!("kernel.io_uring_disabled = 2; {slower}"))
            .mend(facts.set_sysctl("kernel.io_uring_disabled", 0)),
        (libc::EPERM, Some(1)) if facts.uid != 0 => {
            Row::limited(IO_URING, format!("kernel.io_uring_disabled = 1 allows it to root alone; {slower}"))
                .mend(facts.set_sysctl("kernel.io_uring_disabled", 0))
        }
        (libc::EPERM, _) if facts.seccomp_filter => {
            Row::limited(IO_URING, format!("EPERM from a seccomp filter, as a container's; {slower}"))
                .mend("docker run --security-opt seccomp=unconfined …")
        }
        (libc::ENOSYS, _) => Row::limited(IO_URING, format!("not in this kernel (needs 5.1); {slower}")),
        (errno, _) => Row::limited(IO_URING, format!("io_uring_setup: {}; {slower}", name_of(errno))),
    }
}

fn call(name: &'static str, outcome: Outcome, use_: &str, since: &str) -> Row {
    match outcome {
        Outcome::Fails(errno) => Row::missing(
            name,
            format!("{}: {use_}, which needs Linux {since} and no filter against it", name_of(errno)),
        )
        .mend("use a newer kernel; in a container: docker run --security-opt seccomp=unconfined …"),
        _ => Row::ok(name, use_),
    }
}

/// An errno by its name where a reader may meet it in a manual page.
pub(super) fn name_of(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENOENT => "ENOENT".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::ENOSPC => "ENOSPC".into(),
        libc::ENOSYS => "ENOSYS".into(),
        libc::EROFS => "EROFS".into(),
        libc::EUSERS => "EUSERS".into(),
        libc::ENODEV => "ENODEV".into(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::report::Level;
    use super::*;

    #[test]
    fn each_refusal_of_io_uring_has_its_remedy() {
        let mut facts = good();
        assert_eq!(io_uring(&facts).level, Level::Ok);
        facts.io_uring = Outcome::Fails(libc::EPERM);
        facts.seccomp_filter = true;
        facts.sysctls.insert("kernel.io_uring_disabled", 0);
        assert!(io_uring(&facts).mend.unwrap().contains("seccomp=unconfined"));
        facts.sysctls.insert("kernel.io_uring_disabled", 2);
        assert!(io_uring(&facts).mend.unwrap().contains("kernel.io_uring_disabled=0"));
        facts.io_uring = Outcome::Fails(libc::ENOSYS);
        assert!(io_uring(&facts).why.contains("5.1"));
    }

    #[test]
    fn an_absent_call_is_missing() {
        let mut facts = good();
        facts.openat2 = Outcome::Fails(libc::ENOSYS);
        assert_eq!(rows(&facts)[1].level, Level::Missing);
    }
}
