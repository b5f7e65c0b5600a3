//! An attack program: its source, and what it told, line by line.

use std::fmt;

/// A C source of `programs/`, the common head before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

macro_rules! program {
    ($name:literal) => {
        $crate::program::Program {
            name: $name,
            source: concat!(
                include_str!("programs/probe.h"),
                "#line 1 \"",
                $name,
                ".c\"\n",
                include_str!(concat!("programs/", $name, ".c"))
            ),
        }
    };
}
pub(crate) use program;

/// How the C compiler is asked, after its name; the source comes by stdin.
pub(crate) fn compiler_args(out: &str) -> Vec<String> {
    ["-O1", "-w", "-pthread", "-o", out, "-x", "c", "-", "-lrt"].map(str::to_owned).into()
}

/// A word that no output can hold by chance.
pub(crate) fn nonce() -> String {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).expect("getrandom");
    format!("n{:016x}", u64::from_ne_bytes(bytes))
}

/// The steps of one run, in order.
pub(crate) struct Lines {
    program: &'static str,
    steps: Vec<(String, String)>,
    whole: String,
}

impl Lines {
    /// Takes the lines that begin with the nonce.
    pub(crate) fn parse(program: Program, nonce: &str, output: &str) -> Lines {
        let mine = output.lines().filter_map(|line| line.strip_prefix(nonce)?.strip_prefix(' '));
        let steps = mine.map(|line| line.split_once(' ').unwrap_or((line, "")));
        let steps = steps.map(|(step, value)| (step.to_owned(), value.to_owned())).collect();
        Lines { program: program.name, steps, whole: output.to_owned() }
    }

    /// Panics unless the program told its last step.
    #[track_caller]
    pub(crate) fn complete(self) -> Lines {
        assert_eq!(self.find("end"), Some("ok"), "it ended early: {self:?}");
        self
    }

    /// What a step told, if it did.
    pub(crate) fn find(&self, step: &str) -> Option<&str> {
        self.steps.iter().find(|(name, _)| name == step).map(|(_, value)| value.as_str())
    }

    /// What a step told; no line, no pass.
    #[track_caller]
    pub(crate) fn get(&self, step: &str) -> &str {
        self.find(step).unwrap_or_else(|| panic!("no line {step}: {self:?}"))
    }

    /// Panics unless the step told one of these.
    #[track_caller]
    pub(crate) fn expect(&self, step: &str, allowed: &[&str]) {
        let told = self.get(step);
        assert!(allowed.contains(&told), "{}: {step} is {told}, not one of {allowed:?}", self.program);
    }

    /// Panics with all steps, of those that begin with `prefix`, that told something else; at least one must.
    #[track_caller]
    pub(crate) fn expect_all(&self, prefix: &str, allowed: &[&str]) {
        let all: Vec<_> = self.steps.iter().filter(|(step, _)| step.starts_with(prefix) && step != "end").collect();
        assert!(!all.is_empty(), "no line {prefix}…: {self:?}");
        let wrong: Vec<_> = all.iter().filter(|(_, told)| !allowed.contains(&told.as_str())).collect();
        assert!(wrong.is_empty(), "{}: not one of {allowed:?}: {wrong:?}", self.program);
    }

    /// Whether any of these steps told `ok`.
    pub(crate) fn any_ok(&self, steps: &[&str]) -> bool {
        steps.iter().any(|step| self.find(step) == Some("ok"))
    }

    /// All steps.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        self.steps.iter().map(|(step, told)| (step.as_str(), told.as_str()))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n{}", self.program, self.whole)
    }
}
