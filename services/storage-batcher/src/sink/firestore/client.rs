//! Connects to Firestore or to an emulator, without a process-wide variable.

use std::{error::Error, io};

use ::firestore::{
    FirestoreDb, FirestoreDbOptions,
    gcloud_sdk::{
        GoogleAuthHeaders, HeaderMap,
        google_cloud_auth::{
            credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag},
            errors::CredentialsError,
        },
    },
};
use http::{Extensions, HeaderValue, header::AUTHORIZATION};
use rpc::Code;

use super::Options;

/// What an emulator takes for the owner of every database.
const OWNER: &str = "Bearer owner";

/// Credentials for an emulator.
#[derive(Debug)]
struct Owner(EntityTag);

impl CredentialsProvider for Owner {
    async fn headers(&self, seen: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        if seen.get::<EntityTag>() == Some(&self.0) {
            return Ok(CacheableResource::NotModified);
        }
        let data = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(OWNER))]);
        Ok(CacheableResource::New { entity_tag: self.0.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

/// Connects as `options` say.
pub(super) async fn connect(options: &Options) -> Result<FirestoreDb, ::firestore::errors::FirestoreError> {
    let mut connection =
        FirestoreDbOptions::new(options.project.clone()).with_database_id(options.database.clone());
    match &options.emulator {
        None => FirestoreDb::with_options(connection).await,
        Some(address) => {
            let address = if address.contains("://") { address.clone() } else { format!("http://{address}") };
            connection.firebase_api_url = Some(address);
            let owner = GoogleAuthHeaders::from(Credentials::from(Owner(EntityTag::new())));
            FirestoreDb::with_options_auth(connection, owner).await
        }
    }
}

/// Returns a reason for people: the code's name and Firestore's words.
pub(super) fn describe(code: Code, message: &str) -> String {
    format!("{code:?}: {message}")
}

/// Returns whether a call failed before anything could be sent.
pub(super) fn never_connected(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
