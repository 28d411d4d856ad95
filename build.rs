//! How the program is linked.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script about its target in the environment"
)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |part: &str, value: &str| {
        std::env::var(format!("CARGO_CFG_TARGET_{part}")).as_deref() == Ok(value)
    };
    // At a fixed address, as Go's programs are: 60,000 addresses need not be written into 1.5 MB
    // at each start. That was half of the time that `--version` takes, and memory of each run.
    if is("OS", "linux") && is("ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
