//! What are a command's standard streams? Pipes of the agent's, which every id may open by name; null as stdin where
//! nothing is to be said.

use super::Agent;
use crate::sys::spawn::above_stdio;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Our ends of a command's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

#[derive(PartialEq, Eq)]
enum Ours {
    Reads,
    Writes,
}

impl Pipes {
    /// Ours, and the command's ends.
    pub(crate) fn new(agent: &Agent, no_stdin: bool) -> Result<(Pipes, [Rc<OwnedFd>; 3]), Errno> {
        let (stdout, out) = pipe(Ours::Reads)?;
        let (stderr, err) = pipe(Ours::Reads)?;
        let (stdin, input) = match &agent.null {
            Some(null) if no_stdin => (None, Rc::clone(null)),
            _ => {
                let (ours, theirs) = pipe(Ours::Writes)?;
                (Some(ours).filter(|_| !no_stdin), Rc::new(theirs))
            }
        };
        Ok((Pipes { stdin, stdout, stderr }, [input, Rc::new(out), Rc::new(err)]))
    }
}

/// (our end, non-blocking; the command's end)
fn pipe(ours: Ours) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // The pipe belongs to the agent's id: without this `echo > /dev/stderr` is refused to a command.
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(0o666))?;
    let (ours, theirs) = if ours == Ours::Reads { (reader, writer) } else { (writer, reader) };
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, above_stdio(theirs)?))
}
