use contracts::memory::{Memory, RememberRequest};
use rpc::{Code, HostSettings};

use crate::bystander::{Bystander, Running};

fn memory(bytes: usize) -> RememberRequest {
    let memory = Memory { content: "x".repeat(bytes), ..Memory::default() };
    RememberRequest { memory: Some(memory), ..RememberRequest::default() }
}

#[tokio::test]
async fn messages_up_to_the_limit_of_the_settings_are_taken() {
    let host = Running::start("memory", Bystander::telling().0);
    // Over tonic's own limit of 4 MiB.
    host.memory().remember(memory(5 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_larger_message_is_refused() {
    let max_message_bytes = config::ByteSize::new(64 << 10);
    let settings = HostSettings { max_message_bytes, ..HostSettings::defaults() };
    let host = Running::start_with("memory", &settings, Bystander::telling().0, |host| host);
    let status = host.memory().remember(memory(65 << 10)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}
