//! What was asked on the command line?
//!
//! Every count has a default, a smaller one for `--quick`, and a bound.

use crate::failure::Failure;
use std::path::PathBuf;

/// One question, one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// How long from a create to the first output?
    Create,
    /// How long do creates take that come at once?
    Burst,
    /// How long does a command take, there and back?
    Run,
    /// How fast does output travel?
    Stream,
    /// How fast is a terminal?
    Terminal,
    /// How many GETs a second, and at which price?
    Get,
    /// How fast are files, large ones and many small ones?
    Files,
    /// What does an idle sandbox cost when there are many?
    Density,
    /// Does anything grow?
    Churn,
    /// What does MCP cost?
    Mcp,
    /// How fast is a sandbox's tree for a kernel that mounts it?
    Nfs,
}

impl Question {
    const ALL: [Question; 11] = [
        Question::Create,
        Question::Run,
        Question::Mcp,
        Question::Stream,
        Question::Terminal,
        Question::Get,
        Question::Files,
        Question::Burst,
        Question::Churn,
        Question::Density,
        Question::Nfs,
    ];

    /// `nfs` fetches a second kernel and another server: it is asked for by its name alone.
    fn is_in_all(self) -> bool {
        self != Question::Nfs
    }

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Question::Create => "create",
            Question::Burst => "burst",
            Question::Run => "run",
            Question::Stream => "stream",
            Question::Terminal => "terminal",
            Question::Get => "get",
            Question::Files => "files",
            Question::Density => "density",
            Question::Churn => "churn",
            Question::Mcp => "mcp",
            Question::Nfs => "nfs",
        }
    }
}

/// All that a run is told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    asked: Vec<Question>,
    /// The program to start; `None`: `workspace-server` beside this program.
    pub(crate) server: Option<PathBuf>,
    /// A running server instead, `HOST:PORT`.
    pub(crate) address: Option<String>,
    /// Of that server's supervisor: without it no figure of its processes.
    pub(crate) pid: Option<u32>,
    /// Sent as `Authorization: Bearer`.
    pub(crate) api_key: Option<String>,
    /// Where the started server's directory is made.
    pub(crate) dir: PathBuf,
    /// RUST_LOG of the started server.
    pub(crate) log: String,
    /// Where to write the rows as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Measurements of `create` and `run`, one by one.
    pub(crate) samples: u64,
    /// Rest before each of them.
    pub(crate) gap_ms: u64,
    /// Sandboxes created at once.
    pub(crate) burst: u64,
    /// Alternations between ours and the floor.
    pub(crate) rounds: u64,
    /// Commands at once.
    pub(crate) at_once: u64,
    /// MCP sessions at once.
    pub(crate) sessions: u64,
    /// Lines of `seq` that `stream` and `terminal` carry.
    pub(crate) lines: u64,
    /// Keep-alive connections of `get` and `files`.
    pub(crate) connections: u64,
    /// Client threads of `get` and `files`.
    pub(crate) threads: u64,
    /// Length of the large file of `files`.
    pub(crate) large_mib: u64,
    /// Small files of `files`.
    pub(crate) small_files: u64,
    /// Files of the archive of `files`.
    pub(crate) tar_files: u64,
    /// Length of a round of `get` and `files`.
    pub(crate) round_ms: u64,
    /// Sandboxes of `density`.
    pub(crate) alive: u64,
    /// Creates and deletes of `churn`.
    pub(crate) churn: u64,
    /// Connections that fill, empty and churn.
    pub(crate) workers: u64,
    /// Size of the file that `nfs` writes and reads.
    pub(crate) mib: u64,
    /// Longest wait for the machine's memory to come to rest.
    pub(crate) settle_ms_max: u64,
    /// WORKSPACE_POOL_BLANKS of the started server, `None`: its default.
    pub(crate) blanks: Option<u64>,
}

/// A counted option: its name, what it counts, default, default with `--quick`, largest, its place.
struct Count {
    name: &'static str,
    what: &'static str,
    full: u64,
    quick: u64,
    max: u64,
    place: fn(&mut Options) -> &mut u64,
}

const fn count(
    name: &'static str,
    what: &'static str,
    [full, quick, max]: [u64; 3],
    place: fn(&mut Options) -> &mut u64,
) -> Count {
    Count { name, what, full, quick, max, place }
}

const COUNTS: [Count; 18] = [
    count("--samples", "create, run, mcp, terminal: measurements one by one", [200, 10, 100_000], |to| &mut to.samples),
    count("--gap-ms", "create, run, mcp, terminal: rest before each of them", [20, 5, 10_000], |to| &mut to.gap_ms),
    count("--burst", "burst: creates at once", [100, 20, 2_000], |to| &mut to.burst),
    count(
        "--rounds",
        "burst, run, mcp, stream, terminal, get, files, nfs: turns of ours and the floor",
        [5, 2, 100],
        |to| &mut to.rounds,
    ),
    count("--at-once", "run: commands at once", [64, 8, 1_024], |to| &mut to.at_once),
    count("--sessions", "mcp: sessions at once", [500, 40, 4_000], |to| &mut to.sessions),
    count("--lines", "stream, terminal: lines of seq", [20_000_000, 200_000, 1_000_000_000], |to| &mut to.lines),
    count("--connections", "get, files: keep-alive connections", [64, 16, 4_096], |to| &mut to.connections),
    count("--threads", "get, files: client threads", [2, 2, 64], |to| &mut to.threads),
    count("--round-ms", "get, files: length of a round", [2_000, 300, 60_000], |to| &mut to.round_ms),
    count("--large-mib", "files: length of the large file", [1_024, 16, 65_536], |to| &mut to.large_mib),
    count("--small-files", "files: small files", [10_000, 200, 1_000_000], |to| &mut to.small_files),
    count("--tar-files", "files: files in one archive", [600, 60, 100_000], |to| &mut to.tar_files),
    count("--alive", "density: sandboxes alive", [2_000, 50, 20_000], |to| &mut to.alive),
    count("--churn", "churn: creates and deletes", [10_000, 100, 10_000_000], |to| &mut to.churn),
    count("--workers", "density, churn: connections that create and delete", [8, 4, 256], |to| &mut to.workers),
    count("--mib", "nfs: MiB of the file that is written and read", [256, 32, 1_024], |to| &mut to.mib),
    count("--settle-ms-max", "longest wait for memory to come to rest", [15_000, 1_000, 120_000], |to| {
        &mut to.settle_ms_max
    }),
];

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Options::defaults(quick);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")));
            if let Some(counted) = COUNTS.iter().find(|counted| counted.name == argument) {
                *(counted.place)(&mut options) = bounded(argument, value()?, counted.max)?;
                continue;
            }
            match argument.as_str() {
                "--quick" => {}
                "--server" => options.server = Some(value()?.into()),
                "--url" => options.address = Some(address_of(value()?)?),
                "--pid" => options.pid = Some(bounded(argument, value()?, 1 << 22)? as u32),
                "--api-key" => options.api_key = Some(value()?.clone()),
                "--dir" => options.dir = value()?.into(),
                "--log" => options.log = value()?.clone(),
                "--json" => options.json = Some(value()?.into()),
                "--blanks" => options.blanks = Some(value()?.parse().map_err(|_| Failure::new("--blanks: a number"))?),
                "all" => options.asked = Question::ALL.into_iter().filter(|question| question.is_in_all()).collect(),
                name => match Question::ALL.iter().find(|question| question.name() == name) {
                    Some(question) => options.asked.push(*question),
                    None => return Err(Failure::new(format!("{name}: no such question or option; see --help"))),
                },
            }
        }
        if options.asked.is_empty() {
            return Err(Failure::new("no question; see --help"));
        }
        Ok(options)
    }

    /// In the order in which they are asked.
    pub(crate) fn questions(&self) -> &[Question] {
        &self.asked
    }

    fn defaults(quick: bool) -> Options {
        // Not a tmpfs: a commit must pay for its fsync, and files must not count as memory.
        let dir = PathBuf::from("/var/tmp");
        let mut options = Options {
            asked: Vec::new(),
            server: None,
            address: None,
            pid: None,
            api_key: None,
            dir: if dir.is_dir() { dir } else { std::env::temp_dir() },
            log: "warn".to_owned(),
            json: None,
            samples: 0,
            gap_ms: 0,
            burst: 0,
            rounds: 0,
            at_once: 0,
            sessions: 0,
            lines: 0,
            connections: 0,
            threads: 0,
            large_mib: 0,
            small_files: 0,
            tar_files: 0,
            round_ms: 0,
            alive: 0,
            churn: 0,
            workers: 0,
            mib: 0,
            settle_ms_max: 0,
            blanks: None,
        };
        for counted in &COUNTS {
            *(counted.place)(&mut options) = if quick { counted.quick } else { counted.full };
        }
        options
    }
}

fn bounded(name: &str, text: &str, max: u64) -> Result<u64, Failure> {
    match text.parse() {
        Ok(value) if (1..=max).contains(&value) => Ok(value),
        _ => Err(Failure::new(format!("{name} {text}: a number from 1 to {max}"))),
    }
}

fn address_of(url: &str) -> Result<String, Failure> {
    let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if address.contains(['/', '@']) || !address.contains(':') {
        return Err(Failure::new(format!("--url {url}: http://HOST:PORT")));
    }
    Ok(address.to_owned())
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "workspace-bench QUESTION… [options]\n\n\
         Questions: create run mcp stream terminal get files burst churn density, or all of these; nfs.\n\n\
         Starts the server itself and removes everything afterwards:\n  \
         --server PATH        its program (workspace-server beside this one)\n  \
         --dir DIR            where its directory is made (/var/tmp)\n  \
         --log FILTER         its RUST_LOG (warn)\n  \
         --blanks N           its WORKSPACE_POOL_BLANKS\n\
         or measures one that runs:\n  \
         --url http://HOST:PORT   --api-key KEY   --pid PID of its supervisor, for CPU and memory\n\n  \
         --quick              small counts: shows that the bench works, says nothing about speed\n  \
         --json FILE          the rows as JSON too\n",
    );
    for counted in &COUNTS {
        let line = format!("  {:<20} {} ({}; quick {})\n", counted.name, counted.what, counted.full, counted.quick);
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn an_explicit_count_wins_over_quick() {
        let options = parse("get --alive 7 --quick").unwrap();
        assert_eq!((options.alive, options.churn), (7, 100));
        assert_eq!(options.questions(), [Question::Get]);
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(parse("get --alive 0").unwrap_err().to_string().contains("--alive 0"));
        assert!(parse("get --url https://example.org").is_err());
        assert!(parse("speed").unwrap_err().to_string().starts_with("speed"));
        assert!(parse("--quick").is_err());
        assert!(!parse("all").unwrap().questions().contains(&Question::Nfs));
    }

    /// Every count is within its bound, an address names a port, and there is a question.
    fn any_arguments(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let Ok(mut options) = parse(&text) else { return };
        assert!(!options.questions().is_empty());
        for counted in &COUNTS {
            assert!((1..=counted.max).contains((counted.place)(&mut options)), "{}", counted.name);
        }
        assert!(options.pid.is_none_or(|pid| pid > 0));
        assert!(options.address.is_none_or(|at| at.contains(':') && !at.contains(['/', '@'])));
    }

    #[test]
    fn any_arguments_are_options_or_refused() {
        let mut corpus: Vec<String> =
            COUNTS.iter().map(|counted| format!("get {} {}", counted.name, counted.max)).collect();
        corpus.push("all --quick --url http://127.0.0.1:8080/ --api-key k --pid 1 --log info --json x".into());
        corpus.push("create run --server /x --dir /y --blanks 0 --alive 0".into());
        let corpus: Vec<&[u8]> = corpus.iter().map(String::as_bytes).collect();
        crate::fuzz::run(any_arguments, &corpus);
    }
}
