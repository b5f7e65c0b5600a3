//! Weak setups: the same program with one wall missing. There it must succeed, or the test proves nothing.

use crate::kit::{is_root, needs_root};
use crate::program::{Lines, Program, compiler_args, nonce};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A plain host user of the tests' own.
pub(crate) const PLAIN_UID: u32 = 12345;

/// Which wall is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weak {
    /// All: a plain user of the host.
    Plain,
    /// A user namespace: real root in new mount and pid namespaces, under a shell of the same id as PID 1.
    Root,
    /// Other ids: the namespace's 0 is the host's 0.
    MapZero,
    /// The filter: bubblewrap as a plain user with everything unshared, `/` read-only; and these options after it.
    Bubblewrap(&'static [&'static str]),
}

/// A program on the host with a directory of its own, both removed on drop.
pub(crate) struct Control {
    pub(crate) dir: PathBuf,
    program: Program,
}

impl Control {
    /// Compiles it; the directory is open to everybody.
    #[track_caller]
    pub(crate) fn of(program: Program) -> Control {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Not /tmp, where a set-uid program gives no rights if it is a file system of its own.
        let dir = Path::new("/var/tmp").join(format!("workspace-weak-{}-{number}", std::process::id()));
        fs::create_dir(&dir).expect("make the control's directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        let control = Control { dir, program };
        let out = control.path("attack");
        assert!(
            compile(program, &out, &["-static"]) || compile(program, &out, &[]),
            "{} does not compile",
            program.name
        );
        control
    }

    /// A name in its directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Runs it; `None`, said aloud, where the setup can't be made here.
    #[track_caller]
    pub(crate) fn run(&self, weak: Weak, args: &[&str]) -> Option<Lines> {
        if needs_root() {
            return None;
        }
        let nonce = nonce();
        let Some(mut command) = self.command(weak) else {
            println!("skipped: the control of {} needs bubblewrap", self.program.name);
            return None;
        };
        command.arg(&nonce).args(args).current_dir(&self.dir).stdin(Stdio::null());
        let output = command.output().expect("run the control");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = Lines::parse(self.program, &nonce, &text);
        if lines.find("end").is_none() {
            let why = String::from_utf8_lossy(&output.stderr);
            println!("skipped: the weak setup {weak:?} can't be made here: {}", why.trim());
            return None;
        }
        Some(lines)
    }

    fn command(&self, weak: Weak) -> Option<Command> {
        let program = self.path("attack");
        let plain = [
            "setpriv".to_owned(),
            format!("--reuid={PLAIN_UID}"),
            format!("--regid={PLAIN_UID}"),
            "--clear-groups".to_owned(),
        ];
        // Not the last command of its shell, so that the shell stays PID 1.
        let below_a_shell = ["sh", "-c", "\"$@\"; exit $?", "sh"];
        let mut words: Vec<String> = Vec::new();
        match weak {
            Weak::Plain => words.extend(plain),
            Weak::Root => {
                words.extend(["unshare", "--mount", "--pid", "--fork", "--mount-proc"].map(str::to_owned));
                words.extend(below_a_shell.map(str::to_owned));
            }
            Weak::MapZero => {
                let map = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"];
                words.extend(map.map(str::to_owned));
                words.extend(below_a_shell.map(str::to_owned));
            }
            Weak::Bubblewrap(options) => {
                if !Path::new("/usr/bin/bwrap").exists() {
                    return None;
                }
                words.extend(plain);
                let dir = self.dir.to_string_lossy().into_owned();
                let fixed = [
                    "bwrap",
                    "--unshare-all",
                    "--ro-bind",
                    "/",
                    "/",
                    "--dev",
                    "/dev",
                    "--proc",
                    "/proc",
                    "--tmpfs",
                    "/tmp",
                ];
                words.extend(fixed.map(str::to_owned));
                words.extend(["--bind".to_owned(), dir.clone(), dir, "--die-with-parent".to_owned()]);
                words.extend(options.iter().map(|option| (*option).to_owned()));
                words.push("--".to_owned());
            }
        }
        words.push(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Some(command)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Says what a control must show, or why the test proves less here.
#[track_caller]
pub(crate) fn must_succeed(lines: Option<Lines>, feature: &str, succeeded: impl FnOnce(&Lines) -> bool) {
    if let Some(lines) = lines
        && is_root()
        && !succeeded(&lines)
    {
        println!("skipped: this machine lacks {feature}");
        println!("{lines:?}");
    }
}

fn compile(program: Program, out: &str, more: &[&str]) -> bool {
    let mut compiler = Command::new("cc");
    compiler.args(more).args(compiler_args(out)).stdin(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = compiler.spawn() else { return false };
    let mut stdin = child.stdin.take().expect("stdin");
    // A compiler that has given up reads no more; its status says so.
    let _ = stdin.write_all(program.source.as_bytes());
    drop(stdin);
    child.wait().is_ok_and(|status| status.success())
}
