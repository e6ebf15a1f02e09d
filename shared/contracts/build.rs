//! Compiles the contracts with a pure-Rust compiler, so that a fresh machine needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// Every contract, relative to `proto/`. `tests/contract` checks this list against the folder: cargo watches only
/// what is printed below, and a file left out would leave stale code without a word.
const PROTOS: &[&str] = &[
    "athena/agent/v1/agent.proto",
    "athena/llm/v1/cache.proto",
    "athena/llm/v1/conversation.proto",
    "athena/llm/v1/llm.proto",
    "athena/llm/v1/pattern.proto",
    "athena/memory/v1/admin.proto",
    "athena/memory/v1/cache.proto",
    "athena/memory/v1/memory.proto",
    "athena/monitor/v1/monitor.proto",
    "athena/storage/v1/document.proto",
    "athena/storage/v1/status.proto",
    "athena/storage/v1/storage.proto",
    "athena/storage/v1/stream.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo hands a build script its folders in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo gives the manifest folder")?)
        .join("../../proto");
    println!("cargo:rerun-if-changed=build.rs");
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={}", root.join(proto).display());
    }
    let set = protox::Compiler::new([&root])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(PROTOS)?
        .file_descriptor_set();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gives the output folder")?);
    fs::write(out.join("descriptor.bin"), set.encode_to_vec())?;
    // The end of a stream holds much, its pieces little.
    let boxed = ".athena.llm.v1.GenerateStreamResponse.part.end";
    tonic_prost_build::configure().boxed(boxed).compile_fds(set)?;
    Ok(())
}
