//! The rules of the contracts. Each takes a compiled contract and returns one line for each place that breaks it.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::fixture;

/// Numbers of the fields of a descriptor that a comment's path goes through (`google/protobuf/descriptor.proto`).
mod step {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_SERVICE: i32 = 6;
    pub(super) const SERVICE_METHOD: i32 = 2;
    pub(super) const MESSAGE_FIELD: i32 = 2;
    pub(super) const MESSAGE_MESSAGE: i32 = 3;
    pub(super) const MESSAGE_ENUM: i32 = 4;
    pub(super) const MESSAGE_ONEOF: i32 = 8;
    pub(super) const ENUM_VALUE: i32 = 2;
}

/// Everything in a contract that has a name, with the path of its comment.
fn named(file: &FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let mut all = Vec::new();
    for (at, service) in (0..).zip(&file.service) {
        let path = [step::FILE_SERVICE, at];
        all.push((path.to_vec(), service.name().to_owned()));
        for (at, method) in (0..).zip(&service.method) {
            let name = format!("{}.{}", service.name(), method.name());
            all.push(([&path[..], &[step::SERVICE_METHOD, at]].concat(), name));
        }
    }
    for (at, message) in (0..).zip(&file.message_type) {
        in_message(message, &[step::FILE_MESSAGE, at], "", &mut all);
    }
    for (at, one) in (0..).zip(&file.enum_type) {
        in_enum(one, &[step::FILE_ENUM, at], "", &mut all);
    }
    all
}

fn in_message(message: &DescriptorProto, path: &[i32], outer: &str, all: &mut Vec<(Vec<i32>, String)>) {
    // The compiler makes these for `map<…>`.
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    let name = format!("{outer}{}", message.name());
    all.push((path.to_vec(), name.clone()));
    for (at, field) in (0..).zip(&message.field) {
        all.push(([path, &[step::MESSAGE_FIELD, at]].concat(), format!("{name}.{}", field.name())));
    }
    for (at, oneof) in (0..).zip(&message.oneof_decl) {
        // The compiler makes one for every `optional` field.
        let is_made =
            message.field.iter().any(|field| field.proto3_optional() && field.oneof_index == Some(at));
        if !is_made {
            all.push(([path, &[step::MESSAGE_ONEOF, at]].concat(), format!("{name}.{}", oneof.name())));
        }
    }
    for (at, inner) in (0..).zip(&message.nested_type) {
        in_message(inner, &[path, &[step::MESSAGE_MESSAGE, at]].concat(), &format!("{name}."), all);
    }
    for (at, one) in (0..).zip(&message.enum_type) {
        in_enum(one, &[path, &[step::MESSAGE_ENUM, at]].concat(), &format!("{name}."), all);
    }
}

fn in_enum(one: &EnumDescriptorProto, path: &[i32], outer: &str, all: &mut Vec<(Vec<i32>, String)>) {
    let name = format!("{outer}{}", one.name());
    all.push((path.to_vec(), name.clone()));
    for (at, value) in (0..).zip(&one.value) {
        all.push(([path, &[step::ENUM_VALUE, at]].concat(), format!("{name}.{}", value.name())));
    }
}

/// Finds what has no comment above it.
fn uncommented(file: &FileDescriptorProto) -> Vec<String> {
    let info = file.source_code_info.clone().unwrap_or_default();
    let commented: BTreeSet<&[i32]> = info
        .location
        .iter()
        .filter(|location| !location.leading_comments().trim().is_empty())
        .map(|location| location.path.as_slice())
        .collect();
    let missing = named(file).into_iter().filter(|(path, _)| !commented.contains(path.as_slice()));
    missing.map(|(_, name)| format!("{}: {name} has no comment", file.name())).collect()
}

/// Finds rpcs whose messages are not their own, or not called after them.
fn shared_messages(set: &FileDescriptorSet) -> Vec<String> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for file in &set.file {
        for method in file.service.iter().flat_map(|service| &service.method) {
            for (message, suffix) in [(method.input_type(), "Request"), (method.output_type(), "Response")] {
                *uses.entry(message.to_owned()).or_default() += 1;
                let own = format!(".{}.{}{suffix}", file.package(), method.name());
                if message != own {
                    violations.push(format!(
                        "{}: {} takes or gives {message}, not {own}",
                        file.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    let shared = uses.into_iter().filter(|(_, uses)| *uses > 1);
    violations.extend(shared.map(|(message, uses)| format!("{message} is in {uses} places of rpcs")));
    violations
}

/// Finds enums whose zero says something.
fn meaningful_zeros(file: &FileDescriptorProto) -> Vec<String> {
    fn enums(message: &DescriptorProto) -> Vec<&EnumDescriptorProto> {
        message.enum_type.iter().chain(message.nested_type.iter().flat_map(enums)).collect()
    }
    let all = file.enum_type.iter().chain(file.message_type.iter().flat_map(enums));
    all.filter_map(|one| {
        let wanted = format!("{}_UNSPECIFIED", in_capitals(one.name()));
        let zero = one.value.iter().find(|value| value.number() == 0).map_or("none", |value| value.name());
        (zero != wanted)
            .then(|| format!("{}: the zero of {} is {zero}, not {wanted}", file.name(), one.name()))
    })
    .collect()
}

/// Returns a name such as `ServedBy` as enum values have it: `SERVED_BY`.
fn in_capitals(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(character.to_ascii_uppercase());
    }
    out
}

/// Finds a package that is not its folder, or has no version.
fn misplaced(file: &FileDescriptorProto) -> Vec<String> {
    let folder = file.name().rsplit_once('/').map_or("", |(folder, _)| folder).replace('/', ".");
    let mut violations = Vec::new();
    if file.package() != folder {
        violations.push(format!("{}: the package is {}", file.name(), file.package()));
    }
    if !file.package().ends_with(".v1") {
        violations.push(format!("{}: the package ends in no version", file.name()));
    }
    violations
}

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn everything_with_a_name_has_a_comment() {
    let contracts = fixture::contracts();
    assert!(contracts.file.iter().map(|file| named(file).len()).sum::<usize>() > 400);
    none(&contracts.file.iter().flat_map(uncommented).collect::<Vec<_>>());
}

#[test]
fn every_rpc_has_messages_of_its_own() {
    none(&shared_messages(&fixture::contracts()));
}

#[test]
fn every_zero_says_that_nothing_was_given() {
    none(&fixture::contracts().file.iter().flat_map(meaningful_zeros).collect::<Vec<_>>());
}

#[test]
fn every_package_is_its_folder() {
    none(&fixture::contracts().file.iter().flat_map(misplaced).collect::<Vec<_>>());
}

#[test]
fn a_missing_comment_is_found_wherever_it_is() {
    let bare = "service S { rpc Do(DoRequest) returns (DoResponse); }
        message DoRequest { string a = 1; optional string b = 2; map<string, string> c = 3; oneof d { string e = 4; } }
        message DoResponse { message Inner { string x = 1; } enum Kind { KIND_UNSPECIFIED = 0; } }
        enum Way { WAY_UNSPECIFIED = 0; }";
    let found = uncommented(&fixture::small(bare));
    let names: BTreeSet<&str> = found.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let wanted = [
        "S",
        "S.Do",
        "DoRequest",
        "DoRequest.a",
        "DoRequest.b",
        "DoRequest.c",
        "DoRequest.d",
        "DoRequest.e",
        "DoResponse",
        "DoResponse.Inner",
        "DoResponse.Inner.x",
        "DoResponse.Kind",
        "DoResponse.Kind.KIND_UNSPECIFIED",
        "Way",
        "Way.WAY_UNSPECIFIED",
    ];
    assert_eq!(names, wanted.into_iter().collect());
    let commented =
        fixture::small("// Says.\nmessage M {\n  // A name.\n  string name = 1;\n  //\n  string a = 2;\n}");
    assert_eq!(uncommented(&commented), ["a/v1/a.proto: M.a has no comment"]);
}

#[test]
fn a_shared_message_is_found() {
    let set = |rpcs: &str| {
        let text = format!(
            "package a.v1; import \"google/protobuf/empty.proto\";
            message DoRequest {{}} message DoResponse {{}} service S {{ {rpcs} }}"
        );
        shared_messages(&fixture::compiled("a/v1/a.proto", &text))
    };
    assert!(set("rpc Do(DoRequest) returns (DoResponse);").is_empty());
    assert_eq!(set("rpc Do(DoRequest) returns (google.protobuf.Empty);").len(), 1);
    let twice = set("rpc Do(DoRequest) returns (DoResponse); rpc Undo(DoRequest) returns (DoResponse);");
    assert!(twice.iter().any(|line| line == ".a.v1.DoRequest is in 2 places of rpcs"), "{twice:?}");
}

#[test]
fn a_zero_that_says_something_is_found() {
    let zeros = |text: &str| meaningful_zeros(&fixture::small(text)).len();
    assert_eq!(zeros("enum ServedBy { SERVED_BY_UNSPECIFIED = 0; }"), 0);
    assert_eq!(zeros("enum ServedBy { SERVED_BY_PATTERN = 0; }"), 1);
    assert_eq!(zeros("message M { enum Kind { UNSPECIFIED = 0; } }"), 1);
}

#[test]
fn a_package_outside_of_its_folder_is_found() {
    let misplaced = |path: &str, package: &str| misplaced(&fixture::compiled(path, package).file[0]).len();
    assert_eq!(misplaced("a/v1/a.proto", "package a.v1;"), 0);
    assert_eq!(misplaced("a/v1/a.proto", "package b.v1;"), 1);
    assert_eq!(misplaced("a/a.proto", "package a;"), 1);
}
