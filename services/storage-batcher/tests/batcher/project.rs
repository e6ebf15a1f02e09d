//! Firestore for tests that need no fault of it: the emulator of this process; with `TEST_FIRESTORE_PROJECT` that project of Google's, by the
//! application default credentials; with `FIRESTORE_EMULATOR_HOST` the emulator there.
//!
//! Elsewhere each test writes as a tenant of its own, so below `tenants/{tenant}`, and deletes what is there in the end, and the ledger
//! documents of its batches, which it knows by when they would expire.

use std::{env, time::Duration};

use ::firestore::{
    FirestoreDb, FirestoreDbOptions,
    gcloud_sdk::google::firestore::v1::{self, value::ValueType, write::Operation},
};
use config::Secret;
use rand::Rng as _;
use storage_batcher::Config;

use crate::{
    emulator::Emulator,
    harness::{START, Service, TOKEN},
};

const HOUR: u64 = 3_600;
/// Documents asked for, or deleted, at once.
const PAGE: usize = 300;

/// Where the documents of a test go.
pub(crate) enum Firestore {
    Here(Emulator),
    There(Project),
}

/// A database that others use too.
pub(crate) struct Project {
    id: String,
    database: String,
    tenant: String,
    /// How long ledger documents are kept: no other test keeps them until the same hour.
    retention: u64,
}

impl Firestore {
    pub(crate) async fn open() -> Self {
        let emulated = || variable("FIRESTORE_EMULATOR_HOST").map(|_| "demo-athena".to_owned());
        match variable("TEST_FIRESTORE_PROJECT").or_else(emulated) {
            None => Self::Here(Emulator::start().await),
            Some(id) => Self::There(Project::new(id)),
        }
    }

    /// A batcher that stores here.
    pub(crate) async fn batcher(&self) -> Service {
        match self {
            Self::Here(emulator) => emulator.batcher().await,
            Self::There(project) => Service::with(|config| project.configure(config)).await,
        }
    }

    /// Leaves nothing behind.
    pub(crate) async fn stop(self) {
        match self {
            Self::Here(emulator) => emulator.stop().await,
            Self::There(project) => project.clear().await,
        }
    }
}

impl Project {
    fn new(id: String) -> Self {
        let mut random = rand::rng();
        Self {
            id,
            database: variable("TEST_FIRESTORE_DATABASE").unwrap_or_else(|| "(default)".to_owned()),
            tenant: format!("test-{:032x}", random.random::<u128>()),
            retention: random.random_range(24..364 * 24) * HOUR,
        }
    }

    fn configure(&self, config: &mut Config) {
        config.firestore_project = Some(self.id.clone());
        config.firestore_database.clone_from(&self.database);
        config.firestore_ledger_retention = Duration::from_secs(self.retention);
        config.host.auth_tokens = Secret::new(format!("{TOKEN}={}:admin", self.tenant));
    }

    async fn clear(self) {
        let options = FirestoreDbOptions::new(self.id.clone()).with_database_id(self.database.clone());
        let database = FirestoreDb::with_options(options).await.unwrap();
        let names = self.names(&database).await;
        for names in names.chunks(PAGE) {
            let delete = |name: &String| v1::Write {
                operation: Some(Operation::Delete(name.clone())),
                ..Default::default()
            };
            let request = v1::BatchWriteRequest {
                database: database.get_database_path().clone(),
                writes: names.iter().map(delete).collect(),
                ..Default::default()
            };
            let answer = database.client().get().batch_write(request).await.unwrap().into_inner();
            assert!(answer.status.iter().all(|status| status.code == 0), "{:?}", answer.status);
        }
        assert_eq!(self.names(&database).await, Vec::<String>::new());
    }

    /// The documents of this test.
    async fn names(&self, database: &FirestoreDb) -> Vec<String> {
        let root = database.get_documents_path();
        let mut documents = list(database, &format!("{root}/tenants/{}", self.tenant), "").await;
        let mut ledger = list(database, root, "_batches").await;
        ledger.retain(|document| self.is_ours(document));
        documents.append(&mut ledger);
        documents.into_iter().map(|document| document.name).collect()
    }

    /// Whether a ledger document is one of this test, during which no hour goes by.
    fn is_ours(&self, ledger: &v1::Document) -> bool {
        let value = ledger.fields.get("expire_at").and_then(|value| value.value_type.as_ref());
        let Some(ValueType::TimestampValue(expires)) = value else { return false };
        let first = START + self.retention;
        (first..first + HOUR).contains(&expires.seconds.cast_unsigned())
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of the tests, and no setting of what they test")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Every document of a collection, or of all collections right below `parent`.
async fn list(database: &FirestoreDb, parent: &str, collection: &str) -> Vec<v1::Document> {
    let (mut documents, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListDocumentsRequest {
            parent: parent.to_owned(),
            collection_id: collection.to_owned(),
            page_size: PAGE.try_into().unwrap(),
            page_token,
            ..Default::default()
        };
        let page = database.client().get().list_documents(request).await.unwrap().into_inner();
        documents.extend(page.documents);
        if page.next_page_token.is_empty() {
            return documents;
        }
        page_token = page.next_page_token;
    }
}

/// Runs some of them again in a process of their own, where the variable is set.
#[tokio::test]
async fn the_same_tests_run_against_an_emulator_elsewhere_and_leave_nothing_there() {
    let emulator = Emulator::start().await;
    let tests = tokio::process::Command::new(env::current_exe().unwrap())
        .args(["firestore::", "folds::", "--test-threads", "2"])
        .env("FIRESTORE_EMULATOR_HOST", &emulator.address)
        .env_remove("TEST_FIRESTORE_PROJECT")
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success() && !told.contains(" 0 passed"), "{told}");
    assert!(emulator.calls().len() > 10, "{told}");
    emulator.stop().await;
}
