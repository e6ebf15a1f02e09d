//! Firestore, or its emulator: one `BatchWrite` a batch, one status a write; one atomic `Commit` for what must not come twice, with a
//! ledger document that only the first can make. ALREADY_EXISTS then says that an earlier one arrived, whose answer was lost.
//!
//! Documents of the tenant `default` lie at the root of the database, `{collection}/{id}`; those of any other tenant below
//! `tenants/{tenant}/{collection}/{id}`. A merge travels with a mask of its paths, a set without a mask, and transforms with either.
//!
//! Which failures come back: a status of one write decides that write alone. A request refused as a whole for its content is halved
//! until the guilty write is alone, and if every write of it is refused so, nothing is decided; any other whole refusal (network, quota, credentials) is the sink's state and not the writes'
//! fault, so all of them stay in the journal.

mod client;
mod wire;

use std::{sync::Arc, time::Duration};

use ::firestore::{
    FirestoreDb,
    gcloud_sdk::google::{firestore::v1, rpc::Status},
};
use clock::Clock;
use futures::future::BoxFuture;
use rpc::Code;
use tokio::sync::OnceCell;

use crate::{
    document::{Fields, Key},
    queue::Entry,
    sink::{Cause, MAX_PAGE_BYTES, Page, Range, Sink, Unreachable, Verdict, bisect::Bisect},
};

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Google Cloud project.
    pub project: String,
    /// The database within it; Firestore's first one is `(default)`.
    pub database: String,
    /// The emulator's address, such as `127.0.0.1:8080`; `None` for Google's own service, with the application default credentials.
    pub emulator: Option<String>,
    /// Longest wait for one answer, connecting included.
    pub timeout: Duration,
    /// How long a ledger document is kept at least.
    pub ledger_retention: Duration,
}

/// Sends documents to Firestore.
pub struct Firestore {
    options: Options,
    clock: Clock,
    // Connected by the first call that needs it: the service starts while Firestore is away.
    database: OnceCell<FirestoreDb>,
}

impl Firestore {
    /// Makes a sink; it connects with its first request.
    #[must_use]
    pub fn new(options: Options, clock: Clock) -> Self {
        Self { options, clock, database: OnceCell::new() }
    }

    async fn database(&self) -> Result<&FirestoreDb, Unreachable> {
        let connect = self.database.get_or_try_init(|| client::connect(&self.options));
        self.within(connect).await?.map_err(Unreachable::refused)
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Unreachable> {
        tokio::time::timeout(self.options.timeout, work).await.map_err(|_| Unreachable {
            reason: format!("no answer within {:?}", self.options.timeout),
            cause: Cause::Away,
            lost: true,
            damaged: false,
        })
    }

    /// Sends `writes` as one request; answers with its reason if it was refused as a whole for its content.
    async fn request(
        &self,
        database: &FirestoreDb,
        writes: &[v1::Write],
    ) -> Result<Result<Vec<Verdict>, String>, Unreachable> {
        let request = v1::BatchWriteRequest {
            database: database.get_database_path().clone(),
            writes: writes.to_vec(),
            ..Default::default()
        };
        let mut client = database.client().get();
        match self.within(client.batch_write(request)).await? {
            Ok(answer) => {
                let statuses = answer.into_inner().status;
                if statuses.len() != writes.len() {
                    let reason = format!("{} statuses for {} writes", statuses.len(), writes.len());
                    return Err(Unreachable { reason, cause: Cause::Away, lost: true, damaged: false });
                }
                let judge = |status: Status| verdict(Code::from(status.code), status.message);
                Ok(Ok(statuses.into_iter().map(judge).collect()))
            }
            Err(status) if blames_content(status.code()) => {
                Ok(Err(client::describe(status.code(), status.message())))
            }
            Err(status) => Err(Unreachable {
                reason: client::describe(status.code(), status.message()),
                cause: cause_of_all(status.code()),
                lost: may_be_applied(status.code()) && !client::never_connected(&status),
                damaged: false,
            }),
        }
    }

    /// Sends `writes` as one commit with the ledger document `id`.
    async fn commit(
        &self,
        database: &FirestoreDb,
        mut writes: Vec<v1::Write>,
        id: &str,
    ) -> Result<Vec<Verdict>, Unreachable> {
        let count = writes.len();
        let expires = self.clock.now() + self.options.ledger_retention;
        writes.insert(0, wire::ledger(database.get_documents_path(), id, expires));
        let request = v1::CommitRequest {
            database: database.get_database_path().clone(),
            writes,
            ..Default::default()
        };
        let mut client = database.client().get();
        let status = match self.within(client.commit(request)).await? {
            Ok(_) => return Ok(vec![Verdict::Accepted; count]),
            // Nothing else of the request can be there and must not: an earlier one arrived.
            Err(status) if status.code() == Code::AlreadyExists => return Ok(vec![Verdict::Accepted; count]),
            Err(status) => status,
        };
        let reason = client::describe(status.code(), status.message());
        if blames_content(status.code()) {
            return Ok(vec![Verdict::Refused(reason); count]);
        }
        Err(Unreachable { cause: cause_of_all(status.code()), ..Unreachable::refused(reason) })
    }

    /// Sends `writes`; halves a request that is refused for its content.
    async fn deliver(
        &self,
        database: &FirestoreDb,
        writes: &[v1::Write],
    ) -> Result<Vec<Verdict>, Unreachable> {
        let mut bisect = Bisect::new(writes.len());
        while let Some(part) = bisect.next_part() {
            match self.request(database, writes.get(part.clone()).unwrap_or_default()).await {
                Ok(Ok(told)) => bisect.answered(part, told),
                Ok(Err(reason)) => bisect.refused(part, reason),
                Err(error) => bisect.lost(error)?,
            }
        }
        bisect.end()
    }

    async fn read(&self, key: &Key) -> Result<Option<Fields>, Unreachable> {
        let database = self.database().await?;
        let request = v1::GetDocumentRequest {
            name: wire::document_name(database.get_documents_path(), key),
            ..Default::default()
        };
        let mut client = database.client().get();
        match self.within(client.get_document(request)).await? {
            Ok(document) => Ok(Some(wire::fields_from(document.into_inner().fields))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(Unreachable::refused(client::describe(status.code(), status.message()))),
        }
    }

    async fn query(&self, range: &Range) -> Result<Page, Unreachable> {
        let database = self.database().await?;
        let request = wire::query(database.get_documents_path(), range);
        let mut client = database.client().get();
        let failed = |code: Code, message: &str| Unreachable::refused(client::describe(code, message));
        let mut answers = match self.within(client.run_query(request)).await? {
            Ok(answers) => answers.into_inner(),
            Err(status) => return Err(failed(status.code(), status.message())),
        };
        let mut page = Page::default();
        let mut bytes = 0;
        loop {
            let document = match self.within(answers.message()).await? {
                Ok(None) => return Ok(page),
                Ok(Some(answer)) => answer.document,
                Err(status) => return Err(failed(status.code(), status.message())),
            };
            let Some(document) = document else { continue };
            if page.documents.len() >= range.limit || bytes > MAX_PAGE_BYTES {
                page.more = true;
                return Ok(page);
            }
            let id = document.name.rsplit('/').next().unwrap_or_default().into();
            let fields = wire::fields_from(document.fields);
            bytes += crate::document::size_of_fields(&fields);
            page.documents.push((id, fields));
        }
    }
}

impl std::fmt::Debug for Firestore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firestore").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Sink for Firestore {
    fn name(&self) -> &'static str {
        "firestore"
    }

    fn needs_ledger(&self) -> bool {
        true
    }

    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        ledger: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        Box::pin(async move {
            let database = self.database().await?;
            let root = database.get_documents_path();
            let writes: Vec<_> = writes.iter().map(|entry| wire::write(root, entry)).collect();
            if let Some(id) = ledger {
                return self.commit(database, writes, id).await;
            }
            self.deliver(database, &writes).await
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        Box::pin(self.read(key))
    }

    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        Box::pin(self.query(range))
    }
}

/// Judges the status of one write.
fn verdict(code: Code, message: String) -> Verdict {
    match (code, cause(code)) {
        (Code::Ok, _) => Verdict::Accepted,
        (_, Some(cause)) => Verdict::Retry(cause, client::describe(code, &message)),
        (_, None) => Verdict::Refused(client::describe(code, &message)),
    }
}

/// Returns why a write that was answered with `code` is sent again; `None` if it never will be taken.
///
/// Firestore's error codes: <https://cloud.google.com/firestore/docs/use-rest-api#error_codes>. Writes carry no preconditions, so NOT_FOUND
/// and FAILED_PRECONDITION speak of the database.
fn cause(code: Code) -> Option<Cause> {
    match code {
        Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable => Some(Cause::Away),
        Code::Aborted => Some(Cause::Contention),
        Code::ResourceExhausted => Some(Cause::Quota),
        Code::FailedPrecondition | Code::NotFound | Code::PermissionDenied | Code::Unauthenticated => {
            Some(Cause::Setup)
        }
        Code::Internal | Code::Unknown | Code::DataLoss => Some(Cause::Fault),
        _ => None,
    }
}

/// Returns why a request that was answered with `code` as a whole is sent again. No write of it is to blame.
fn cause_of_all(code: Code) -> Cause {
    match cause(code) {
        Some(Cause::Fault) => Cause::Away,
        Some(cause) => cause,
        None => Cause::Setup,
    }
}

/// Returns whether a request was refused for what it holds.
fn blames_content(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::OutOfRange)
}

/// Returns whether a request that failed so may have been applied.
fn may_be_applied(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::Unknown
    )
}

#[cfg(test)]
mod tests {
    use rpc::Code;

    use super::{Cause, Verdict, blames_content, cause_of_all, may_be_applied, verdict};

    #[test]
    fn a_busy_or_absent_sink_is_asked_again_and_a_bad_document_is_not() {
        let classes = [
            (Cause::Contention, &[Code::Aborted][..]),
            (Cause::Quota, &[Code::ResourceExhausted]),
            (Cause::Away, &[Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled]),
            (
                Cause::Setup,
                &[Code::NotFound, Code::PermissionDenied, Code::Unauthenticated, Code::FailedPrecondition],
            ),
            (Cause::Fault, &[Code::Internal, Code::Unknown, Code::DataLoss]),
        ];
        for (class, codes) in classes {
            for code in codes {
                assert!(
                    matches!(verdict(*code, String::new()), Verdict::Retry(cause, _) if cause == class),
                    "{code:?}"
                );
                let of_all = if class == Cause::Fault { Cause::Away } else { class };
                assert_eq!(cause_of_all(*code), of_all, "no write is to blame for a request");
            }
        }
        for code in [Code::InvalidArgument, Code::OutOfRange, Code::AlreadyExists, Code::Unimplemented] {
            assert!(matches!(verdict(code, String::new()), Verdict::Refused(_)), "{code:?}");
        }
        assert_eq!(verdict(Code::Ok, String::new()), Verdict::Accepted);
    }

    #[test]
    fn missing_credentials_are_not_the_documents_fault() {
        assert!(!blames_content(Code::Unauthenticated) && !blames_content(Code::PermissionDenied));
        assert!(!may_be_applied(Code::Unauthenticated) && may_be_applied(Code::Unavailable));
    }
}
