//! What is found inside: by a worker, which looks by the same rules as the server on the host; counted and bounded here
//! again, whatever it says.

use super::{Worker, forged, refused};
use crate::error::Error;
use crate::files::path::SandboxPath;
use crate::files::search::{Match, SearchOptions, SearchResult};
use std::time::{Duration, Instant};
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileMatch, FileSearch};
use workspace_proto::find::SEARCH_MS_MAX;
use workspace_proto::{FOUND_BYTES_MAX, FOUND_TEXT_CHARS_MAX};

/// PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;
/// Beyond what a search may last, for a worker that is kept from working.
const SLACK_MS: u64 = 10_000;

impl Worker {
    /// Searches a directory, or one file.
    pub(in crate::files) async fn search(
        self,
        path: SandboxPath,
        options: SearchOptions,
    ) -> Result<SearchResult, Error> {
        let ends = Instant::now() + Duration::from_millis(SEARCH_MS_MAX + SLACK_MS);
        let asked = FileSearch {
            path: path.as_bytes().to_vec().into(),
            has_pattern: options.pattern.is_some(),
            pattern: options.pattern.unwrap_or_default(),
            has_glob: options.glob.is_some(),
            glob: options.glob.unwrap_or_default(),
            ignore_case: options.ignore_case,
            hidden: options.hidden,
            limit: options.limit as u32,
        };
        self.tell(Request::Search(asked)).await?;
        let base = path.whole();
        let (mut matches, mut bytes) = (Vec::new(), 0);
        loop {
            match self.next().await? {
                Reply::Matches(told) => {
                    for found in told.matches {
                        let is_past = matches.len() >= options.limit || bytes > FOUND_BYTES_MAX;
                        if is_past || !is_match(&found) {
                            return Err(forged("matches that can't be"));
                        }
                        bytes += found.path.len() + found.text.len();
                        matches.push(Match::of(&base, found));
                    }
                }
                Reply::Searched(searched) => {
                    return Ok(SearchResult { matches, files_searched: searched.files, truncated: searched.truncated });
                }
                reply => return Err(refused(reply, &path, &path)),
            }
            if Instant::now() > ends {
                return Err(forged("a search without an end"));
            }
        }
    }
}

fn is_match(found: &FileMatch) -> bool {
    found.path.len() <= PATH_BYTES_MAX
        && !found.path.contains(&0)
        && found.text.chars().nth(FOUND_TEXT_CHARS_MAX).is_none()
        && (found.line > 0 || found.text.is_empty())
}
