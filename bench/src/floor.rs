//! What is each answer compared with: the same program started by bare means, in the same run?
//!
//! `spawn`: posix_spawn + waitpid. `bwrap`: the same namespaces and as few mounts as `true` needs, which is less than our sandboxes have.
//! `unshare`: namespaces alone. The HTTP floor is in `floor_http`.

use crate::crowd;
use crate::failure::Failure;
use crate::spread::Samples;
use crate::sys::spawn::Program;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A floor that can be measured here, or why it cannot.
pub(crate) struct Floor {
    /// As in the table.
    pub(crate) name: &'static str,
    program: Result<Program, String>,
}

impl Floor {
    /// The very program that is run in the sandboxes, by itself.
    pub(crate) fn spawn() -> Floor {
        Floor { name: "posix_spawn + waitpid", program: prepared("true", &[]) }
    }

    /// `bwrap` around it.
    pub(crate) fn bwrap() -> Floor {
        Floor::bwrap_around("bwrap --unshare-all", &["true"])
    }

    /// `bwrap` around something that stays.
    pub(crate) fn bwrap_idle() -> Floor {
        Floor::bwrap_around("bwrap … sleep", &["sleep", "3600"])
    }

    fn bwrap_around(name: &'static str, command: &[&str]) -> Floor {
        let mut arguments = vec!["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"];
        for (link, place) in [("usr/bin", "/bin"), ("usr/sbin", "/sbin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64")]
        {
            match std::fs::symlink_metadata(place) {
                Ok(found) if found.is_symlink() => arguments.extend(["--symlink", link, place]),
                Ok(_) => arguments.extend(["--ro-bind", place, place]),
                Err(_) => {}
            }
        }
        arguments.push("--");
        arguments.extend(command);
        Floor { name, program: prepared("bwrap", &arguments) }
    }

    /// `unshare` around it; an ordinary user needs a user namespace too.
    pub(crate) fn unshare() -> Floor {
        let flags = if rustix::process::geteuid().is_root() { "-mpinuf" } else { "-Urmpinuf" };
        Floor { name: "unshare -mpinuf", program: prepared("unshare", &[flags, "true"]) }
    }

    /// Tries it once; a floor that does not run here is not measured, and `note` says why.
    pub(crate) fn probed(mut self) -> Floor {
        if let Ok(program) = &self.program
            && let Err(error) = program.run()
        {
            self.program = Err(format!("{} does not run here: {error}", self.name));
        }
        self
    }

    /// Why it is not measured.
    pub(crate) fn note(&self) -> Option<String> {
        self.program.as_ref().err().cloned()
    }

    /// Measures it once, in milliseconds; nothing where it does not run.
    pub(crate) fn once(&self, into: &mut Samples) -> Result<(), Failure> {
        if let Ok(program) = &self.program {
            let begin = Instant::now();
            program.run().map_err(|error| Failure::io(self.name, &error))?;
            into.push_ms(begin.elapsed());
        }
        Ok(())
    }

    /// Measures it `each` times on `at_once` threads; how long that took in all.
    pub(crate) fn at_once(&self, at_once: u64, each: u64, into: &mut Samples) -> Result<Duration, Failure> {
        if self.program.is_err() {
            return Ok(Duration::ZERO);
        }
        crowd::begin_together(vec![(); at_once as usize], into, |(), samples| {
            for _ in 0..each {
                self.once(samples)?;
            }
            Ok(())
        })
    }

    /// Starts one that stays; the caller ends it.
    pub(crate) fn start(&self) -> Option<std::io::Result<i32>> {
        self.program.as_ref().ok().map(Program::start)
    }
}

/// For the machine's line.
pub(crate) fn bwrap_version() -> String {
    let output = Command::new("bwrap").arg("--version").stderr(Stdio::null()).output();
    let text = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("no bwrap".to_owned(), |text| text.trim().to_owned())
}

fn prepared(name: &str, arguments: &[&str]) -> Result<Program, String> {
    let hint = if name == "bwrap" { " (apt-get install bubblewrap)" } else { "" };
    let path = find(name).ok_or_else(|| format!("{name} is not installed{hint}"))?;
    Program::new(&path, arguments).ok_or_else(|| format!("{name}: a NUL in its path"))
}

fn find(name: &str) -> Option<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/local/bin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file())
}
