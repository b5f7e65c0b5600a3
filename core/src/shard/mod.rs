//! What a core owns, and how cores ask each other.

pub mod mailbox;
