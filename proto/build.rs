//! Compiles the `.proto` files without `protoc`; the generated code goes to `OUT_DIR`, never to git.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["agent.proto", "launcher.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
