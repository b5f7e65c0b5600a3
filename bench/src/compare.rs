//! How do ours and the floor compare, and is the goal met?

use crate::spread::{Ratio, Samples, Spread};
use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    ours: Option<Spread>,
    floor_name: &'static str,
    floor: Option<Spread>,
    ratio: Option<Ratio>,
    goal: Goal,
    notes: Vec<String>,
    broken: bool,
}

/// What a row is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// It only tells.
    Nothing,
    /// Ours at most so many times the floor.
    RatioAtMost(f64),
    /// Ours at least so many times the floor.
    RatioAtLeast(f64),
    /// Our median at most so much over the floor's.
    OverFloorAtMost(f64),
    /// Our median at most this.
    MedianAtMost(f64),
    /// Our 95th percentile at most this.
    P95AtMost(f64),
}

impl Row {
    /// A row of measurements, without a floor yet.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: &Samples) -> Row {
        Row {
            what: what.into(),
            unit,
            ours: ours.spread(),
            floor_name: "",
            floor: None,
            ratio: None,
            goal: Goal::Nothing,
            notes: Vec::new(),
            broken: ours.spread().is_none(),
        }
    }

    /// A row of one value.
    pub(crate) fn single(what: impl Into<String>, unit: &'static str, value: f64) -> Row {
        let mut samples = Samples::default();
        samples.push(value);
        Row::new(what, unit, &samples)
    }

    /// A question that could not be answered.
    pub(crate) fn failed(what: &str, why: String) -> Row {
        let row = Row::new(what, "", &Samples::default());
        row.note(why)
    }

    /// Beside the floor; `n/a` where it was not measured.
    pub(crate) fn beside(mut self, floor_name: &'static str, ours: &Samples, floor: &Samples) -> Row {
        self.floor_name = floor_name;
        self.floor = floor.spread();
        self.ratio = ours.ratio(floor);
        self
    }

    /// Beside a floor of one value.
    pub(crate) fn beside_single(mut self, floor_name: &'static str, floor: f64) -> Row {
        self.floor_name = floor_name;
        self.floor = Some(Spread::single(floor));
        self.ratio = self.ours.map(|ours| ours.p50 / floor).map(|whole| Ratio { whole, low: whole, high: whole });
        self
    }

    /// With a goal.
    pub(crate) fn goal(mut self, goal: Goal) -> Row {
        self.goal = goal;
        self
    }

    /// With a line below the table.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Row {
        self.notes.push(note.into());
        self
    }

    /// With a line below the table, where there is something to say.
    pub(crate) fn note_some(self, note: Option<String>) -> Row {
        match note {
            Some(note) => self.note(note),
            None => self,
        }
    }

    /// Something went wrong: times do not count when not all went well.
    pub(crate) fn broken(mut self, why: impl Into<String>) -> Row {
        self.broken = true;
        self.note(why)
    }

    /// True where the question was not answered well.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    fn verdict(&self) -> String {
        if self.broken {
            return "FAILED".to_owned();
        }
        let Some(ours) = self.ours else { return "n/a".to_owned() };
        let over = self.floor.map(|floor| ours.p50 - floor.p50);
        let (is, allowed, less_is_met) = match self.goal {
            Goal::Nothing => return "-".to_owned(),
            Goal::RatioAtMost(goal) => (self.ratio.map(|ratio| ratio.whole), goal, true),
            Goal::RatioAtLeast(goal) => (self.ratio.map(|ratio| ratio.whole), goal, false),
            Goal::OverFloorAtMost(goal) => (over, goal, true),
            Goal::MedianAtMost(goal) => (Some(ours.p50), goal, true),
            Goal::P95AtMost(goal) => (Some(ours.p95), goal, true),
        };
        let Some(is) = is else { return "n/a".to_owned() };
        if (less_is_met && is <= allowed) || (!less_is_met && is >= allowed) {
            return "met".to_owned();
        }
        let unit = if matches!(self.goal, Goal::RatioAtMost(_) | Goal::RatioAtLeast(_)) { "×" } else { self.unit };
        let percent = (is / allowed - 1.0) * 100.0;
        format!("missed: {} {unit} ({percent:+.0} %)", number(is))
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::Nothing => "-".to_owned(),
            Goal::RatioAtMost(goal) => format!("≤ {goal:.1}×"),
            Goal::RatioAtLeast(goal) => format!("≥ {goal:.1}×"),
            Goal::OverFloorAtMost(goal) => format!("≤ floor + {goal} {}", self.unit),
            Goal::MedianAtMost(goal) => format!("≤ {} {}", number(goal), self.unit),
            Goal::P95AtMost(goal) => format!("p95 ≤ {} {}", number(goal), self.unit),
        }
    }

    fn cells(&self) -> Vec<String> {
        let percentile = |spread: Option<Spread>, of: fn(Spread) -> f64| match spread {
            Some(spread) if spread.count == 1 => "-".to_owned(),
            Some(spread) => number(of(spread)),
            None => "n/a".to_owned(),
        };
        let median = |spread: Option<Spread>| spread.map_or("n/a".to_owned(), |spread| number(spread.p50));
        let unfloored = self.floor_name.is_empty();
        let of_floor = |text: String| if unfloored { "-".to_owned() } else { text };
        let ratio = |ratio: Ratio| format!("{:.2} ({:.2}–{:.2})", ratio.whole, ratio.low, ratio.high);
        vec![
            self.what.clone(),
            self.unit.to_owned(),
            self.ours.map_or(0, |spread| spread.count).to_string(),
            median(self.ours),
            percentile(self.ours, |spread| spread.p95),
            percentile(self.ours, |spread| spread.p99),
            of_floor(self.floor_name.to_owned()),
            of_floor(median(self.floor)),
            of_floor(percentile(self.floor, |spread| spread.p99)),
            of_floor(self.ratio.map_or("n/a".to_owned(), ratio)),
            self.goal_text(),
            self.verdict(),
        ]
    }
}

const HEADS: [&str; 12] = [
    "question",
    "unit",
    "n",
    "ours p50",
    "p95",
    "p99",
    "floor",
    "p50",
    "p99",
    "ours/floor (spread)",
    "goal",
    "verdict",
];

/// The table in Markdown, its notes, and the machine's line.
pub(crate) fn table(rows: &[Row], machine: &str) -> String {
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut text = String::from("\n");
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("|-{}-|\n", rule.join("-|-")));
        }
    }
    text.push('\n');
    for row in rows {
        for note in &row.notes {
            text.push_str(&format!("- {}: {note}\n", row.what));
        }
    }
    text.push_str(&format!("\n{machine}\n"));
    text
}

/// The rows for a program.
pub(crate) fn json(rows: &[Row], machine: &str) -> String {
    let spread = |spread: Option<Spread>| match spread {
        Some(of) => {
            json!({ "n": of.count, "p50": of.p50, "p95": of.p95, "p99": of.p99, "max": of.max, "mean": of.mean })
        }
        None => Value::Null,
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "question": row.what, "unit": row.unit, "ours": spread(row.ours),
                "floor": { "name": row.floor_name, "measured": spread(row.floor) },
                "ratio": row.ratio.map(|ratio| [ratio.whole, ratio.low, ratio.high]),
                "goal": row.goal_text(), "verdict": row.verdict(), "notes": row.notes,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "machine": machine, "rows": rows }))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples
    }

    #[test]
    fn a_verdict_says_by_how_much() {
        let (two, one) = (samples(&[2.0; 5]), samples(&[1.0; 5]));
        let row = Row::new("x", "ms", &two).beside("floor", &two, &one);
        assert_eq!(row.clone().goal(Goal::RatioAtMost(1.0)).verdict(), "missed: 2.00 × (+100 %)");
        assert_eq!(row.clone().goal(Goal::RatioAtLeast(1.0)).verdict(), "met");
        assert_eq!(row.clone().goal(Goal::OverFloorAtMost(0.5)).verdict(), "missed: 1.00 ms (+100 %)");
        assert_eq!(row.clone().goal(Goal::P95AtMost(2.0)).verdict(), "met");
        assert_eq!(row.broken("one of five refused").verdict(), "FAILED");
    }

    #[test]
    fn a_missing_floor_is_said_and_not_guessed() {
        let two = samples(&[2.0; 5]);
        let row = Row::new("x", "ms", &two).beside("bwrap", &two, &Samples::default()).goal(Goal::RatioAtMost(1.0));
        assert_eq!(row.verdict(), "n/a");
        let text = table(&[row.note("bwrap is not installed")], "machine");
        assert!(text.contains("| n/a ") && text.contains("- x: bwrap is not installed"), "{text}");
    }

    #[test]
    fn a_failed_question_is_a_row() {
        let row = Row::failed("get", "no server".to_owned());
        assert!(row.is_broken());
        assert!(json(&[row], "m").contains("no server"));
    }
}
