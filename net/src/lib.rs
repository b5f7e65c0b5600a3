//! How the world reaches core: the library behind the one program.
//!
//! Reading order is the path of a request.

pub mod command;
mod sys;
