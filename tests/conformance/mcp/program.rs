//! How does the program with the fixtures come about? Built once a run, in the debug profile beside the program that the
//! other tests use: all but our own server's crate is shared with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const NAME: &str = "workspace-server-conformance";
const OF_PACKAGE: [&str; 6] =
    ["OUT_DIR", "CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// The program; panics with the compiler's words where it cannot be built.
#[track_caller]
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // target/debug/workspace-server, or target/TRIPLE/debug/workspace-server.
        let ordinary = Path::new(env!("CARGO_BIN_EXE_workspace-server"));
        let profile = ordinary.parent().expect("a folder of the profile");
        let target = profile.parent().expect("a target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--locked", "--package", "workspace-server", "--bin", NAME])
            .args(["--features", "mcp-conformance"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .arg("--target-dir")
            .arg(target);
        // What cargo tells a test of its package is no setting; build scripts that look at it would run again, each time
        // in turn for this build and for the one that follows.
        let told = |name: &str| OF_PACKAGE.iter().any(|begin| name.starts_with(begin));
        for (name, _) in std::env::vars_os().filter(|(name, _)| told(&name.to_string_lossy())) {
            cargo.env_remove(name);
        }
        let output = cargo.output().expect("cargo");
        assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
        target.join("debug").join(NAME)
    })
}
