//! The built program as a launcher, looked at from the host: what a sandbox is made of, and that nothing is left.
//!
//! Needs root; without it each test says so and passes.

mod kit;

use kit::{DataDir, Launcher, is_root, plan};

#[test]
fn first_light() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(kit::BASE_ID + 65_535);
    let mut launcher = Launcher::start(&data);
    println!("{:?}", launcher.ready);
    let sandbox = launcher.create(plan(0));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    println!("{}", sandbox.proc("status"));
    println!("{}", sandbox.proc("mountinfo"));
    println!("{}", sandbox.proc("uid_map"));
    println!("{}", sandbox.proc("cgroup"));
    println!(
        "{:?}",
        std::process::Command::new("ls")
            .args(["-l", &format!("/proc/{}/fd", sandbox.pid)])
            .output()
            .map(|o| String::from_utf8(o.stdout).unwrap())
    );
    sandbox.wait_for_listen(&data);
    launcher.destroy(&sandbox.id);
    println!("{:?} {:?}", kit::processes_of(&data), data.cgroups());
    launcher.stop();
    println!("{:?} {:?}", kit::processes_of(&data), data.cgroups());
}
