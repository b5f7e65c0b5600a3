//! Whole trees as tar archives, down and up.
//!
//! An archive that comes is received whole before it is read, made into a tree in the scratch room, and only then
//! put in place: a hostile or broken one leaves nothing, and its own links lead nowhere while it is made.

mod entries;
mod pack;
mod received;
pub(super) mod tar;
mod unpack;

pub(super) use entries::{Entries, FOREIGN, Place, TWO_THINGS, read_at, refused};
pub use pack::Packed;
pub use received::{Received, Unpacked};
