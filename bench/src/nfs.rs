//! How fast is a sandbox's tree for a kernel that mounts it, beside another NFS server?
//!
//! The floor is NFS-Ganesha, Debian's package, on a directory beside the measured server's. Both are mounted by one real
//! kernel that runs as a process, and take turns row by row: `tests/kit/nfs` says how. The guest has one core of its own
//! at most and its round trips are long, so the rows say what a client notices, not what a server could do.

use crate::Bench;
use crate::api::{Herd, nfs_url};
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::spread::Samples;
use crate::stop;
use crate::sys::signal;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a server is told so that the guest may mount its exports: the guest's addresses are of 10.213.0.0/16.
pub(crate) const SERVED: [(&str, &str); 3] = [
    ("WORKSPACE_NFS_MODE", "embedded"),
    ("WORKSPACE_NFS_PORT", "0"),
    ("WORKSPACE_NFS_ALLOW", "127.0.0.0/8,::1/128,10.213.0.0/16"),
];

const FLOOR: &str = "Ganesha";
/// How long a round may take.
const ROUND_S_MAX: u64 = 900;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const PRINTED_BYTES_MAX: u64 = 1 << 20;

fn kit(script: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/kit/nfs")).join(script)
}

/// Names all that is missing here before anything is started.
pub(crate) fn possible() -> Result<(), Failure> {
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    let wants = [
        ("to run as root", rustix::process::geteuid().is_root()),
        ("an x86_64 machine", cfg!(target_arch = "x86_64")),
        ("the repository's tests/kit/nfs", kit("measure").is_file()),
        ("/dev/net/tun", Path::new("/dev/net/tun").exists()),
        ("apt-get and dpkg (Debian 12)", has("apt-get") && has("dpkg")),
        ("bash", has("bash")),
        ("python3", has("python3")),
        ("git", has("git")),
        ("ip (iproute2)", has("ip")),
    ];
    let missing: Vec<&str> = wants.iter().filter(|(_, is)| !is).map(|(what, _)| *what).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("a kernel to mount with and a server to compare with need {}", missing.join(", "))))
}

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    let url = nfs_url(&mut connection, &id)?;
    let (port, export) = place(&url)?;
    let reference = Reference::up(&bench.options.dir)?;
    let options = bench.options;
    let (rounds, mib, seconds) = (options.rounds, options.mib, options.rounds * ROUND_S_MAX);
    let mut measure = Command::new(kit("measure"));
    measure
        .args(["--values", "--rounds", &rounds.to_string(), "--size", &mib.to_string()])
        .args(["--timeout", &seconds.to_string(), "--versus", &reference.port, &reference.export])
        .args([port, export])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    signal::end_with_us(&mut measure);
    let child = measure.spawn().map_err(|error| Failure::io("start tests/kit/nfs/measure", &error))?;
    let printed = finish(child)?;
    drop(reference);
    // The server has closed a connection that rested for so long.
    herd.delete(&mut herd.connect()?, &id)?;
    rows(&printed)
}

/// Of `nfs://HOST:PORT/ID`.
fn place(url: &str) -> Result<(&str, &str), Failure> {
    let parts = url.strip_prefix("nfs://").and_then(|rest| {
        let slash = rest.find('/')?;
        let (host, port) = rest[..slash].rsplit_once(':')?;
        Some((host, port, &rest[slash..]))
    });
    match parts {
        Some(("127.0.0.1" | "localhost", port, export)) => Ok((port, export)),
        _ => Err(Failure::new(format!(
            "nfs_url is {url}: only a server of this machine's 127.0.0.1 can be mounted here"
        ))),
    }
}

/// The other server, for as long as this lives.
struct Reference {
    port: String,
    export: String,
    directory: PathBuf,
}

impl Reference {
    fn up(beside: &Path) -> Result<Reference, Failure> {
        let failed = |error: std::io::Error| Failure::io("start tests/kit/nfs/reference", &error);
        if Command::new(kit("reference")).arg("status").output().map_err(failed)?.status.success() {
            return Err(Failure::new("a reference server runs already; end it: tests/kit/nfs/reference down"));
        }
        let directory = beside.join(format!("workspace-bench-nfs-{}", std::process::id()));
        std::fs::create_dir(&directory)
            .map_err(|error| Failure::io(format!("make {}", directory.display()), &error))?;
        // Its directory goes with it from here on.
        let mut reference = Reference { port: String::new(), export: String::new(), directory };
        let up =
            Command::new(kit("reference")).args(["up", "--dir"]).arg(&reference.directory).output().map_err(failed)?;
        let address = String::from_utf8_lossy(&up.stdout).trim().to_owned();
        let Some((port, export)) = address.split_once(' ').filter(|_| up.status.success()) else {
            return Err(Failure::new(String::from_utf8_lossy(&up.stderr).trim().to_owned()));
        };
        (reference.port, reference.export) = (port.to_owned(), export.to_owned());
        Ok(reference)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // What it could not end is told by the next `up`.
        let _ = Command::new(kit("reference")).arg("down").status();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What a run printed; ended early where somebody asks for it.
fn finish(mut child: Child) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::io("tests/kit/nfs/measure", &error);
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.map(|output| output.take(PRINTED_BYTES_MAX).read_to_string(&mut text)).transpose().map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if stop::requested()
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // Not reaped yet, so the id is still its own; it ends its guest.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            break child.wait().map_err(failed)?;
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let text = reader.join().unwrap_or_else(|_| Ok(String::new())).map_err(failed)?;
    if !status.success() {
        return Err(Failure::new(format!("tests/kit/nfs/measure: {status}; what it said is above")));
    }
    Ok(text)
}

/// Reads what `measure --values` prints for programs.
fn rows(printed: &str) -> Result<Vec<Row>, Failure> {
    let rows: Vec<Row> = printed.lines().filter_map(|line| row(line.strip_prefix("value\t")?)).collect();
    if rows.is_empty() { Err(Failure::new(format!("measure printed no values:\n{printed}"))) } else { Ok(rows) }
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split('\t');
    let (name, unit, better) = (fields.next()?, fields.next()?, fields.next()?);
    let mut samples = || {
        let mut samples = Samples::default();
        let values = fields.next().unwrap_or_default().split(',').filter_map(|value| value.parse().ok());
        values.for_each(|value| samples.push(value));
        samples
    };
    let (ours, floor) = (samples(), samples());
    let unit = ["/s", "MB/s", "ms", "s"].into_iter().find(|known| *known == unit).unwrap_or("");
    let goal = if better == "higher" { Goal::RatioAtLeast(1.0) } else { Goal::RatioAtMost(1.0) };
    Some(Row::new(format!("NFS: {name}"), unit, &ours).beside(FLOOR, &ours, &floor).goal(goal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_port_and_an_export() {
        assert_eq!(place("nfs://127.0.0.1:2049/abc").unwrap(), ("2049", "/abc"));
        assert!(place("nfs://[::1]:2049/abc").is_err() && place("nfs://10.0.0.1:1/a").is_err() && place("").is_err());
    }

    #[test]
    fn a_rate_is_to_be_higher_and_a_time_lower() {
        let printed = "# head\nvalue\tNULL calls\t/s\thigher\t10,30,20\t10,10,10\nvalue\tgit\ts\tlower\t3\t2\n";
        let text = crate::compare::table(&rows(printed).unwrap(), "machine");
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
        assert!(line("NULL").contains("| met") && line("NULL").contains("2.00"), "{text}");
        assert!(line("git").contains("missed: 1.50 ×"), "{text}");
        assert!(rows("no guest\n").is_err());
    }

    /// Lines that are no values are left out, and none is trusted.
    fn any_lines(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        if let Ok(rows) = rows(&text) {
            assert!(rows.len() <= text.lines().count());
        }
    }

    #[test]
    fn any_lines_are_rows_or_refused() {
        crate::fuzz::run(any_lines, &[b"value\ta\t/s\thigher\t1,2\t3,4\n", b"value\ta\n\xff\tb"]);
    }
}
