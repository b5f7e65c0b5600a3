//! What does the report look like, for people and for programs?

use serde::Serialize;
use std::fmt;

/// How far something goes on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Works with a restriction that the row names.
    Limited,
    /// Not there.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) why: String,
    /// The exact command or setting that helps; absent where nothing needs mending or nothing can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
    /// About how many sandboxes this allows at once; absent where it is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sandboxes_max: Option<u64>,
    /// Only sandboxes that do this are counted; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sandboxes_that: Option<&'static str>,
}

impl Row {
    pub(super) fn ok(name: &'static str, why: impl Into<String>) -> Row {
        Row { name, level: Level::Ok, why: why.into(), mend: None, sandboxes_max: None, sandboxes_that: None }
    }

    pub(super) fn limited(name: &'static str, why: impl Into<String>) -> Row {
        Row { level: Level::Limited, ..Row::ok(name, why) }
    }

    pub(super) fn missing(name: &'static str, why: impl Into<String>) -> Row {
        Row { level: Level::Missing, ..Row::ok(name, why) }
    }

    pub(super) fn mend(mut self, command: impl Into<String>) -> Row {
        self.mend = Some(command.into());
        self
    }
}

/// How a sandbox gets its ids here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// Real root: a block of 65,536 host ids for each sandbox.
    Root,
    /// One subordinate range, shared by all sandboxes.
    Ranged,
    /// One id: no apt, no chown inside.
    Single,
}

/// What `serve` will do on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Serve {
    /// Sandboxes can run.
    pub(super) possible: bool,
    pub(super) runtime: &'static str,
    pub(super) mode: Mode,
    /// Limits that the kernel enforces.
    pub(super) hard: Vec<&'static str>,
    /// Limits that are counted or not kept at all.
    pub(super) not_hard: Vec<&'static str>,
    /// The row that bounds the number of sandboxes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_cap: Option<Cap>,
    /// A lower bound for sandboxes that do something that others need not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_cap_of_some: Option<Cap>,
    /// Why not, when not possible: names of rows.
    pub(super) prevented_by: Vec<&'static str>,
}

/// A bound on the number of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cap {
    pub(super) sandboxes_max: u64,
    pub(super) row: &'static str,
    /// As in the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sandboxes_that: Option<&'static str>,
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", sandboxes(self.sandboxes_max, self.sandboxes_that), self.row)
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) serve: Serve,
}

impl Report {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.name.len()).max().unwrap_or_default();
        for row in &self.rows {
            let level = match row.level {
                Level::Ok => "ok",
                Level::Limited => "limited",
                Level::Missing => "missing",
            };
            write!(f, "{level:<8} {:<width$}  {}", row.name, row.why)?;
            if let Some(count) = row.sandboxes_max {
                write!(f, " [{}]", sandboxes(count, row.sandboxes_that))?;
            }
            writeln!(f)?;
            if let Some(mend) = &row.mend {
                writeln!(f, "{:<8} {:<width$}  mend: {mend}", "", "")?;
            }
        }
        writeln!(f, "\n{}", self.serve)
    }
}

impl fmt::Display for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.possible {
            return write!(f, "serve: no sandbox can run here; mend first: {}", self.prevented_by.join(", "));
        }
        let mode = match self.mode {
            Mode::Root => "root (each sandbox has its own block of host ids)",
            Mode::Ranged => "ranged (all sandboxes share one subordinate id range)",
            Mode::Single => "single (one id: no apt, no chown inside)",
        };
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        write!(f, "serve: runtime {}, mode {mode}; ", self.runtime)?;
        write!(f, "limits kept by the kernel: {}; not: {}", list(&self.hard), list(&self.not_hard))?;
        if let Some(cap) = &self.first_cap {
            write!(f, "; first cap: {cap}")?;
        }
        match &self.first_cap_of_some {
            Some(cap) => write!(f, "; before that: {cap}"),
            None => Ok(()),
        }
    }
}

fn sandboxes(count: u64, that: Option<&str>) -> String {
    let that = that.map_or(String::new(), |that| format!(" that {that}"));
    format!("about {} sandboxes{that}", grouped(count))
}

/// 9500 as "9,500".
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut files = Row::limited("files", "hard limit 1,024").mend("ulimit -n 65536");
        files.sandboxes_max = Some(1200);
        let serve = Serve {
            possible: true,
            runtime: "namespace",
            mode: Mode::Root,
            hard: vec!["memory", "pids"],
            not_hard: vec!["disk"],
            first_cap: Some(Cap { sandboxes_max: 1200, row: "files", sandboxes_that: None }),
            first_cap_of_some: Some(Cap { sandboxes_max: 128, row: "inotify", sandboxes_that: Some("watch files") }),
            prevented_by: Vec::new(),
        };
        Report { rows: vec![Row::ok("io_uring", "works"), files], serve }
    }

    #[test]
    fn people_read_aligned_rows_and_one_closing_line() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok       io_uring  works");
        assert_eq!(lines[1], "limited  files     hard limit 1,024 [about 1,200 sandboxes]");
        assert_eq!(lines[2], "                   mend: ulimit -n 65536");
        assert_eq!(lines[3], "");
        assert!(lines[4].starts_with("serve: runtime namespace, mode root"));
        assert!(lines[4].ends_with("kernel: memory, pids; not: disk; first cap: about 1,200 sandboxes by files; before that: about 128 sandboxes that watch files by inotify"));
    }

    #[test]
    fn programs_read_json() {
        let value: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(value["rows"][1]["level"], "limited");
        assert_eq!(value["rows"][1]["sandboxes_max"], 1200);
        assert!(value["rows"][0].get("mend").is_none());
        assert_eq!(value["serve"]["mode"], "root");
    }

    #[test]
    fn a_refusal_names_what_to_mend() {
        let mut report = report();
        report.serve.possible = false;
        report.serve.prevented_by = vec!["user namespaces"];
        assert!(report.to_string().ends_with("no sandbox can run here; mend first: user namespaces\n"));
    }

    #[test]
    fn digits_are_grouped() {
        let texts = [0, 999, 1000, 28_664, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "28,664", "1,000,000"]);
    }
}
