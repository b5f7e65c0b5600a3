//! What do a plain pipe, a bare terminal and a bare socket need for the same bytes?
//!
//! A process of its own. One byte from the client chooses: `p` copies the pipe of `seq` to the socket, `t` the terminal
//! of `seq`, `e` connects the socket with a terminal in which `cat` runs. No framing, no encoding, no isolation.
//! It ends when its standard input does.

use crate::failure::Failure;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The first argument of the process.
pub(crate) const ROLE: &str = "floor-stream";
const PIECE_BYTES: usize = 64 << 10;

/// The floor's process, ended when dropped.
pub(crate) struct StreamFloor {
    child: Child,
    _alive: ChildStdin,
    address: String,
}

/// What a connection to the floor carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carry {
    /// `seq 1 LINES` through a pipe.
    Pipe,
    /// The same through a terminal.
    Terminal,
    /// Keys to `cat` in a terminal, and back.
    Echo,
}

impl StreamFloor {
    /// Starts one whose `seq` counts to `lines`.
    pub(crate) fn start(lines: u64) -> Result<StreamFloor, Failure> {
        let failed = |error| Failure::io("start the floor's process", &error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(ROLE).arg(lines.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(alive), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("the floor's process has no pipes"));
        };
        let mut address = String::new();
        let told = BufReader::new(stdout).read_line(&mut address);
        let floor = StreamFloor { child, _alive: alive, address: address.trim().to_owned() };
        told.map_err(failed)?;
        Ok(floor)
    }

    /// A connection that carries what was chosen.
    pub(crate) fn connect(&self, carry: Carry) -> Result<TcpStream, Failure> {
        let failed = |error| Failure::io("connect to the floor", &error);
        let mut stream = TcpStream::connect(&self.address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let choice = match carry {
            Carry::Pipe => b'p',
            Carry::Terminal => b't',
            Carry::Echo => b'e',
        };
        stream.write_all(&[choice]).map_err(failed)?;
        Ok(stream)
    }
}

impl Drop for StreamFloor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process: says its address, serves until its standard input ends.
pub(crate) fn serve(lines: &str) -> Result<(), Failure> {
    let failed = |error| Failure::io("floor", &error);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    println!("{}", listener.local_addr().map_err(failed)?);
    let lines = lines.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines = lines.clone();
            std::thread::spawn(move || {
                if let Err(error) = carry(stream, &lines) {
                    eprintln!("floor: {error}");
                }
            });
        }
    });
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).map_err(failed)?;
    Ok(())
}

fn carry(mut stream: TcpStream, lines: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut choice = [0];
    stream.read_exact(&mut choice)?;
    let mut seq = Command::new("seq");
    seq.args(["1", lines]);
    match choice[0] {
        b'p' => {
            let mut child = seq.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            if let Some(mut pipe) = child.stdout.take() {
                copy(&mut pipe, &mut stream)?;
            }
            child.wait().map(drop)
        }
        b't' => {
            let (mut master, slave) = terminal()?;
            let mut child = seq.stdin(Stdio::null()).stdout(slave).spawn()?;
            // A terminal whose last writer has gone is EIO.
            let _ = copy(&mut master, &mut stream);
            child.wait().map(drop)
        }
        _ => {
            let (master, slave) = terminal()?;
            let mut child = Command::new("cat").stdin(slave.try_clone()?).stdout(slave).spawn()?;
            let (mut keys, mut screen) = (stream.try_clone()?, master.try_clone()?);
            std::thread::spawn(move || copy(&mut screen, &mut stream));
            let _ = copy(&mut keys, &mut &master);
            child.kill()?;
            child.wait().map(drop)
        }
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            length => to.write_all(&piece[..length])?,
        }
    }
}

/// (master, slave)
fn terminal() -> std::io::Result<(File, File)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = File::options().read(true).write(true).open(name.to_string_lossy().as_ref())?;
    Ok((master.into(), slave))
}
