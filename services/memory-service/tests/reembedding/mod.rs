//! A namespace moves to another embedder, over the wire.

use contracts::memory::{memory_admin_service_client::MemoryAdminServiceClient, *};
use rpc::{Channel, Client as _, Code};

use crate::harness::{Service, fault, memory, recalled};

type Admin = MemoryAdminServiceClient<Channel>;

fn admin(service: &Service, token: Option<&str>) -> Admin {
    Admin::over(service.channel(token))
}

fn said(number: u32) -> Memory {
    memory(&number.to_string(), &format!("fees of pool {number} doubled"))
}

async fn remember(service: &Service, namespace: &str, memory: Memory) -> Result<(), tonic::Status> {
    let request =
        RememberRequest { memory: Some(memory), namespace: namespace.into(), ..RememberRequest::default() };
    service.client().remember(request).await.map(drop)
}

async fn begin(admin: &mut Admin, namespace: &str, embedder: &str) -> Result<Reembedding, tonic::Status> {
    let request = ReembedRequest { namespace: namespace.into(), embedder: embedder.into(), dimensions: 0 };
    Ok(admin.reembed(request).await?.into_inner().reembedding.unwrap())
}

async fn stands(admin: &mut Admin, namespace: &str) -> Result<Reembedding, tonic::Status> {
    let request = GetReembeddingRequest { namespace: namespace.into() };
    Ok(admin.get_reembedding(request).await?.into_inner().reembedding.unwrap())
}

async fn cancel(admin: &mut Admin, namespace: &str) -> Result<Reembedding, tonic::Status> {
    let request = CancelReembeddingRequest { namespace: namespace.into() };
    Ok(admin.cancel_reembedding(request).await?.into_inner().reembedding.unwrap())
}

/// Waits until the namespace is changed, and checks what is said on the way.
async fn changed(admin: &mut Admin, namespace: &str) -> Reembedding {
    let mut before = 0.0;
    loop {
        let now = stands(admin, namespace).await.unwrap();
        assert!(now.progress >= before && now.progress <= 1.0);
        assert!(now.start_time.is_some() && now.next_attempt.is_none() && now.failure.is_empty());
        match now.state() {
            ReembeddingState::Running => before = now.progress,
            ReembeddingState::Changed => return now,
            other => panic!("{other:?}"),
        }
    }
}

async fn found(service: &Service, namespace: &str, text: &str) -> Vec<String> {
    let query = Query { text: text.into(), limit: 1, ranking: Ranking::Vector.into(), ..Query::default() };
    let request = RecallRequest { query: Some(query), namespace: namespace.into() };
    let answer = service.client().recall(request).await.unwrap().into_inner();
    recalled(&answer).into_iter().map(str::to_owned).collect()
}

async fn length(service: &Service, namespace: &str, id: &str) -> usize {
    let request = GetRequest { id: id.into(), include_embedding: true, namespace: namespace.into() };
    service.client().get(request).await.unwrap().into_inner().memory.unwrap().embedding.len()
}

#[tokio::test]
async fn namespaces_move_to_another_embedder_which_then_becomes_that_of_the_settings() {
    let service = Service::with(|config| {
        config.memory_reembed_with = Some("hashing-64".into());
        config.memory_upkeep_batch = 4;
    })
    .await;
    let mut client = admin(&service, None);
    for namespace in ["", "n"] {
        for number in 0..30 {
            remember(&service, namespace, said(number)).await.unwrap();
        }
        let began = begin(&mut client, namespace, "hashing-64").await.unwrap();
        assert_eq!((began.dimensions, began.embedder.as_str()), (64, "hashing-64"));
        let done = changed(&mut client, namespace).await;
        assert_eq!((done.done, done.left, done.failures), (30, 0, 0));
        assert!((done.progress - 1.0).abs() < f64::EPSILON);
        assert_eq!(found(&service, namespace, "fees of pool 7 doubled").await, ["7"]);
        assert_eq!(length(&service, namespace, "7").await, 64);
        let again = begin(&mut client, namespace, "hashing-64").await.unwrap();
        assert_eq!(again, done, "safe to retry");
        assert_eq!(cancel(&mut client, namespace).await.unwrap(), done, "too late");
        remember(&service, namespace, said(30)).await.unwrap();
        let long = Memory { embedding: vec![1.0; 256], ..said(31) };
        let refused = remember(&service, namespace, long).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["memory.embedding".to_owned()]));
    }
    let listed = client.list_namespaces(ListNamespacesRequest {}).await.unwrap().into_inner().namespaces;
    let listed: Vec<_> = listed.iter().map(|one| (&*one.embedder, one.dimensions, one.memories)).collect();
    assert_eq!(listed, [("hashing-64", 64, 31); 2]);
    let (mut config, folder) = service.stop().await;
    config.memory_reembed_with = None;
    config.memory_embedder = "hashing-64".into();
    config.memory_dimensions = 64;
    let service = Service::open(config, folder).await;
    for namespace in ["", "n"] {
        assert_eq!(found(&service, namespace, "fees of pool 30 doubled").await, ["30"]);
    }
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reembedded_is_refused_and_says_why() {
    let service = Service::start().await;
    let mut client = admin(&service, None);
    for refused in [
        begin(&mut client, "n", "hashing-64").await,
        stands(&mut client, "n").await,
        cancel(&mut client, "n").await,
    ] {
        assert_eq!(fault(&refused.unwrap_err()).0, Code::NotFound);
    }
    remember(&service, "n", said(1)).await.unwrap();
    assert_eq!(fault(&stands(&mut client, "n").await.unwrap_err()).0, Code::NotFound, "it never was");
    for embedder in ["none", "minilm", "hashing-15"] {
        let refused = begin(&mut client, "n", embedder).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["embedder".to_owned()]), "{embedder}");
    }
    let request = ReembedRequest { namespace: "n".into(), embedder: String::new(), dimensions: 255 };
    let refused = client.reembed(request).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["dimensions".to_owned()]));
    let same = begin(&mut client, "n", "").await.unwrap();
    assert_eq!((same.state(), same.left), (ReembeddingState::Changed, 0), "it is of these vectors already");
    service.stop().await;
}

#[tokio::test]
async fn only_an_administrator_begins_and_cancels() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("a=one:agent,b=one:admin");
    })
    .await;
    let (mut agent, mut other) = (admin(&service, Some("a")), admin(&service, Some("b")));
    let request = RememberRequest { memory: Some(said(1)), ..RememberRequest::default() };
    service.client_of(Some("a")).remember(request).await.unwrap();
    for refused in [begin(&mut agent, "", "hashing-64").await, cancel(&mut agent, "").await] {
        assert_eq!(fault(&refused.unwrap_err()).0, Code::PermissionDenied);
    }
    begin(&mut other, "", "hashing-64").await.unwrap();
    assert_eq!(changed(&mut agent, "").await.done, 1);
    service.stop().await;
}
