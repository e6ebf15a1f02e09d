//! How a conversation is to be answered.

use serde_json::{Value, json};

use super::Object;

/// Everything of a request for a chat completion but the model, the turns and how the answer is sent, under its names there.
#[derive(Clone, Default, PartialEq)]
pub struct Parameters(Object);

impl Parameters {
    /// Takes the parameters of a request; `model`, `messages`, `stream` and `stream_options` must be out of it, and what is null counts
    /// as not set.
    #[must_use]
    pub fn new(mut parameters: Object) -> Self {
        parameters.retain(|_, value| !value.is_null());
        Self(parameters)
    }

    /// Returns them under their names.
    #[must_use]
    pub fn as_object(&self) -> &Object {
        &self.0
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Asks for JSON that keeps to `schema`.
    pub fn set_schema(&mut self, name: &str, schema: Value, strict: bool) {
        let named = json!({"name": name, "strict": strict, "schema": schema});
        self.set("response_format", json!({"type": "json_schema", "json_schema": named}));
    }

    /// Returns the sampling temperature.
    #[must_use]
    pub fn temperature(&self) -> Option<f64> {
        self.0.get("temperature")?.as_f64()
    }

    /// Returns the most tokens of the answer.
    #[must_use]
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.0.get("max_completion_tokens").or_else(|| self.0.get("max_tokens"))?.as_u64()
    }

    /// Returns the characters a model reads in tools and schemas, by which tokens are estimated.
    pub(crate) fn characters(&self) -> usize {
        ["tools", "response_format"]
            .iter()
            .filter_map(|name| self.0.get(*name))
            .map(|value| value.to_string().len())
            .sum()
    }
}

/// Shows which are set, never to what: schemas and stop words are the caller's own.
impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
