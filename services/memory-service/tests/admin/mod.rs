//! Namespaces, and memories moved in and out, over the wire.

use contracts::memory::{memory_admin_service_client::MemoryAdminServiceClient, *};
use rpc::{Channel, Client as _, Code};

use crate::harness::{self, Service, fault, memory, recalled};

type Admin = MemoryAdminServiceClient<Channel>;

fn admin(service: &Service, token: Option<&str>) -> Admin {
    Admin::over(service.channel(token))
}

fn remembered(namespace: &str, memory: Memory) -> RememberRequest {
    RememberRequest { memory: Some(memory), namespace: namespace.into(), ..RememberRequest::default() }
}

fn named(name: &str, embedder: &str, dimensions: u32) -> CreateNamespaceRequest {
    let namespace =
        Namespace { name: name.into(), embedder: embedder.into(), dimensions, ..Namespace::default() };
    CreateNamespaceRequest { namespace: Some(namespace) }
}

async fn export(admin: &mut Admin, namespace: &str) -> Vec<u8> {
    let request = ExportMemoriesRequest { namespace: namespace.into() };
    let mut stream = admin.export_memories(request).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        lines.extend(part.lines);
    }
    lines
}

async fn import(
    admin: &mut Admin,
    namespace: &str,
    lines: &[u8],
) -> Result<ImportMemoriesResponse, tonic::Status> {
    // Cut where no line ends.
    let parts = lines
        .chunks(1_001)
        .map(|lines| ImportMemoriesRequest { namespace: namespace.into(), lines: lines.to_vec() });
    let stream = futures::stream::iter(parts.collect::<Vec<_>>());
    admin.import_memories(stream).await.map(tonic::Response::into_inner)
}

async fn found(service: &Service, namespace: &str) -> Vec<String> {
    let request = RecallRequest { namespace: namespace.into(), ..RecallRequest::default() };
    let answer = service.client().recall(request).await.unwrap().into_inner();
    recalled(&answer).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn namespaces_never_see_each_other() {
    let service = Service::start().await;
    let mut client = service.client();
    client.remember(remembered("", memory("same", "of the default one"))).await.unwrap();
    client.remember(remembered("scout", memory("same", "of the scout"))).await.unwrap();
    client.remember(remembered("scout", memory("more", "of the scout"))).await.unwrap();
    assert_eq!((found(&service, "").await.len(), found(&service, "scout").await.len()), (1, 2));
    assert!(found(&service, "nobody").await.is_empty());
    let forget = ForgetRequest { ids: vec!["same".into()], namespace: "scout".into() };
    assert_eq!(client.forget(forget).await.unwrap().into_inner().forgotten, 1);
    let get = GetRequest { id: "same".into(), ..GetRequest::default() };
    let kept = client.get(get).await.unwrap().into_inner().memory.unwrap();
    assert_eq!(kept.content, "of the default one");
    let stats = GetStatsRequest { namespace: "scout".into() };
    assert_eq!(client.get_stats(stats).await.unwrap().into_inner().memories, 1);
    let listed = admin(&service, None).list_namespaces(ListNamespacesRequest {}).await.unwrap().into_inner();
    let listed: Vec<_> = listed.namespaces.iter().map(|one| (&*one.name, one.memories)).collect();
    assert_eq!(listed, [("", 1), ("scout", 1)]);
    let long = remembered(&"n".repeat(129), memory("a", "a"));
    let refused = client.remember(long).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["namespace".to_owned()]));
}

#[tokio::test]
async fn a_namespace_keeps_to_its_embedder_and_dimensions_over_a_restart() {
    let service = Service::start().await;
    let made = admin(&service, None).create_namespace(named("small", "hashing-16", 0)).await.unwrap();
    assert!(made.get_ref().created);
    assert_eq!(made.into_inner().namespace.unwrap().dimensions, 16);
    admin(&service, None).create_namespace(named("brought", "none", 17)).await.unwrap();
    let service = service.restart().await;
    let mut client = service.client();
    let again = admin(&service, None).create_namespace(named("small", "hashing-16", 16)).await.unwrap();
    assert!(!again.into_inner().created);
    let other = admin(&service, None).create_namespace(named("small", "", 0)).await.unwrap_err();
    assert_eq!(fault(&other).0, Code::AlreadyExists);
    client.remember(remembered("small", memory("a", "gas is low"))).await.unwrap();
    let get = GetRequest { id: "a".into(), include_embedding: true, namespace: "small".into() };
    assert_eq!(client.get(get).await.unwrap().into_inner().memory.unwrap().embedding.len(), 16);
    let wrong = Memory { embedding: vec![1.0; 256], ..memory("b", "b") };
    let refused = client.remember(remembered("small", wrong)).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["memory.embedding".to_owned()]));
    let refused = client.remember(remembered("brought", memory("b", "b"))).await.unwrap_err();
    assert_eq!(fault(&refused).0, Code::FailedPrecondition, "nobody here makes its vectors");
    let brought = Memory { embedding: vec![1.0; 17], ..memory("b", "b") };
    client.remember(remembered("brought", brought)).await.unwrap();
    assert_eq!(found(&service, "brought").await, ["b"]);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_is_refused_by_the_name_of_the_field() {
    let service = Service::start().await;
    for (embedder, dimensions, field) in [
        ("minilm", 0, "embedder"),
        ("hashing-15", 0, "embedder"),
        ("hashing-16", 17, "dimensions"),
        ("none", 0, "dimensions"),
        ("none", 4_097, "dimensions"),
        ("", 255, "dimensions"),
    ] {
        let refused = admin(&service, None).create_namespace(named("n", embedder, dimensions)).await;
        let expected = (Code::InvalidArgument, vec![format!("namespace.{field}")]);
        assert_eq!(fault(&refused.unwrap_err()), expected, "{embedder} {dimensions}");
    }
}

#[tokio::test]
async fn a_dropped_namespace_is_gone_and_a_new_one_of_its_name_begins_empty() {
    let service = Service::start().await;
    let mut client = service.client();
    client.remember(remembered("n", memory("a", "a"))).await.unwrap();
    assert_eq!(found(&service, "n").await, ["a"], "and the query cache knows it");
    let drop = DropNamespaceRequest { name: "n".into() };
    let dropped = admin(&service, None).drop_namespace(drop.clone()).await.unwrap().into_inner();
    assert_eq!(dropped.memories, 1);
    assert!(found(&service, "n").await.is_empty());
    assert_eq!(fault(&admin(&service, None).drop_namespace(drop).await.unwrap_err()).0, Code::NotFound);
    client.remember(remembered("n", memory("b", "b"))).await.unwrap();
    assert_eq!(found(&service, "n").await, ["b"]);
    let service = service.restart().await;
    assert_eq!(found(&service, "n").await, ["b"]);
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let service = Service::start().await;
    let mut client = service.client();
    let full = Memory {
        pools: vec!["weth/usdc".into()],
        confidence: 0.5,
        metadata: [("a".to_owned(), "b \"quoted\"\n".to_owned())].into(),
        agent: "scout".into(),
        thread: "log".into(),
        position: Some(u64::MAX),
        expiration: Some(memory::Expiration::ExpireTime(harness::at(90))),
        claim: Some(Claim { subject: "gas".into(), field: "hour".into(), value: "4".into() }),
        ..memory("full", "ünïcode")
    };
    client.remember(remembered("", full)).await.unwrap();
    let many = (0..2_500).map(|number| memory(&number.to_string(), "the same")).collect::<Vec<_>>();
    for memories in many.chunks(1_000) {
        let batch = RememberBatchRequest { memories: memories.to_vec(), ..RememberBatchRequest::default() };
        client.remember_batch(batch).await.unwrap();
    }
    let lines = export(&mut admin(&service, None), "").await;
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 2_502);
    let done = import(&mut admin(&service, None), "copy", &lines).await.unwrap();
    assert_eq!((done.memories, done.replaced), (2_501, 0));
    assert_eq!(export(&mut admin(&service, None), "copy").await, lines, "nothing of them is lost");
    let done = import(&mut admin(&service, None), "copy", &lines).await.unwrap();
    assert_eq!((done.memories, done.replaced), (2_501, 2_501), "an id written again is replaced");
}

#[tokio::test]
async fn an_import_of_other_vectors_or_of_bad_lines_is_refused_by_its_line() {
    let service = Service::start().await;
    let mut admin = admin(&service, None);
    let header = export(&mut admin, "").await;
    admin.create_namespace(named("small", "hashing-16", 0)).await.unwrap();
    let refused = import(&mut admin, "small", &header).await.unwrap_err();
    assert_eq!(fault(&refused).0, Code::FailedPrecondition, "vectors of two makers are not mixed");
    for (lines, line) in [
        (&b"not json\n"[..], 2),
        (
            br#"{"id":"a","content":"c","category":"b"}
{"id":"b","content":"","category":"b"}"#,
            3,
        ),
        (br#"{"content":"c","category":"b","embedding":[1]}"#, 2),
    ] {
        let refused = import(&mut admin, "", &[&header, lines].concat()).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["lines".to_owned()]));
        let violations = rpc::Fault::from(&refused).violations()[0].must.clone();
        assert!(violations.starts_with(&format!("line {line} ")), "{violations}");
    }
    assert!(import(&mut admin, "", b"").await.is_err());
    assert!(found(&service, "").await.is_empty());
}

#[tokio::test]
async fn a_snapshot_is_taken_where_the_settings_say_and_nowhere_else() {
    let service = Service::start().await;
    let take = |name: &str| TakeSnapshotRequest { name: name.into() };
    let refused = admin(&service, None).take_snapshot(take("one")).await.unwrap_err();
    assert_eq!(fault(&refused).0, Code::FailedPrecondition);
    let folder = tempfile::tempdir().unwrap();
    let service =
        Service::with(|config| config.memory_snapshot_dir = Some(folder.path().join("snapshots"))).await;
    service.client().remember(remembered("n", memory("a", "a"))).await.unwrap();
    let taken = admin(&service, None).take_snapshot(take("one")).await.unwrap().into_inner();
    assert_eq!(taken.memories, 1);
    assert!(folder.path().join("snapshots").join("one").exists());
    let again = admin(&service, None).take_snapshot(take("one")).await.unwrap_err();
    assert_eq!(fault(&again).0, Code::AlreadyExists);
    for bad in ["", "../one", "a/b", ".one", "a b"] {
        let refused = admin(&service, None).take_snapshot(take(bad)).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["name".to_owned()]), "{bad}");
    }
    let snapshot = folder.path().join("snapshots").join("one");
    let restored = Service::with(|config| config.memory_restore = Some(snapshot)).await;
    assert_eq!(found(&restored, "n").await, ["a"]);
}

#[tokio::test]
async fn only_an_administrator_drops_and_takes_snapshots() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("a=one:agent,b=one:admin");
    })
    .await;
    let mut agent = admin(&service, Some("a"));
    agent.create_namespace(named("n", "", 0)).await.unwrap();
    let drop = DropNamespaceRequest { name: "n".into() };
    assert_eq!(fault(&agent.drop_namespace(drop.clone()).await.unwrap_err()).0, Code::PermissionDenied);
    let take = TakeSnapshotRequest { name: "s".into() };
    assert_eq!(fault(&agent.take_snapshot(take).await.unwrap_err()).0, Code::PermissionDenied);
    admin(&service, Some("b")).drop_namespace(drop).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_set_aside_loudly_and_the_service_goes_on() {
    let service = Service::start().await;
    service.client().remember(remembered("", memory("a", "a"))).await.unwrap();
    assert_eq!(service.part("store").await, Some(rpc::Serving::Yes));
    let (config, folder) = service.stop().await;
    let file = config.memory_dir.join("memory.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let service = Service::open(config, folder).await;
    assert_eq!(service.part("store").await, Some(rpc::Serving::No));
    assert!(found(&service, "").await.is_empty());
    service.client().remember(remembered("", memory("b", "b"))).await.unwrap();
    let service = service.restart().await;
    assert_eq!(found(&service, "").await, ["b"]);
    assert_eq!(service.part("store").await, Some(rpc::Serving::No), "until somebody has looked");
    let (config, folder) = service.stop().await;
    std::fs::remove_file(config.memory_dir.join("memory.redb.quarantine-1")).unwrap();
    let service = Service::open(config, folder).await;
    assert_eq!(service.part("store").await, Some(rpc::Serving::Yes));
}
