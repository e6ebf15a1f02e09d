//! The gas price of a chain from an Ethereum JSON-RPC node: `eth_gasPrice`, answered in hexadecimal wei.

use serde::Deserialize;
use serde_json::json;

use super::{http_client, http_problem};
use crate::{branch::Problem, pool::Gas};

/// Reads the gas price from a node. The address may hold a key and is never printed.
#[derive(Clone)]
pub struct GasRpc {
    client: reqwest::Client,
    url: reqwest::Url,
    chain: String,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<String>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

impl GasRpc {
    /// Makes a source for the gas of `chain`.
    ///
    /// # Errors
    ///
    /// Returns a sentence if the address is none or no HTTP client can be made.
    pub fn new(url: &str, chain: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(url).map_err(|error| format!("the node's address is none: {error}"))?;
        let client = http_client().map_err(|error| error.to_string())?;
        Ok(Self { client, url, chain: chain.to_owned() })
    }

    /// Returns the host of the node.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Reads the price.
    ///
    /// # Errors
    ///
    /// Fails if the node cannot be reached, refuses or answers something else.
    pub async fn read(&self) -> Result<Gas, Problem> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_gasPrice", "params": []});
        let answer = self.client.post(self.url.clone()).json(&call).send().await;
        let answer = answer.and_then(|it| it.error_for_status()).map_err(http_problem)?;
        let answer: Answer = answer.json().await.map_err(http_problem)?;
        if let Some(refusal) = answer.error {
            let message = format!("the node refused with {}: {}", refusal.code, refusal.message);
            return Err(Problem::new("UNAVAILABLE", message));
        }
        let text = answer.result.unwrap_or_default();
        let wei = text.strip_prefix("0x").and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let wei =
            wei.ok_or_else(|| Problem::new("DATA_LOSS", "the node's answer is no hexadecimal number"))?;
        Ok(Gas { chain: self.chain.clone(), price: wei as f64 / 1e9 })
    }
}

impl std::fmt::Debug for GasRpc {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("GasRpc")
            .field("host", &self.host())
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::post};
    use serde_json::Value;

    use super::*;

    async fn node(answer: Value) -> GasRpc {
        let app = Router::new().route(
            "/key",
            post(|Json(call): Json<Value>| async move {
                assert_eq!(call["method"], "eth_gasPrice");
                Json(answer)
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/key", listener.local_addr().unwrap());
        telemetry::Telemetry::silent("test").spawn(async move { axum::serve(listener, app).await });
        GasRpc::new(&url, "Base").unwrap()
    }

    #[tokio::test]
    async fn hexadecimal_wei_becomes_gwei() {
        let gas = node(json!({"jsonrpc": "2.0", "id": 1, "result": "0x1c9c380"})).await.read().await.unwrap();
        assert_eq!(gas, Gas { chain: "Base".into(), price: 0.03 });
    }

    #[tokio::test]
    async fn a_refusal_and_a_wrong_answer_are_labelled() {
        let refusal =
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "limit exceeded"}});
        let problem = node(refusal).await.read().await.unwrap_err();
        assert_eq!(problem, Problem::new("UNAVAILABLE", "the node refused with -32005: limit exceeded"));
        assert_eq!(node(json!({"result": "12"})).await.read().await.unwrap_err().code, "DATA_LOSS");
    }

    #[test]
    fn the_address_is_not_printed() {
        let source = GasRpc::new("https://node.example/v2/secret-key", "Base").unwrap();
        assert!(!format!("{source:?}").contains("secret-key"));
    }
}
