//! DefiLlama's public yields API: `GET {url}/pools`, no key needed.
//!
//! The answer is `{"status": "success", "data": [{"pool", "chain", "project", "symbol", "tvlUsd", "apy", …}]}` with about 20,000 pools
//! of all chains; only the configured chain's are kept. It is refreshed about hourly, so an answer that does not change between two
//! five-minute cycles is no fault.

use serde::Deserialize;

use super::{Reading, http_client, http_problem};
use crate::{branch::Problem, pool::Pool};

/// Reads pools of one chain from the yields API.
#[derive(Clone, Debug)]
pub struct Defillama {
    client: reqwest::Client,
    url: reqwest::Url,
    chain: String,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pool: String,
    #[serde(default)]
    chain: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    symbol: String,
    tvl_usd: Option<f64>,
    apy: Option<f64>,
    apy_base: Option<f64>,
    apy_reward: Option<f64>,
    #[serde(rename = "volumeUsd1d")]
    volume_usd_1d: Option<f64>,
}

impl Defillama {
    /// Makes a source; `url` is without `/pools`. An empty `chain` keeps every chain.
    ///
    /// # Errors
    ///
    /// Returns a sentence if the address is none or no HTTP client can be made.
    pub fn new(url: &str, chain: &str) -> Result<Self, String> {
        let url = format!("{}/pools", url.trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|error| format!("{url} is no address: {error}"))?;
        let client = http_client().map_err(|error| error.to_string())?;
        Ok(Self { client, url, chain: chain.to_owned() })
    }

    /// Returns the host the pools come from.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Reads the pools of the configured chain.
    ///
    /// # Errors
    ///
    /// Fails if the API cannot be reached or its answer has not the documented shape.
    pub async fn read(&self) -> Result<Reading, Problem> {
        let answer = self.client.get(self.url.clone()).send().await.and_then(|it| it.error_for_status());
        let answer: Answer = answer.map_err(http_problem)?.json().await.map_err(http_problem)?;
        if answer.status != "success" {
            return Err(Problem::new("UNAVAILABLE", format!("the API says status {:?}", answer.status)));
        }
        let wanted = |row: &Row| self.chain.is_empty() || row.chain.eq_ignore_ascii_case(&self.chain);
        let pools: Vec<Pool> = answer.data.into_iter().filter(wanted).map(Pool::from).collect();
        if pools.is_empty() {
            return Err(Problem::new("NOT_FOUND", format!("the API lists no pool on {:?}", self.chain)));
        }
        Ok(Reading { pools, warnings: Vec::new() })
    }
}

impl From<Row> for Pool {
    fn from(row: Row) -> Self {
        Self {
            id: row.pool,
            protocol: row.project,
            chain: row.chain,
            symbol: row.symbol,
            tvl: row.tvl_usd,
            apr: row.apy,
            apr_base: row.apy_base,
            apr_reward: row.apy_reward,
            volume_24h: row.volume_usd_1d,
            read: None,
            stale: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, routing::get};
    use serde_json::json;

    use super::*;

    async fn serve(app: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        telemetry::Telemetry::silent("test").spawn(async move { axum::serve(listener, app).await });
        url
    }

    #[tokio::test]
    async fn pools_of_the_configured_chain_are_read() {
        let answer = json!({"status": "success", "data": [
            {"pool": "p1", "chain": "Base", "project": "aerodrome-slipstream", "symbol": "WETH-USDC", "tvlUsd": 5.5e6,
             "apy": 12.5, "apyBase": 2.5, "apyReward": null, "volumeUsd1d": 1e6, "stablecoin": false},
            {"pool": "p2", "chain": "Ethereum", "project": "curve-dex", "symbol": "ETH-STETH", "tvlUsd": 1.0, "apy": 2.0},
        ]});
        let url = serve(Router::new().route("/pools", get(move || async move { Json(answer) }))).await;
        let reading = Defillama::new(&url, "base").unwrap().read().await.unwrap();
        assert_eq!(reading.pools.len(), 1);
        let pool = &reading.pools[0];
        assert_eq!(pool.name(), "WETH-USDC (aerodrome-slipstream)");
        assert_eq!((pool.apr, pool.apr_reward, pool.volume_24h), (Some(12.5), None, Some(1e6)));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_answer_is_a_labelled_problem() {
        let app = Router::new()
            .route("/down/pools", get(|| async { StatusCode::BAD_GATEWAY }))
            .route("/html/pools", get(|| async { "<html>" }))
            .route("/none/pools", get(|| async { Json(json!({"status": "success", "data": []})) }));
        let url = serve(app).await;
        for (path, code) in [("down", "UNAVAILABLE"), ("html", "DATA_LOSS"), ("none", "NOT_FOUND")] {
            let problem = Defillama::new(&format!("{url}/{path}"), "Base").unwrap().read().await.unwrap_err();
            assert_eq!(problem.code, code, "{}", problem.message);
            assert!(!problem.message.contains("127.0.0.1"), "{}", problem.message);
        }
    }
}
