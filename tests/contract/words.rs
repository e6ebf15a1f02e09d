//! What the comments and names of the contracts must say.

use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, field_descriptor_proto::Type};
use tonic::Code;

use crate::fixture;

/// Numbers of `google/protobuf/descriptor.proto`: the services of a file, the methods of a service.
const SERVICE: i32 = 6;
const METHOD: i32 = 2;
/// What says whether a call may be repeated.
const RETRY: &str = "afe to retry";
/// Words of names that count time or money, and the ends that say in what.
const COUNTS: [(&[&str], &[&str]); 2] = [
    (
        &["age", "delay", "duration", "elapsed", "interval", "latency", "lifetime", "timeout", "ttl"],
        &["_hours", "_minutes", "_ms", "_seconds", "_us"],
    ),
    (
        &["cost", "price", "saved"],
        &["_aggregation", "_documents", "_folding", "_packing", "_unchanged", "_usd", "_usd_per_mtok"],
    ),
];

fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let info = file.source_code_info.clone().unwrap_or_default();
    let found = info.location.into_iter().find(|location| location.path == path);
    found.map_or_else(String::new, |location| location.leading_comments().to_owned())
}

/// Finds services that name no status codes, and rpcs that do not say whether they may be repeated.
fn silent(file: &FileDescriptorProto) -> Vec<String> {
    let codes: Vec<String> = (1..=16).map(|code| format!("{:?}", Code::from(code)).to_uppercase()).collect();
    let names_codes = |text: &str| {
        let words = text.split(|next: char| !next.is_ascii_uppercase() && next != '_');
        words.map(|word| word.replace('_', "")).any(|word| codes.contains(&word))
    };
    let mut violations = Vec::new();
    for (at, service) in (0..).zip(&file.service) {
        if !names_codes(&comment(file, &[SERVICE, at])) {
            violations.push(format!("{}: {} names no status codes", file.name(), service.name()));
        }
        for (method_at, method) in (0..).zip(&service.method) {
            if !comment(file, &[SERVICE, at, METHOD, method_at]).contains(RETRY) {
                violations.push(format!(
                    "{}: {} does not say whether it is s{RETRY}",
                    file.name(),
                    method.name()
                ));
            }
        }
    }
    violations
}

/// Finds numbers of time or money without their unit in the name.
fn unitless(file: &FileDescriptorProto) -> Vec<String> {
    fn fields(message: &DescriptorProto) -> Vec<&FieldDescriptorProto> {
        message.field.iter().chain(message.nested_type.iter().flat_map(fields)).collect()
    }
    let is_unitless = |field: &&FieldDescriptorProto| {
        let is_number =
            !matches!(field.r#type(), Type::Message | Type::String | Type::Enum | Type::Bool | Type::Bytes);
        let is_count = |words: &[&str]| field.name().split('_').any(|word| words.contains(&word));
        let ends = |ends: &[&str]| ends.iter().any(|end| field.name().ends_with(end));
        is_number && COUNTS.iter().any(|(words, units)| is_count(words) && !ends(units))
    };
    let all = file.message_type.iter().flat_map(fields);
    all.filter(is_unitless).map(|field| format!("{}: {} has no unit", file.name(), field.name())).collect()
}

#[test]
fn every_rpc_says_how_it_fails_and_whether_it_may_be_repeated() {
    let found: Vec<String> = fixture::contracts().file.iter().flat_map(silent).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_number_of_time_or_money_has_its_unit() {
    let found: Vec<String> = fixture::contracts().file.iter().flat_map(unitless).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_silent_contract_is_found() {
    let file = |service: &str, rpc: &str| {
        fixture::small(&format!(
            "// {service}\nservice S {{\n  // {rpc}\n  rpc Do(DoRequest) returns (DoResponse);\n}}\nmessage DoRequest {{}}\nmessage DoResponse {{}}\n"
        ))
    };
    assert!(silent(&file("Fails with NOT_FOUND.", "Not safe to retry.")).is_empty());
    assert_eq!(silent(&file("Fails with NOTHING.", "Not safe to retry.")).len(), 1);
    assert_eq!(silent(&file("Fails with INVALID_ARGUMENT.", "Does it again.")).len(), 1);
}

#[test]
fn a_number_without_a_unit_is_found() {
    let sound = "message M { google.protobuf.Duration timeout = 1; uint32 wait_timeout_ms = 2; double cost_usd = 3; uint32 pages = 4; }";
    let import = "import \"google/protobuf/duration.proto\";\n";
    let unitless = |text: &str| {
        let set = fixture::compiled("a/v1/a.proto", &format!("package a.v1;\n{import}{text}"));
        set.file.iter().filter(|file| file.package() == "a.v1").flat_map(unitless).count()
    };
    assert_eq!(unitless(sound), 0);
    assert_eq!(unitless("message M { message N { uint32 timeout = 1; } double max_cost = 2; }"), 2);
}
