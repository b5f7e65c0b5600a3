//! Installing Autobahn|Testsuite into a folder of the build, running it, and reading its verdicts.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The last interpreter that the suite runs on, and the last packages for it.
const PYTHON: &str = "python2.7";
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Makes environments for that interpreter; newer ones do not.
const VIRTUALENV: &str = "virtualenv==20.15.1";

/// What the suite says of one case.
#[derive(Debug)]
pub struct Verdict {
    pub case: String,
    /// Of the messages.
    pub behavior: String,
    /// Of the closing.
    pub close: String,
}

/// The suite, installed.
pub struct Judge {
    folder: PathBuf,
}

impl Judge {
    /// Installs it, or says why it cannot be. Once for each version of the requirements.
    pub fn install() -> Result<Judge, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
        let (environment, done) = (folder.join("environment"), folder.join("installed"));
        if std::fs::read_to_string(&done).is_ok_and(|text| text == REQUIREMENTS) {
            return Ok(Judge { folder });
        }
        let version = interpreter()?;
        let python = || {
            let mut command = Command::new(PYTHON);
            command.envs(version.iter().map(|version| ("PYENV_VERSION", version)));
            command
        };
        let _ = std::fs::remove_dir_all(&folder);
        let tool = folder.join("virtualenv");
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        run(python().args(["-m", "pip", "install", "-q", VIRTUALENV, "--target"]).arg(&tool))?;
        run(python().env("PYTHONPATH", &tool).args(["-m", "virtualenv", "-q"]).arg(&environment))?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENTS).map_err(|e| e.to_string())?;
        run(Command::new(environment.join("bin/pip")).args(["install", "-q", "-r"]).arg(&requirements))?;
        std::fs::write(&done, REQUIREMENTS).map_err(|e| e.to_string())?;
        Ok(Judge { folder })
    }

    /// Has the suite talk to the echo at `url`.
    pub fn judge(&self, url: &str, cases: &[&str], without: &[&str]) -> Vec<Verdict> {
        let reports = self.folder.join(format!("reports-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&reports);
        let spec = json!({
            "outdir": reports,
            "servers": [{"agent": "ours", "url": url}],
            "cases": cases,
            "exclude-cases": without,
            "exclude-agent-cases": {},
        });
        let path = self.folder.join(format!("spec-{}.json", std::process::id()));
        std::fs::write(&path, spec.to_string()).unwrap();
        let program = self.folder.join("environment/bin/wstest");
        run(Command::new(program).args(["-m", "fuzzingclient", "-s"]).arg(&path).current_dir(&self.folder)).unwrap();
        let index: Value = serde_json::from_slice(&std::fs::read(reports.join("index.json")).unwrap()).unwrap();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let verdicts = index["ours"].as_object().unwrap().iter().map(|(case, told)| Verdict {
            case: case.clone(),
            behavior: word(&told["behavior"]),
            close: word(&told["behaviorClose"]),
        });
        verdicts.collect()
    }
}

/// Which of an interpreter manager's versions to ask for; `None` where the interpreter is simply there.
fn interpreter() -> Result<Option<String>, String> {
    let is_there = |version: Option<&str>| {
        let mut command = Command::new(PYTHON);
        command.envs(version.map(|version| ("PYENV_VERSION", version))).arg("--version");
        run(&mut command).is_ok()
    };
    if is_there(None) {
        return Ok(None);
    }
    let managed = Command::new("pyenv").args(["versions", "--bare"]).output();
    let managed = managed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = managed.lines().map(str::trim).find(|version| version.starts_with("2.7"));
    match version.filter(|version| is_there(Some(version))) {
        Some(version) => Ok(Some(version.to_owned())),
        None => Err(format!("no {PYTHON}, the only one that Autobahn|Testsuite runs on")),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{command:?}: {}: {last}", output.status))
}
