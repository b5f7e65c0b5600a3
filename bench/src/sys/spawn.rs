//! What does it cost to start a program and wait for its end, with nothing in between?
//!
//! posix_spawn(3) with no attribute and no file action (glibc: CLONE_VM|CLONE_VFORK), waitpid(2).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::path::Path;

/// A program and its arguments, made ready so that a start allocates nothing.
pub(crate) struct Program {
    path: CString,
    pointers: Vec<usize>,
    // What `pointers` points to; a CString's bytes do not move when it does.
    _arguments: Vec<CString>,
    environment: Vec<usize>,
    _variables: Vec<CString>,
}

impl Program {
    /// `None` where the path or an argument has a NUL in it.
    pub(crate) fn new(path: &Path, arguments: &[&str]) -> Option<Program> {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        let mut all = vec![path.clone()];
        for argument in arguments {
            all.push(CString::new(*argument).ok()?);
        }
        let variables = vec![CString::new("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").ok()?];
        Some(Program {
            path,
            pointers: pointers(&all),
            _arguments: all,
            environment: pointers(&variables),
            _variables: variables,
        })
    }

    /// Starts it; the result is the child's process id. The caller must wait for it.
    pub(crate) fn start(&self) -> io::Result<i32> {
        let mut pid: libc::pid_t = 0;
        // SAFETY: path is NUL-terminated; both vectors are arrays of pointers to NUL-terminated strings that `self` owns, closed by a null;
        // posix_spawn does not write to them; no file action or attribute is given, for which null is allowed.
        let error = unsafe {
            libc::posix_spawn(
                &mut pid,
                self.path.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                self.pointers.as_ptr().cast(),
                self.environment.as_ptr().cast(),
            )
        };
        if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// Starts it and waits; an error where it did not end with 0.
    pub(crate) fn run(&self) -> io::Result<()> {
        let pid = self.start()?;
        match wait(pid)? {
            0 => Ok(()),
            status => Err(io::Error::other(format!("{} ended with status {status:#x}", self.path.to_string_lossy()))),
        }
    }
}

/// Waits for a child; its status as wait(2) gives it.
pub(crate) fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid place for the result during the call.
        let result = unsafe { libc::waitpid(pid, &mut status, 0) };
        if result == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<usize> {
    strings.iter().map(|string| string.as_ptr() as usize).chain([0]).collect()
}
