//! Builds the static agent that the server carries inside, with its own profile and target directory, and takes in the
//! terminal page where it has been built.
//!
//! Of the agent it prefers the musl target when its standard library is in the sysroot (an agent then starts in 81 µs instead of
//! 850, see docs/decisions/0006); else links glibc statically; else stops and names the missing package.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    for path in ["../agent", "../proto", "../Cargo.lock", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let arch = required("CARGO_CFG_TARGET_ARCH");
    let out = PathBuf::from(required("OUT_DIR"));
    take_terminal_page(&out);
    let rustc = required("RUSTC");
    let musl = format!("{arch}-unknown-linux-musl");
    let (target, flags) = if has_std(&rustc, &musl) {
        (musl, "-C target-feature=+crt-static".to_owned())
    } else {
        let flags = "-C target-feature=+crt-static -C relocation-model=static";
        (format!("{arch}-unknown-linux-gnu"), flags.to_owned())
    };
    // Beside the outer target directory, so that debug and release builds share it; never the same one: cargo locks it.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("embedded-agent");
    let status = Command::new(required("CARGO"))
        .args(["build", "--package", "workspace-agent", "--profile", "agent", "--locked", "--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir("..")
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => stop(&format!(
            "the static agent did not build for {target}. If the linker misses libc.a, install the C library's development \
             package (Debian: apt-get install libc6-dev) or the musl target (rustup target add {arch}-unknown-linux-musl)."
        )),
        Err(error) => stop(&format!("cargo could not be started to build the agent: {error}")),
    }
    let built = target_dir.join(&target).join("agent").join("workspace-agent");
    copy(&built, &out.join("workspace-agent"));
}

/// The page with the header fields that it needs, or what says how to build it. npm is not asked for here, so that a
/// machine without it builds the server all the same.
fn take_terminal_page(out: &Path) {
    let built = Path::new("terminal/dist/terminal.html");
    let exists = built.is_file();
    // A path that does not exist would run this at every build; the folder changes when the page appears in it.
    let watched = if exists { built } else { Path::new("terminal") };
    println!("cargo:rerun-if-changed={}", watched.display());
    println!("cargo:rustc-check-cfg=cfg(terminal_page)");
    if exists {
        println!("cargo:rustc-cfg=terminal_page");
    }
    let page = if exists { built } else { Path::new("terminal/missing.html") };
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| stop(&format!("{}: {e}", page.display())));
    let policy = text.split_once("http-equiv=\"Content-Security-Policy\" content=\"");
    let Some((policy, _)) = policy.and_then(|(_, rest)| rest.split_once('"')) else {
        stop(&format!("{} has no policy: run `npm run build` in net/terminal again", page.display()))
    };
    let headers = format!(
        "content-security-policy: {policy}; frame-ancestors 'none'\r\n\
         referrer-policy: no-referrer\r\n\
         cache-control: no-store\r\n"
    );
    write(&out.join("terminal.html"), &text);
    write(&out.join("terminal.headers"), &headers);
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        stop(&format!("{} could not be written: {error}", path.display()));
    }
}

fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| stop(&format!("{name} is not set: build with cargo")))
}

fn has_std(rustc: &str, target: &str) -> bool {
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = printed.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").is_dir()
}

fn copy(from: &Path, to: &Path) {
    if let Err(error) = std::fs::copy(from, to) {
        stop(&format!("{} could not be copied: {error}", from.display()));
    }
}

fn stop(message: &str) -> ! {
    println!("cargo:warning={message}");
    std::process::exit(1)
}
