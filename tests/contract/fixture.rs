//! The descriptor sets that are looked at: the house's own, and small ones made by hand.

use std::fs;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Returns the house's own contracts, without what they import.
pub(crate) fn contracts() -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(contracts::DESCRIPTOR_SET).unwrap();
    set.file.retain(|file| file.package().starts_with("athena."));
    assert!(set.file.len() >= 5, "{} contracts", set.file.len());
    set
}

/// Compiles one contract at this path, with its comments, without what it imports.
pub(crate) fn compiled(path: &str, text: &str) -> FileDescriptorSet {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("syntax = \"proto3\";\n{text}")).unwrap();
    let mut compiler = protox::Compiler::new([root.path()]).unwrap();
    compiler.include_source_info(true).open_file(file).unwrap();
    compiler.file_descriptor_set()
}

/// Compiles one contract of the package `a.v1`.
pub(crate) fn small(text: &str) -> FileDescriptorProto {
    compiled("a/v1/a.proto", &format!("package a.v1;\n{text}")).file.remove(0)
}
