//! An embedder behind a URL.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use reqwest::{Response, StatusCode, Url, header};
use serde::{Deserialize, Serialize};

use crate::{Embedder, Error, Settings, normalise};

/// Most bytes of an answer, beside those of the vectors.
const MAX_FRAME: usize = 64 << 10;
/// Most bytes that a component of a vector takes in JSON, with its comma.
const MAX_COMPONENT: usize = 32;
/// Most components of a vector whose length is not known yet.
const MAX_DIMENSIONS: usize = 16_384;
/// The wait before the first repetition; each further one is twice as long, all with up to half of it more or less.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// What is embedded to learn how many components a vector has.
const PROBE: &str = "dimensions";

/// Maps text to a vector by any model that is served in OpenAI's dialect: `POST {url}/embeddings`.
///
/// Texts go out in batches of `embedder_batch`, one after the other. A request that is not answered within `embedder_timeout`, or
/// with 408, 425, 429 or 5xx, is repeated up to `embedder_max_retries` times, after a jittered wait or what `Retry-After` says. Vectors
/// are set to length 1, whatever the model returns. Redirects are not followed, so that the key goes to no other host.
///
/// Its name is the model's, with the number of components and without the address: a model of one name is taken to be one
/// model wherever it is served.
pub struct Remote {
    name: String,
    dimensions: usize,
    asker: Asker,
}

/// What is needed to ask.
struct Asker {
    client: reqwest::Client,
    url: Url,
    key: Option<header::HeaderValue>,
    model: String,
    /// The number of components that the model is asked for; nothing: what it returns by itself.
    wanted: Option<usize>,
    timeout: Duration,
    max_retries: u32,
    batch: usize,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl Remote {
    /// Prepares to ask `model` at `url`, the base address to which `/embeddings` is added. `wanted` components are asked for
    /// if given, for models that can shorten their vectors; else `expected` says how many there will be, and where nobody
    /// knows, one request is made to learn it.
    ///
    /// # Errors
    /// [`Error::Model`] if the address, the key or the client cannot be used; whatever the request fails with.
    pub async fn new(
        url: &str,
        model: &str,
        wanted: Option<usize>,
        expected: Option<usize>,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let asker = Asker::new(url, model, wanted, settings)?;
        let dimensions = match wanted.or(expected) {
            Some(dimensions) => dimensions,
            None => asker.ask(&[PROBE], None).await?.pop().map_or(0, |vector| vector.len()),
        };
        Ok(Self { name: format!("openai/{model}@{dimensions}"), dimensions, asker })
    }
}

impl Embedder for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>> {
        async move {
            let mut vectors = Vec::with_capacity(texts.len());
            for batch in texts.chunks(self.asker.batch) {
                vectors.append(&mut self.asker.ask(batch, Some(self.dimensions)).await?);
            }
            Ok(vectors)
        }
        .boxed()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Asker {
    fn new(url: &str, model: &str, wanted: Option<usize>, settings: &Settings) -> Result<Self, Error> {
        let fault = |what: &str| Error::Model(what.to_owned());
        let url = Url::parse(&format!("{}/embeddings", url.trim_end_matches('/')))
            .map_err(|_| fault("its address is none"))?;
        let bearer = |key: &config::Secret| {
            let value = header::HeaderValue::from_str(&format!("Bearer {}", key.expose()));
            let mut value = value.map_err(|_| fault("embedder_api_key must be visible ASCII"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let key = settings.embedder_api_key.as_ref().map(bearer).transpose()?;
        let timeout = settings.embedder_timeout;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::Model(format!("its HTTP client cannot be set up: {error}")))?;
        let (max_retries, batch) = (settings.embedder_max_retries, settings.embedder_batch.max(1));
        Ok(Self { client, url, key, model: model.to_owned(), wanted, timeout, max_retries, batch })
    }

    /// Asks for the vectors of one batch, retries included.
    async fn ask(&self, texts: &[&str], dimensions: Option<usize>) -> Result<Vec<Vec<f32>>, Error> {
        let request =
            Request { model: &self.model, input: texts, encoding_format: "float", dimensions: self.wanted };
        let body = serde_json::to_vec(&request).map_err(|error| Error::Malformed(error.to_string()))?;
        let mut attempt = 0;
        loop {
            let bound = MAX_FRAME + texts.len() * dimensions.unwrap_or(MAX_DIMENSIONS) * MAX_COMPONENT;
            let sent = tokio::time::timeout(self.timeout, self.send(body.clone(), bound)).await;
            let failure = match sent.unwrap_or(Err(Error::TimedOut(self.timeout))) {
                Ok(answer) => return vectors(&answer, texts.len(), dimensions),
                Err(failure) => failure,
            };
            let Some(wait) = self.wait(attempt, &failure) else { return Err(failure) };
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn send(&self, body: Vec<u8>, bound: usize) -> Result<Vec<u8>, Error> {
        let broken = |error: reqwest::Error| Error::Unreachable(Box::new(error.without_url()));
        let mut request = self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        let mut response = request.body(body).send().await.map_err(broken)?;
        check(&response)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if answer.len() + chunk.len() > bound {
                return Err(Error::Malformed(format!("it is longer than {bound} bytes")));
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// Returns how long to wait before the request is repeated, if it is.
    fn wait(&self, attempt: u32, failure: &Error) -> Option<Duration> {
        if !failure.is_temporary() || attempt >= self.max_retries {
            return None;
        }
        let jittered = FIRST_WAIT * 2_u32.pow(attempt.min(10));
        let wait = failure.retry_after().unwrap_or_else(|| jittered.mul_f64(rand::random_range(0.5..1.5)));
        (wait <= self.timeout).then_some(wait)
    }
}

fn check(response: &Response) -> Result<(), Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if !may_pass.contains(&status) && !status.is_server_error() {
        return Err(Error::Refused { status: status.as_u16() });
    }
    let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    // A date is not read: the other's clock need not be ours.
    let seconds = after.and_then(|after| after.trim().parse().ok());
    Err(Error::Busy { status: status.as_u16(), retry_after: seconds.map(Duration::from_secs) })
}

/// Reads `texts` vectors of length 1 out of an answer, in the order of their texts.
fn vectors(answer: &[u8], texts: usize, dimensions: Option<usize>) -> Result<Vec<Vec<f32>>, Error> {
    let malformed = |what: &str| Err(Error::Malformed(what.to_owned()));
    // What is wrong with it is not repeated: the answer may repeat the texts.
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else {
        return malformed("it is no list of embeddings");
    };
    let items: BTreeMap<usize, Vec<f32>> =
        answer.data.into_iter().map(|item| (item.index, item.embedding)).collect();
    if items.len() != texts || !items.keys().copied().eq(0..texts) {
        return malformed("it has not one vector for each text");
    }
    let mut vectors: Vec<Vec<f32>> = items.into_values().collect();
    for vector in &mut vectors {
        if let Some(expected) = dimensions.filter(|expected| *expected != vector.len()) {
            return Err(Error::Malformed(format!("{} components instead of {expected}", vector.len())));
        }
        let square: f32 = vector.iter().map(|component| component * component).sum();
        if !square.is_finite() || !normalise(vector) {
            return malformed("a vector has no direction");
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use testkit::upstream::{Reply, Script, Upstream};

    use super::Remote;
    use crate::{Embedder as _, Error, Settings};

    fn settings() -> Settings {
        Settings { embedder_batch: 2, embedder_api_key: Some("key".into()), ..Settings::defaults() }
    }

    async fn remote(upstream: &Upstream) -> Remote {
        Remote::new(&upstream.url(), "small", None, Some(8), &settings()).await.unwrap()
    }

    /// Answers with these vectors, each as (index, components).
    fn answering(vectors: &[(usize, &[f32])]) -> Script {
        let item = |(index, vector): &(usize, &[f32])| json!({ "index": index, "embedding": vector });
        let body = json!({ "data": vectors.iter().map(item).collect::<Vec<_>>() }).to_string();
        Script::function(move |_| Reply { body: Some(body.clone()), ..Reply::text("") })
    }

    #[tokio::test]
    async fn texts_go_out_in_batches_and_come_back_in_order_with_length_one() {
        let upstream = Upstream::start(Script::Echo);
        let remote = remote(&upstream).await;
        assert_eq!((remote.name(), remote.dimensions()), ("openai/small@8", 8));
        let vectors = remote.embed(&["gas", "pool", "fee"]).await.unwrap();
        assert_eq!(vectors[2], remote.embed_one("fee").await.unwrap());
        assert_ne!(vectors[0], vectors[1]);
        for vector in vectors {
            let length: f32 = vector.iter().map(|component| component * component).sum();
            assert!((length - 1.0).abs() < 1e-6, "{length}");
        }
        let requests = upstream.requests();
        assert_eq!(requests.len(), 3);
        let body = json!({ "model": "small", "input": ["gas", "pool"], "encoding_format": "float" });
        assert_eq!(requests[0].body, body);
        assert_eq!(requests[0].headers["authorization"], "Bearer key");
        assert!(remote.embed(&[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_number_of_components_is_asked_for_or_found_out() {
        let upstream = Upstream::start(Script::Echo);
        let found = Remote::new(&upstream.url(), "small", None, None, &settings()).await.unwrap();
        assert_eq!((found.dimensions(), upstream.calls()), (8, 1));
        let asked = Remote::new(&upstream.url(), "small", Some(5), None, &settings()).await.unwrap();
        assert_eq!(asked.embed_one("gas").await.unwrap().len(), 5);
        assert_eq!(upstream.requests()[1].body["dimensions"], 5);
    }

    #[tokio::test]
    async fn what_may_pass_is_asked_again_and_no_oftener_than_set() {
        let busy = || Reply::failure(429, "slow down").header("retry-after", "0");
        let upstream = Upstream::start(Script::function(move |_| busy()));
        let failed = remote(&upstream).await.embed_one("gas").await;
        assert!(matches!(failed, Err(Error::Busy { status: 429, retry_after: Some(Duration::ZERO) })));
        assert_eq!(upstream.calls(), 3);
        upstream.change(Script::function(|_| Reply::failure(503, "down").header("retry-after", "11")));
        let failed = remote(&upstream).await.embed_one("gas").await;
        assert!(failed.is_err_and(|failed| failed.is_temporary()));
        assert_eq!(upstream.calls(), 4, "a wait beyond the timeout is not begun");
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let upstream = Upstream::start(Script::failing(401, "no such key"));
        let failed = remote(&upstream).await.embed_one("gas").await;
        assert!(matches!(failed, Err(Error::Refused { status: 401 })));
        assert_eq!(upstream.calls(), 1);
    }

    #[tokio::test]
    async fn who_does_not_answer_in_time_is_not_waited_for() {
        let upstream = Upstream::start(Script::Echo);
        let _hold = upstream.hold();
        let hasty = Settings {
            embedder_timeout: Duration::from_millis(20),
            embedder_max_retries: 0,
            ..Settings::defaults()
        };
        let remote = Remote::new(&upstream.url(), "small", None, Some(8), &hasty).await.unwrap();
        assert!(matches!(remote.embed_one("gas").await, Err(Error::TimedOut(_))));
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_said() {
        let url = Upstream::start(Script::Echo).url();
        let once = Settings { embedder_max_retries: 0, ..Settings::defaults() };
        let remote = Remote::new(&url, "small", None, Some(8), &once).await.unwrap();
        assert!(matches!(remote.embed_one("gas").await, Err(Error::Unreachable(_))));
        assert!(matches!(Remote::new("no address", "m", None, Some(8), &once).await, Err(Error::Model(_))));
    }

    #[tokio::test]
    async fn what_are_not_the_vectors_asked_for_is_refused() {
        const RIGHT: &[f32] = &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0];
        let upstream = Upstream::start(answering(&[(1, RIGHT), (0, &[0.5; 8])]));
        let remote = remote(&upstream).await;
        assert!(remote.embed(&["a", "b"]).await.unwrap()[1][7] > 0.8, "sorted by index");
        let wrong: [&[(usize, &[f32])]; 5] = [
            &[(0, RIGHT)],
            &[(0, RIGHT), (0, RIGHT)],
            &[(0, RIGHT), (2, RIGHT)],
            &[(0, RIGHT), (1, &[1.0; 7])],
            &[(0, RIGHT), (1, &[0.0; 8])],
        ];
        for answer in wrong {
            upstream.change(answering(answer));
            let refused = remote.embed(&["a", "b"]).await;
            assert!(matches!(refused, Err(Error::Malformed(_))), "{answer:?}: {refused:?}");
        }
        upstream.change(answering(&[(0, &[f32::MAX; 8]), (1, RIGHT)]));
        assert!(remote.embed(&["a", "b"]).await.is_err());
        for body in ["{", "[]", &" ".repeat(1 << 20)] {
            let body = body.to_owned();
            upstream.change(Script::function(move |_| Reply { body: Some(body.clone()), ..Reply::text("") }));
            assert!(matches!(remote.embed(&["a", "b"]).await, Err(Error::Malformed(_))));
        }
    }
}
