//! The contracts as text, one file a package: what a change of contract looks like in review.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};
use prost_types::method_options::IdempotencyLevel;

use crate::fixture;

/// Renders what the wire sees of a package, whatever files it is in: no comments, fields by number.
fn rendered(package: &str, files: &[FileDescriptor]) -> String {
    let mut out = format!("package {package}\n");
    for service in files.iter().flat_map(FileDescriptor::services) {
        writeln!(out, "\nservice {}", service.name()).unwrap();
        for method in service.methods() {
            writeln!(out, "  {}", rpc(&method, package)).unwrap();
        }
    }
    files.iter().flat_map(FileDescriptor::messages).for_each(|one| message(&one, package, &mut out));
    files.iter().flat_map(FileDescriptor::enums).for_each(|one| enumeration(&one, package, &mut out));
    out
}

fn rpc(method: &MethodDescriptor, package: &str) -> String {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    let level = method.method_descriptor_proto().options.as_ref().map(|options| options.idempotency_level());
    format!(
        "{}({}{}) -> {}{}{}",
        method.name(),
        stream(method.is_client_streaming()),
        short(method.input().full_name(), package),
        stream(method.is_server_streaming()),
        short(method.output().full_name(), package),
        match level {
            Some(IdempotencyLevel::NoSideEffects) => "  no side effects",
            Some(IdempotencyLevel::Idempotent) => "  idempotent",
            Some(IdempotencyLevel::IdempotencyUnknown) | None => "",
        }
    )
}

fn message(one: &MessageDescriptor, package: &str, out: &mut String) {
    if one.is_map_entry() {
        return;
    }
    writeln!(out, "\nmessage {}", short(one.full_name(), package)).unwrap();
    // `fields` goes by number.
    for field in one.fields() {
        writeln!(out, "  {:>3} {}: {}", field.number(), field.name(), label(&field, package)).unwrap();
    }
    for range in one.reserved_ranges() {
        writeln!(out, "  reserved {} to {}", range.start, range.end - 1).unwrap();
    }
    for name in one.reserved_names() {
        writeln!(out, "  reserved {name}").unwrap();
    }
    one.child_messages().for_each(|inner| message(&inner, package, out));
    one.child_enums().for_each(|inner| enumeration(&inner, package, out));
}

fn enumeration(one: &EnumDescriptor, package: &str, out: &mut String) {
    writeln!(out, "\nenum {}", short(one.full_name(), package)).unwrap();
    for value in one.values() {
        writeln!(out, "  {:>3} {}", value.number(), value.name()).unwrap();
    }
}

fn label(field: &FieldDescriptor, package: &str) -> String {
    let own = kind(&field.kind(), package);
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    match (oneof, field.kind()) {
        (Some(oneof), _) => format!("{own} (one of {})", oneof.name()),
        (None, Kind::Message(entry)) if field.is_map() => {
            let part = |part: FieldDescriptor| kind(&part.kind(), package);
            format!("map<{}, {}>", part(entry.map_entry_key_field()), part(entry.map_entry_value_field()))
        }
        (None, _) if field.cardinality() == Cardinality::Repeated => format!("repeated {own}"),
        (None, _) if field.field_descriptor_proto().proto3_optional() => format!("optional {own}"),
        (None, _) => own,
    }
}

fn kind(kind: &Kind, package: &str) -> String {
    match kind {
        Kind::Message(message) => short(message.full_name(), package).to_owned(),
        Kind::Enum(one) => short(one.full_name(), package).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// Returns a full name without its package, if that is this one.
fn short<'a>(name: &'a str, package: &str) -> &'a str {
    name.strip_prefix(package).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "rewriting the stored text is asked for from outside")]
fn the_contracts_are_those_that_were_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract");
    let blessed = std::env::var_os("ATHENA_BLESS").is_some_and(|value| value == "1");
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    let mut differing = Vec::new();
    let mut stored: Vec<_> = Vec::new();
    let mut packages: BTreeMap<String, Vec<FileDescriptor>> = BTreeMap::new();
    for file in pool.files().filter(|file| file.package_name().starts_with("athena.")) {
        packages.entry(file.package_name().to_owned()).or_default().push(file);
    }
    for (package, files) in packages {
        let path = folder.join(format!("{package}.txt"));
        let text = rendered(&package, &files);
        if blessed {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            differing.push(package);
        }
        stored.push(path);
    }
    let hint =
        "if that is meant: ATHENA_BLESS=1 cargo test -p tests --test contract, then look at the difference";
    assert!(differing.is_empty(), "the stored text of {differing:?} differs from the contract; {hint}");
    let left: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt") && !stored.contains(path))
        .collect();
    assert!(left.is_empty(), "no contract is behind {left:?}");
}

#[test]
fn a_rendering_shows_all_that_the_wire_sees() {
    let text = "service S { rpc Do(DoRequest) returns (stream DoResponse) { option idempotency_level = IDEMPOTENT; } }
        message DoRequest { repeated string b = 2; optional double a = 1; map<string, Way> c = 3; oneof d { bytes e = 4; } }
        message DoResponse { reserved 2 to 3; reserved \"old\"; message Inner { DoRequest x = 1; } }
        enum Way { WAY_UNSPECIFIED = 0; WAY_OUT = 7; }";
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(fixture::small(text)).unwrap();
    let wanted = "package a.v1

service S
  Do(DoRequest) -> stream DoResponse  idempotent

message DoRequest
    1 a: optional double
    2 b: repeated string
    3 c: map<string, Way>
    4 e: bytes (one of d)

message DoResponse
  reserved 2 to 3
  reserved old

message DoResponse.Inner
    1 x: DoRequest

enum Way
    0 WAY_UNSPECIFIED
    7 WAY_OUT
";
    assert_eq!(rendered("a.v1", &pool.files().collect::<Vec<_>>()), wanted);
}
