//! What a recall is ordered by, and what it says of it.

use contracts::memory::{memory_admin_service_client::MemoryAdminServiceClient, *};
use rpc::{Client as _, Code};

use crate::harness::{Service, at, memory, recalled};

fn ask(text: &str, ranking: Ranking) -> RecallRequest {
    let query = Query { text: text.into(), ranking: ranking.into(), ..Query::default() };
    RecallRequest { query: Some(query), ..RecallRequest::default() }
}

async fn filled() -> Service {
    let service = Service::start().await;
    let placed = |id: &str, text: &str, position| Memory {
        thread: "talk".into(),
        position: Some(position),
        ..memory(id, text)
    };
    let memories = vec![
        placed("question", "which instrument did you pick up", 1),
        placed("answer", "the cello", 2),
        Memory { pools: vec!["usdc-weth".into()], ..memory("about", "fees rose on monday") },
        Memory { time: Some(at(6_598_400)), ..memory("dated", "the barn burnt down") },
        Memory { importance: 1.0, ..memory("weighty", "nothing of note") },
    ];
    let batch = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    service.client().remember_batch(batch).await.unwrap();
    service
}

#[tokio::test]
async fn words_neighbours_entities_and_dates_speak_for_a_memory_part_by_part() {
    let service = filled().await;
    let mut client = service.client();
    let mut recall =
        async |text: &str| client.recall(ask(text, Ranking::Unspecified)).await.unwrap().into_inner();
    let parts = |answer: &RecallResponse, id: &str| {
        let found = answer.memories.iter().find(|found| found.memory.as_ref().unwrap().id == id).unwrap();
        (found.scores.unwrap(), found.score)
    };
    let answer = recall("which instrument is it?").await;
    assert_eq!(recalled(&answer)[..2], ["question", "answer"], "a neighbour lends its words");
    let ((question, _), (answered, _)) = (parts(&answer, "question"), parts(&answer, "answer"));
    assert!(question.text > answered.text && answered.text > 0.0);
    assert_eq!(parts(&answer, "weighty").0.text, 0.0);

    let answer = recall("how is USDC/WETH doing?").await;
    assert_eq!(recalled(&answer)[0], "about");
    assert_eq!((parts(&answer, "about").0.entity, parts(&answer, "dated").0.entity), (1.0, 0.0));

    let answer = recall("what happened on 31 August 2025?").await;
    assert_eq!(recalled(&answer)[0], "dated");
    assert_eq!(parts(&answer, "dated").0.period, 1.0);
    assert_eq!(parts(&answer, "weighty").0.importance, 1.0);
    assert_eq!(parts(&answer, "dated").0.importance, 0.5, "not stated");

    for found in &answer.memories {
        let Scores { vector, text, entity, period, importance, confidence, .. } = found.scores.unwrap();
        let sum = 0.7 * vector + text + 0.15 * entity + 0.2 * period + 0.1 * importance + 0.1 * confidence;
        assert!((found.score - sum / 2.25).abs() < 1e-6, "{found:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn what_counts_can_be_said() {
    let service = filled().await;
    let mut client = service.client();
    let mut request = ask("the cello", Ranking::Hybrid);
    request.query.as_mut().unwrap().weights = Some(Weights { importance: 1.0, ..Weights::default() });
    let answer = client.recall(request).await.unwrap().into_inner();
    assert_eq!(recalled(&answer)[0], "weighty");
    assert_eq!(answer.memories[0].score, 1.0);
    let by_text = client.recall(ask("cello", Ranking::Text)).await.unwrap().into_inner();
    assert_eq!(by_text.memories.len(), 5, "never fewer than there are");
    assert_eq!(recalled(&by_text)[..2], ["answer", "question"]);
    let by_ranks = client.recall(ask("cello", Ranking::Reciprocal)).await.unwrap().into_inner();
    assert_eq!(recalled(&by_ranks)[0], "answer");
    let newest = client.recall(ask("", Ranking::Newest)).await.unwrap().into_inner();
    assert!(newest.memories.iter().all(|found| found.scores.is_none() && found.score == 0.0));
    service.stop().await;
}

#[tokio::test]
async fn a_ranking_that_the_question_does_not_allow_is_refused() {
    let service = Service::start().await;
    let mut client = service.client();
    for (text, ranking) in [
        ("", Ranking::Hybrid),
        ("", Ranking::Vector),
        ("", Ranking::Text),
        ("", Ranking::Reciprocal),
        ("words", Ranking::Newest),
    ] {
        let refused = client.recall(ask(text, ranking)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("query.ranking"), "{refused:?}");
    }
    let mut request = ask("words", Ranking::Unspecified);
    request.query.as_mut().unwrap().ranking = 99;
    assert_eq!(client.recall(request).await.unwrap_err().code(), Code::InvalidArgument);
    let mut request = ask("words", Ranking::Unspecified);
    request.query.as_mut().unwrap().weights = Some(Weights { text: -1.0, ..Weights::default() });
    let refused = client.recall(request).await.unwrap_err();
    assert!(refused.message().contains("query.weights.text"), "{refused:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_namespace_may_compare_by_product_or_by_distance() {
    let service = Service::start().await;
    let mut admin = MemoryAdminServiceClient::over(service.channel(None));
    let mut client = service.client();
    for (metric, best) in [(Metric::Dot, "far"), (Metric::Euclidean, "near")] {
        let namespace = format!("{metric:?}");
        let made = Namespace { name: namespace.clone(), metric: metric.into(), ..Namespace::default() };
        admin.create_namespace(CreateNamespaceRequest { namespace: Some(made) }).await.unwrap();
        let along = |id: &str, length: f32| Memory {
            embedding: [vec![length], vec![0.0; 255]].concat(),
            ..memory(id, "text")
        };
        let memories = vec![along("near", 1.1), along("far", 7.0), along("against", -1.0)];
        let batch = RememberBatchRequest {
            memories,
            namespace: namespace.clone(),
            ..RememberBatchRequest::default()
        };
        client.remember_batch(batch).await.unwrap();
        let query = Query { embedding: along("", 1.0).embedding, ..Query::default() };
        let request = RecallRequest { query: Some(query), namespace: namespace.clone() };
        let answer = client.recall(request).await.unwrap().into_inner();
        assert_eq!(recalled(&answer)[0], best, "{metric:?}");
        assert!(answer.exact);

        let in_it = |ranking| RecallRequest { namespace: namespace.clone(), ..ask("text", ranking) };
        let refused = client.recall(in_it(Ranking::Hybrid)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let fused = client.recall(in_it(Ranking::Unspecified)).await.unwrap().into_inner();
        assert_eq!(fused.memories.len(), 3);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_start_from_a_checkpoint_finds_what_was_there_and_not_what_was_forgotten() {
    let service = Service::with(|config| config.memory_checkpoint_min = 1).await;
    let mut client = service.client();
    let memories = (0..40).map(|number| memory(&number.to_string(), &format!("word{number} barn"))).collect();
    let batch = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    client.remember_batch(batch).await.unwrap();
    drop(client);
    // The end writes the checkpoint, the next one a second, and in between a memory goes and another comes.
    let service = service.restart().await;
    let mut client = service.client();
    client.forget(ForgetRequest { ids: vec!["7".into()], ..ForgetRequest::default() }).await.unwrap();
    let newer = RememberRequest { memory: Some(memory("new", "word7 cello")), ..RememberRequest::default() };
    client.remember(newer).await.unwrap();
    let before = client.recall(ask("word7", Ranking::Hybrid)).await.unwrap().into_inner();
    drop(client);
    let service = service.restart().await;
    let after = service.client().recall(ask("word7", Ranking::Hybrid)).await.unwrap().into_inner();
    assert_eq!(after.memories, before.memories);
    assert_eq!((recalled(&after)[0], after.candidates), ("new", 40));
    let folder = service.folder().join("checkpoints");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    service.stop().await;
}
