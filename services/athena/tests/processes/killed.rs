//! kill -9 in mid-cycle: the cycle ends in time and says what it lost, and nothing that was acknowledged is gone.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use athena::Service;
use contracts::{
    agent::{Completeness, Cycle, Stage},
    memory::{GetRequest, Memory, RememberRequest, memory_service_client::MemoryServiceClient},
    storage::{
        self, DocumentWrite, GetBucketsRequest, MetricSample, RecordMetricsRequest, Value, WriteMode,
        WriteRequest, storage_batcher_service_client::StorageBatcherServiceClient, value::Kind,
    },
};
use tokio::{sync::watch, task::JoinHandle};

use crate::harness::{Processes, assert_labelled};

/// What a writer was acknowledged so far, and what in all once its service is gone.
struct Writer<T> {
    so_far: watch::Receiver<u64>,
    in_all: JoinHandle<T>,
}

impl<T> Writer<T> {
    /// Waits until some is acknowledged.
    async fn wrote(&mut self) {
        self.so_far.wait_for(|count| *count >= 3).await.unwrap();
    }
}

/// Remembers one thing after the other until the service is gone; returns how many were acknowledged.
fn remember_until_gone(all: &Processes) -> Writer<u64> {
    let mut memory: MemoryServiceClient<_> = all.client(Service::MemoryService);
    let (tell, so_far) = watch::channel(0);
    let in_all = all.caller.spawn(async move {
        for number in 0.. {
            let remembered = Memory {
                id: format!("kept-{number}"),
                category: "test".to_owned(),
                content: format!("number {number}"),
                ..Memory::default()
            };
            if memory
                .remember(RememberRequest { memory: Some(remembered), ..RememberRequest::default() })
                .await
                .is_err()
            {
                return number;
            }
            tell.send_replace(number + 1);
        }
        unreachable!("the loop ends with the service")
    });
    Writer { so_far, in_all }
}

/// Writes documents and samples until the service is gone; returns how many of each were acknowledged.
fn write_until_gone(all: &Processes) -> Writer<(i64, Vec<SystemTime>)> {
    let mut storage: StorageBatcherServiceClient<_> = all.client(Service::StorageBatcher);
    let clock = clock::Clock::system();
    let (tell, so_far) = watch::channel(0);
    let in_all = all.caller.spawn(async move {
        let mut sampled = Vec::new();
        for number in 0.. {
            let value = Value { kind: Some(Kind::IntegerValue(number)) };
            let write = DocumentWrite {
                collection: "kept".to_owned(),
                document_id: format!("kept-{number}"),
                mode: WriteMode::Set.into(),
                fields: [("number".to_owned(), value)].into(),
                ..DocumentWrite::default()
            };
            if storage.write(WriteRequest { write: Some(write), ..Default::default() }).await.is_err() {
                return (number, sampled);
            }
            let time = clock.now();
            let sample = MetricSample {
                entity: "kept".to_owned(),
                time: Some(rpc::time::to_proto(time)),
                values: [("reading".to_owned(), 1.0)].into(),
            };
            let samples = RecordMetricsRequest { samples: vec![sample], ..RecordMetricsRequest::default() };
            if storage.record_metrics(samples).await.is_err() {
                return (number + 1, sampled);
            }
            sampled.push(time);
            tell.send_replace(sampled.len() as u64);
        }
        unreachable!("the loop ends with the service")
    });
    Writer { so_far, in_all }
}

fn completeness(cycle: &Cycle) -> BTreeMap<i32, Completeness> {
    cycle.stages.iter().map(|report| (report.stage, report.completeness())).collect()
}

/// Runs cycles until one is complete again: the orchestrator connects anew by itself.
async fn heal(all: &Processes) {
    for _ in 0..5 {
        let cycle = all.begin().await.unwrap();
        assert_labelled(&cycle);
        if cycle.completeness() == Completeness::Complete {
            return;
        }
        // Real time: a service that is back is found within about a second; cycles are minutes apart.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no cycle is complete again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_memory_service_costs_parts_of_cycles_and_nothing_acknowledged() {
    let mut all = Processes::start().await;
    let whole = all.begin().await.unwrap();
    assert_eq!(whole.completeness(), Completeness::Complete, "{:#?}", whole.stages);
    let mut remembering = remember_until_gone(&all);
    remembering.wrote().await;
    let cut = all.begin_and_reach_recall().await;
    all.kill(Service::MemoryService).await;
    assert_labelled(&cut.await.unwrap());
    let without = all.begin().await.unwrap();
    assert_labelled(&without);
    assert_eq!(without.completeness(), Completeness::Partial, "{:#?}", without.stages);
    assert_eq!(completeness(&without)[&Stage::Recall.into()], Completeness::Failed);
    all.restart(Service::MemoryService).await;
    let acknowledged = remembering.in_all.await.unwrap();
    assert!(acknowledged >= 3);
    let mut memory: MemoryServiceClient<_> = all.client(Service::MemoryService);
    for number in 0..acknowledged {
        let request = GetRequest { id: format!("kept-{number}"), ..GetRequest::default() };
        let kept = memory.get(request).await.unwrap().into_inner().memory.unwrap();
        assert_eq!(kept.content, format!("number {number}"));
    }
    heal(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_storage_batcher_costs_parts_of_cycles_and_nothing_acknowledged() {
    let mut all = Processes::start().await;
    let whole = all.begin().await.unwrap();
    assert_eq!(whole.completeness(), Completeness::Complete, "{:#?}", whole.stages);
    let mut writing = write_until_gone(&all);
    writing.wrote().await;
    let cut = all.begin_and_reach_recall().await;
    all.kill(Service::StorageBatcher).await;
    assert_labelled(&cut.await.unwrap());
    let without = all.begin().await.unwrap();
    assert_labelled(&without);
    assert_eq!(without.completeness(), Completeness::Partial, "{:#?}", without.stages);
    assert_eq!(completeness(&without)[&Stage::Store.into()], Completeness::Failed);
    all.restart(Service::StorageBatcher).await;
    let (written, sampled) = writing.in_all.await.unwrap();
    assert!(written >= 3 && sampled.len() >= 3);
    let mut storage: StorageBatcherServiceClient<_> = all.client(Service::StorageBatcher);
    for number in 0..written {
        let request =
            storage::GetRequest { collection: "kept".to_owned(), document_id: format!("kept-{number}") };
        let kept = storage.get(request).await.unwrap().into_inner().document.unwrap();
        assert_eq!(kept.fields["number"].kind, Some(Kind::IntegerValue(number)));
    }
    let request = GetBucketsRequest { entity: "kept".to_owned(), ..GetBucketsRequest::default() };
    let buckets = storage.get_buckets(request).await.unwrap().into_inner().buckets;
    let counted: u64 = buckets.iter().map(|bucket| bucket.aggregates["reading"].count.unwrap()).sum();
    assert!(counted >= sampled.len() as u64, "{counted} of {} samples", sampled.len());
    heal(&all).await;
}
