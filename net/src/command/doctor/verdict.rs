//! What will `serve` do on this machine?

use super::cgroups::CONTROLLERS;
use super::facts::{Facts, Outcome};
use super::ids::IdPlan;
use super::namespaces::{PROC, USER};
use super::report::{Cap, Level, Mode, Row, Serve};
use super::storage::CONFIGURATION;

/// Without one of these no sandbox can run.
const NEEDED: &[&str] = &[CONFIGURATION, USER, PROC, "openat2", "pidfd", "data directory"];

pub(super) fn serve(facts: &Facts, rows: &[Row]) -> Serve {
    let missing = |row: &&Row| row.level == Level::Missing && NEEDED.contains(&row.name);
    let prevented_by: Vec<&str> = rows.iter().filter(missing).map(|row| row.name).collect();
    let cap =
        |row: &Row| Some(Cap { sandboxes_max: row.sandboxes_max?, row: row.name, sandboxes_that: row.sandboxes_that });
    let (of_some, of_all): (Vec<Cap>, Vec<Cap>) =
        rows.iter().filter_map(cap).partition(|cap| cap.sandboxes_that.is_some());
    let first = |caps: Vec<Cap>| caps.into_iter().min_by_key(|cap| cap.sandboxes_max);
    let (first_cap, of_some) = (first(of_all), first(of_some));
    let lower = |cap: &Cap| first_cap.as_ref().is_none_or(|first| cap.sandboxes_max < first.sandboxes_max);
    let (hard, mut not_hard): (Vec<&str>, Vec<&str>) = CONTROLLERS.iter().partition(|c| facts.cgroups.keeps(c));
    not_hard.push("disk");
    Serve {
        possible: prevented_by.is_empty(),
        runtime: "namespace",
        mode: match facts.plan {
            IdPlan::Root => Mode::Root,
            IdPlan::Ranged { .. } if facts.steps.outcome("map") == Outcome::Works => Mode::Ranged,
            IdPlan::Ranged { .. } | IdPlan::Single { .. } => Mode::Single,
        },
        hard,
        not_hard,
        first_cap_of_some: of_some.filter(lower),
        first_cap,
        prevented_by,
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::good;
    use super::super::judge;
    use super::super::trial::Steps;
    use super::*;

    #[test]
    fn a_good_machine_serves_as_root() {
        let serve = judge(&good()).serve;
        assert!(serve.possible);
        assert_eq!((serve.mode, serve.hard, serve.not_hard), (Mode::Root, CONTROLLERS.to_vec(), vec!["disk"]));
        assert_eq!(serve.first_cap, Some(Cap { sandboxes_max: 7_166, row: "id ranges", sandboxes_that: None }));
        let of_some = serve.first_cap_of_some.unwrap();
        assert_eq!((of_some.sandboxes_max, of_some.row), (4_194, "fs.inotify.max_user_watches"));
    }

    #[test]
    fn what_prevents_all_sandboxes_is_named() {
        let mut facts = good();
        facts.steps = Steps::parse("unshare 1\n");
        let serve = judge(&facts).serve;
        assert!(!serve.possible);
        assert_eq!(serve.prevented_by, [USER, PROC]);
    }

    #[test]
    fn missing_docker_prevents_nothing() {
        let report = judge(&good());
        assert!(report.rows.iter().any(|r| r.name == "docker engine" && r.level == Level::Missing));
        assert!(report.serve.possible);
    }
}
