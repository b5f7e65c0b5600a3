//! What a watch may cost, and how it is said where that is not enough.

use super::{DIRECTORIES_ALL_MAX, DIRECTORIES_MAX, NAMES_ALL_MAX, NAMES_MAX, WATCHES_MAX};
use crate::error::{Error, Reason};
use rustix::io::Errno;

fn limited(message: String) -> Error {
    Error::new(Reason::RateLimited, message)
}

pub(super) fn directories() -> Error {
    limited(format!(
        "the tree has more than the {DIRECTORIES_MAX} directories that one watch may hold; watch a part of it, or without `recursive`"
    ))
}

pub(super) fn names() -> Error {
    limited(format!("the tree has more than the {NAMES_MAX} names that one watch may hold; watch a part of it"))
}

pub(super) fn all_directories() -> Error {
    limited(format!(
        "all watches together hold the {DIRECTORIES_ALL_MAX} directories that they may; end others, or watch a part of the tree"
    ))
}

pub(super) fn all_names() -> Error {
    limited(format!(
        "all watches together hold the {NAMES_ALL_MAX} names that they may; end others, or watch a part of the tree"
    ))
}

pub(super) fn watches() -> Error {
    limited(format!("there are {WATCHES_MAX} watches, as many as the server keeps; end others first"))
}

pub(super) fn starts() -> Error {
    limited("too many watches begin at once; try again".to_owned())
}

pub(super) fn machine() -> Error {
    limited(
        "the server's user has used up fs.inotify.max_user_watches; raise it on the host, or watch a part of the tree"
            .to_owned(),
    )
}

pub(super) fn instances(errno: Errno) -> Error {
    let message = "the server's user has used up fs.inotify.max_user_instances; raise it on the host";
    limited(message.to_owned()).source(errno)
}
