//! Bad input: every rpc of the contracts, with every field of its request at every edge and beyond it, answers with the right code
//! and names the very field. The rpcs and fields come from the descriptor set, what a field may hold from the table of
//! [`tests::inputs`]: a field or an rpc without its cases fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use athena::Service;
use bytes::Bytes;
use contracts::storage::{
    WriteRefusal, WriteStreamRequest, storage_batcher_service_client::StorageBatcherServiceClient,
};
use http::HeaderMap;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rpc::{Client as _, Code, Fault, code_name};
use tests::{
    House,
    inputs::{self, Case, Verdict},
    wire::{Answer, Wire, frame},
};

use crate::frames::{self, Framed};

/// The largest message of the mesh that is asked: above the largest document, and quickly sent.
const LIMIT: usize = 4 << 20;

/// Codes with which an rpc answers a good request beside OK, since there is nothing of what is asked for, or it is there and
/// is another.
const ALSO: &[(&str, Code)] = &[
    ("athena.agent.v1.OrchestratorService.GetCycle", Code::NotFound),
    ("athena.llm.v1.PatternService.Reinstate", Code::NotFound),
    ("athena.llm.v1.PatternService.ReportOutcome", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.CancelReembedding", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.CreateNamespace", Code::AlreadyExists),
    ("athena.memory.v1.MemoryAdminService.DropNamespace", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.GetReembedding", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.Prune", Code::Aborted),
    ("athena.memory.v1.MemoryAdminService.Purge", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.Reembed", Code::NotFound),
    ("athena.memory.v1.MemoryAdminService.TakeSnapshot", Code::FailedPrecondition),
    ("athena.memory.v1.MemoryAdminService.Undo", Code::NotFound),
    ("athena.memory.v1.MemoryService.Get", Code::NotFound),
    ("athena.monitor.v1.MonitorService.GetTrace", Code::NotFound),
    ("athena.storage.v1.StorageBatcherService.Get", Code::NotFound),
];

/// A field that one rpc leaves to the caller though others need it.
const FREE_HERE: (&str, &str) = ("athena.llm.v1.PatternService.Evaluate", "observation id empty");

/// What was asked and what came of it.
#[derive(Debug, Default)]
struct Tally {
    rpcs: BTreeSet<String>,
    cases: usize,
    codes: BTreeMap<&'static str, usize>,
    violations: Vec<String>,
}

/// One rpc on a connection of its own.
struct Asked {
    method: MethodDescriptor,
    wire: Wire,
}

impl Asked {
    async fn at(address: SocketAddr, method: MethodDescriptor) -> Self {
        Self { method, wire: Wire::open(address).await.unwrap() }
    }

    async fn call(&self, headers: &HeaderMap, body: Bytes) -> anyhow::Result<Answer> {
        let path = format!("/{}/{}", self.method.parent_service().full_name(), self.method.name());
        self.wire.call(&path, headers, body, self.method.is_server_streaming()).await
    }

    /// Asks one case and notes what is wrong with the answer.
    async fn ask(
        &self,
        tally: &mut Tally,
        what: &str,
        headers: &HeaderMap,
        body: Bytes,
        right: impl Fn(&Answer) -> bool,
    ) {
        let answer = self.call(headers, body).await;
        tally.cases += 1;
        let name = self.method.full_name();
        tally.rpcs.insert(name.to_owned());
        match answer {
            Ok(answer) => {
                *tally.codes.entry(code_name(answer.code)).or_default() += 1;
                if !right(&answer) {
                    let Answer { code, message, fields } = answer;
                    tally.violations.push(format!("{name}: {what}: {code:?} {message:.200} {fields:?}"));
                }
            }
            Err(error) => tally.violations.push(format!("{name}: {what}: {error:#}")),
        }
    }

    /// Whether an answer is one to a good request.
    fn is_good(&self, answer: &Answer) -> bool {
        let also = ALSO.iter().any(|(name, code)| *name == self.method.full_name() && *code == answer.code);
        answer.code == Code::Ok || also
    }

    async fn ask_framed(&self, tally: &mut Tally, case: Framed) {
        let right = |answer: &Answer| match (case.code, case.names) {
            (None, _) => self.is_good(answer),
            (Some(code), None) => answer.code == code,
            (Some(code), Some(name)) => answer.code == code && answer.fields == [name],
        };
        self.ask(tally, &case.what, &case.headers, case.body.clone(), right).await;
    }

    async fn ask_case(&self, tally: &mut Tally, mut case: Case<Vec<u8>>) {
        if FREE_HERE == (self.method.full_name(), &case.what) {
            case.verdict = Verdict::Legal;
        }
        let names = |answer: &Answer, path: &str| {
            answer.code == Code::InvalidArgument && answer.fields.iter().any(|field| field == path)
        };
        let right = |answer: &Answer| match &case.verdict {
            Verdict::Legal => self.is_good(answer),
            Verdict::Garbled => answer.code == Code::InvalidArgument && answer.fields.is_empty(),
            Verdict::Wrong(path) => names(answer, path),
            Verdict::Beside(path) => names(answer, path),
        };
        let what = format!("{} ({:?})", case.what, case.verdict);
        self.ask(tally, &what, &HeaderMap::new(), frame(&case.value), right).await;
    }
}

fn methods() -> Vec<(Service, MethodDescriptor)> {
    let of = |service| inputs::methods(service).into_iter().map(move |method| (service, method));
    Service::ALL.into_iter().flat_map(of).collect()
}

fn conversations() -> impl Iterator<Item = MethodDescriptor> {
    Service::ALL.into_iter().flat_map(inputs::conversations)
}

async fn house(settings: &[(&str, &str)]) -> House {
    let all = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
    House::with(all.chain([("max_message_bytes", LIMIT.to_string())])).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_input_is_answered_with_its_code_and_its_field() {
    let house = house(&[]).await;
    let mut tally = Tally::default();
    for (service, method) in methods() {
        let asked = Asked::at(house.mesh.address(service), method).await;
        let good = inputs::good(&asked.method.input());
        for case in inputs::cases(&asked.method) {
            asked.ask_case(&mut tally, case).await;
        }
        for case in frames::frames(&good, LIMIT).into_iter().chain(frames::headers(&good)) {
            asked.ask_framed(&mut tally, case).await;
        }
        let clear = |answer: &Answer| match answer.code {
            Code::InvalidArgument => !answer.fields.is_empty(),
            _ => asked.is_good(answer),
        };
        asked.ask(&mut tally, "an empty message", &HeaderMap::new(), frame(&[]), clear).await;
    }
    println!("{} rpcs, {} cases: {:?}", tally.rpcs.len(), tally.cases, tally.codes);
    assert!(
        tally.violations.is_empty(),
        "{} wrong:\n{}",
        tally.violations.len(),
        tally.violations.join("\n")
    );
    assert_eq!(tally.rpcs.len(), methods().len());
    assert!(tally.cases >= 3_000, "only {} cases", tally.cases);
    house.close().await.unwrap();
}

/// Sends each of `requests` on a stream of their own and returns the refusals by number, with how the stream ended.
async fn streamed(
    client: &mut StorageBatcherServiceClient<rpc::Channel>,
    requests: Vec<WriteStreamRequest>,
) -> (BTreeMap<u64, WriteRefusal>, Option<tonic::Status>) {
    let answers = client.write_stream(futures::stream::iter(requests)).await.unwrap();
    let (mut answers, mut refusals) = (answers.into_inner(), BTreeMap::new());
    loop {
        match answers.message().await {
            Ok(Some(answer)) => refusals.extend(
                answer.outcomes.into_iter().filter_map(|outcome| Some((outcome.number, outcome.refusal?))),
            ),
            Ok(None) => return (refusals, None),
            Err(status) => return (refusals, Some(status)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_write_of_a_stream_is_answered_by_its_number_with_its_field_and_ends_no_other() {
    let house = house(&[]).await;
    let mut client = StorageBatcherServiceClient::over(house.mesh.channel(Service::StorageBatcher).unwrap());
    let methods: Vec<_> = conversations().collect();
    let [method] = &methods[..] else { panic!("there are {} conversations", methods.len()) };
    let (mut numbers, mut writes) = (Vec::new(), Vec::new());
    for case in inputs::cases(method).into_iter().filter(|case| case.verdict != Verdict::Garbled) {
        let request = WriteStreamRequest::decode(&*case.value).unwrap();
        let is_numbered = case.what.starts_with("number ");
        (if is_numbered { &mut numbers } else { &mut writes }).push((case.what, request, case.verdict));
    }
    assert!(numbers.len() >= 2 && writes.len() >= 40, "{} {}", numbers.len(), writes.len());
    for (what, request, verdict) in numbers {
        let (refusals, status) = streamed(&mut client, vec![request]).await;
        let fields = status.map(|status| Fault::from(&status).violations().to_vec()).unwrap_or_default();
        let named = fields.iter().any(|violation| violation.field == "number");
        assert_eq!(named, verdict != Verdict::Legal, "{what}: {fields:?} {refusals:?}");
    }
    for ((_, request, _), number) in writes.iter_mut().zip(1..) {
        request.number = number;
    }
    let requests = writes.iter().map(|(_, request, _)| request.clone()).collect();
    let (refusals, status) = streamed(&mut client, requests).await;
    assert!(status.is_none(), "{status:?}");
    for (what, request, verdict) in writes {
        let refusal = refusals.get(&request.number);
        let is_right = match &verdict {
            Verdict::Legal => refusal.is_none(),
            Verdict::Wrong(path) => names(refusal, path),
            Verdict::Beside(path) => names(refusal, path),
            Verdict::Garbled => false,
        };
        assert!(is_right, "{what} ({verdict:?}): {refusal:?}");
    }
    house.close().await.unwrap();
}

fn names(refusal: Option<&WriteRefusal>, path: &str) -> bool {
    refusal.is_some_and(|refusal| {
        refusal.code == "INVALID_ARGUMENT" && refusal.fields.iter().any(|wrong| wrong.field == path)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_its_token_is_told_so_by_every_rpc() {
    let house = house(&[("auth_tokens", "token=acme:admin")]).await;
    let mut tally = Tally::default();
    for (service, method) in methods() {
        let asked = Asked::at(house.mesh.address(service), method).await;
        let good = inputs::good(&asked.method.input());
        for case in frames::callers(&good) {
            asked.ask_framed(&mut tally, case).await;
        }
    }
    println!("{} rpcs, {} cases: {:?}", tally.rpcs.len(), tally.cases, tally.codes);
    assert!(tally.violations.is_empty(), "{}", tally.violations.join("\n"));
    house.close().await.unwrap();
}

#[test]
fn every_field_of_every_request_has_its_cases_and_every_case_its_field() {
    let known = inputs::names();
    let every = || methods().into_iter().map(|(_, method)| method).chain(conversations());
    let found: Vec<String> = every().flat_map(|method| inputs::fields(&method.input())).collect();
    assert_eq!(amiss(&found, &known), Vec::<String>::new());
    assert_eq!(known.iter().collect::<BTreeSet<_>>().len(), known.len(), "a field is in the table twice");
    let all: BTreeSet<String> = every().map(|method| method.full_name().to_owned()).collect();
    let exceptions = ALSO.iter().map(|(name, _)| *name).chain(inputs::NESTING).chain([FREE_HERE.0]);
    assert_eq!(
        exceptions.filter(|name| !all.contains(*name)).count(),
        0,
        "an rpc is named that is not there"
    );
}

#[test]
fn a_field_without_cases_is_found_and_so_are_cases_without_a_field() {
    let text =
        "message DoRequest { Inner inner = 1; map<string, Inner> more = 2; oneof way { string a = 3; } }
        message Inner { repeated DoRequest back = 1; }";
    let set = crate::fixture::compiled("athena/a/v1/a.proto", &format!("package athena.a.v1;\n{text}"));
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    let found = inputs::fields(&pool.get_message_by_name("athena.a.v1.DoRequest").unwrap());
    let names = ["DoRequest.inner", "Inner.back", "DoRequest.more", "DoRequest.a"];
    assert_eq!(found, names.map(|name| format!("athena.a.v1.{name}")));
    assert!(amiss(&found, &found).is_empty());
    let known = [found.clone(), vec!["athena.a.v1.DoRequest.gone".to_owned()]].concat();
    assert_eq!(amiss(&found, &known), ["athena.a.v1.DoRequest.gone is in no request"]);
    assert_eq!(amiss(&found, &found[1..]), ["athena.a.v1.DoRequest.inner has no cases: add it to the table"]);
}

/// Compares the fields of the contracts with those of the table.
fn amiss(found: &[String], known: &[String]) -> Vec<String> {
    let (found, known): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), known.iter().collect());
    let without = found.difference(&known).map(|name| format!("{name} has no cases: add it to the table"));
    let gone = known.difference(&found).map(|name| format!("{name} is in no request"));
    without.chain(gone).collect()
}
