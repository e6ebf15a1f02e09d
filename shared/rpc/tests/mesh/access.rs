use config::Secret;
use contracts::memory::{RecallRequest, memory_service_client::MemoryServiceClient};
use rpc::{Caller, Channel, ChannelOptions, Client as _, Code, Fault, HostSettings, Role};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::bystander::{Bystander, Running};

fn guarded() -> HostSettings {
    let auth_tokens = Secret::new("agent-token=acme:agent,admin-token=zeta:admin");
    HostSettings { auth_tokens, ..HostSettings::defaults() }
}

fn client(host: &Running, token: Option<&str>) -> MemoryServiceClient<Channel> {
    let options = ChannelOptions { token: token.map(Secret::new), ..ChannelOptions::default() };
    MemoryServiceClient::over(host.channel_with(options))
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_unauthenticated() {
    let host = Running::start_with("memory", &guarded(), Bystander::telling().0, |host| host);
    for token in [None, Some("wrong-token"), Some("agent-toke")] {
        let status = client(&host, token).recall(RecallRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token:?}");
        assert_eq!(Fault::from(&status).reason_word(), Some("TOKEN_REQUIRED"));
    }
}

#[tokio::test]
async fn the_tenant_comes_from_the_token() {
    let (bystander, mut seen) = Bystander::telling();
    let host = Running::start_with("memory", &guarded(), bystander, |host| host);
    for (token, caller) in
        [("agent-token", Caller::new("acme", Role::Agent)), ("admin-token", Caller::new("zeta", Role::Admin))]
    {
        client(&host, Some(token)).recall(RecallRequest::default()).await.unwrap();
        assert_eq!(seen.recv().await.unwrap().caller, caller);
    }
}

#[tokio::test]
async fn without_tokens_a_local_caller_is_the_default_tenants_admin() {
    let (bystander, mut seen) = Bystander::telling();
    let host = Running::start("memory", bystander);
    client(&host, None).recall(RecallRequest::default()).await.unwrap();
    assert_eq!(seen.recv().await.unwrap().caller, Caller::new("default", Role::Admin));
}

#[tokio::test]
async fn the_callers_token_is_sent_on() {
    let (last, mut seen) = Bystander::telling();
    let last = Running::start_with("last", &guarded(), last, |host| host);
    // The channel's own token is another tenant's: it must not be used for somebody's call.
    let next = client(&last, Some("admin-token"));
    let first = Running::start_with(
        "first",
        &guarded(),
        Bystander::new(move |_| {
            let mut next = next.clone();
            async move {
                next.recall(RecallRequest::default()).await.unwrap();
                Ok(())
            }
        }),
        |host| host,
    );
    client(&first, Some("agent-token")).recall(RecallRequest::default()).await.unwrap();
    assert_eq!(&*seen.recv().await.unwrap().caller.tenant, "acme");
}

#[tokio::test]
async fn a_caller_without_a_token_is_not_lent_the_channels_own() {
    let last = Running::start_with("last", &guarded(), Bystander::telling().0, |host| host);
    let next = client(&last, Some("admin-token"));
    // Nobody has to bring a token to the first host, but the last one asks for one.
    let first = Bystander::new(move |_| {
        let mut next = next.clone();
        async move {
            let status = next.recall(RecallRequest::default()).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            Ok(())
        }
    });
    let first = Running::start("first", first);
    client(&first, None).recall(RecallRequest::default()).await.unwrap();
}

#[tokio::test]
async fn probes_need_no_token_and_other_content_types_do_not_go_around_it() {
    let (bystander, mut seen) = Bystander::telling();
    let host = Running::start_with("memory", &guarded(), bystander, |host| host);
    HealthClient::new(host.channel()).check(HealthCheckRequest::default()).await.unwrap();
    let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\ncontent-type: text/plain";
    let answer = host.http1(head, &[0; 5]).await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    let open = Running::start("memory", Bystander::telling().0);
    assert!(open.http1(head, &[0; 5]).await.starts_with("HTTP/1.1 415 "), "a page of a browser is let in");
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn a_host_that_anyone_could_call_is_not_bound() {
    let settings = HostSettings { bind_address: [0, 0, 0, 0].into(), ..HostSettings::defaults() };
    let bind = |settings: &HostSettings| {
        rpc::Host::bind(settings, 0, telemetry::Telemetry::silent("memory"), clock::Clock::system())
    };
    assert!(matches!(bind(&settings), Err(rpc::Error::Unprotected { .. })));
    assert!(bind(&HostSettings { allow_anonymous: true, ..settings.clone() }).is_ok());
    assert!(bind(&HostSettings { auth_tokens: Secret::new("t=acme:agent"), ..settings }).is_ok());
}

#[tokio::test]
async fn wrong_fields_reach_the_caller_as_details() {
    let picky = |_| std::future::ready(Err(Fault::invalid("query.limit", "must be at most 1000")));
    let host = Running::start("memory", Bystander::new(picky));
    let status = client(&host, None).recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(Fault::of(&status), (Code::InvalidArgument, "query.limit must be at most 1000"));
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "query.limit");
    assert_eq!(violations[0].description, "must be at most 1000");
}
