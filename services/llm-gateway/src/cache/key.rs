//! The identity of a request.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{conversation::Conversation, observation::Observation};

/// Makes keys under a secret of this process, so that nobody outside can aim two requests at one hash.
#[derive(Clone)]
pub struct Keys {
    secret: [u8; blake3::KEY_LEN],
}

/// The identity of one request: a keyed hash, and the canonical form it was made of.
#[derive(Clone)]
pub struct Key {
    digest: [u8; blake3::OUT_LEN],
    form: Arc<[u8]>,
    tenant: Arc<str>,
    model: Arc<str>,
}

/// A canonical form under construction: every part is tagged by position and length, so that no two requests share one.
struct Form(Vec<u8>);

impl Keys {
    /// Makes keys under `secret`.
    #[must_use]
    pub fn new(secret: [u8; blake3::KEY_LEN]) -> Self {
        Self { secret }
    }

    /// Returns the key of a conversation asked of `model`: parameters and the whole history are part of it.
    #[must_use]
    pub fn conversation(&self, tenant: &Arc<str>, model: &Arc<str>, conversation: &Conversation) -> Key {
        let mut form = Form::new("conversation", tenant, model);
        form.option(conversation.temperature.map(number));
        form.option(conversation.max_output_tokens.map(u64::from));
        for message in &conversation.messages {
            form.text(message.role.as_str());
            form.text(&message.content);
        }
        self.seal(form, tenant, model)
    }

    /// Returns the key of one observation under `question`: its id and time are not part of it.
    #[must_use]
    pub fn observation(
        &self,
        tenant: &Arc<str>,
        model: &Arc<str>,
        question: &str,
        observation: &Observation,
    ) -> Key {
        let mut form = Form::new("observation", tenant, model);
        form.text(question);
        form.text(&observation.kind);
        form.text(&observation.subject);
        form.count(observation.values.len());
        for (name, value) in &observation.values {
            form.text(name);
            form.bits(number(*value));
        }
        for (name, value) in &observation.labels {
            form.text(name);
            form.text(value);
        }
        self.seal(form, tenant, model)
    }

    /// Returns the key of what an observation is about, whatever was measured: its id is part of it, since subjects may share a name.
    #[must_use]
    pub fn entity(
        &self,
        tenant: &Arc<str>,
        model: &Arc<str>,
        question: &str,
        observation: &Observation,
    ) -> Key {
        let mut form = Form::new("entity", tenant, model);
        form.text(question);
        form.text(&observation.kind);
        form.text(&observation.id);
        form.text(&observation.subject);
        self.seal(form, tenant, model)
    }

    /// Returns the key of a merged call about the observations with `keys`, in this order, and its `context`.
    #[must_use]
    pub fn merge(&self, tenant: &Arc<str>, model: &Arc<str>, context: &str, keys: &[&Key]) -> Key {
        let mut form = Form::new("merge", tenant, model);
        form.text(context);
        for key in keys {
            form.0.extend_from_slice(&key.digest);
        }
        self.seal(form, tenant, model)
    }

    fn seal(&self, form: Form, tenant: &Arc<str>, model: &Arc<str>) -> Key {
        Key {
            digest: *blake3::keyed_hash(&self.secret, &form.0).as_bytes(),
            form: form.0.into(),
            tenant: tenant.clone(),
            model: model.clone(),
        }
    }
}

impl Key {
    /// Returns the tenant whose request this is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Returns the model asked, with its provider.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns the size of the canonical form, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.form.len()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.form == other.form
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Shows whose request it is, never its words.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("tenant", &self.tenant)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Form {
    fn new(kind: &str, tenant: &str, model: &str) -> Self {
        let mut form = Self(Vec::with_capacity(256));
        form.text(kind);
        form.text(tenant);
        form.text(model);
        form
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.bits(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn bits(&mut self, bits: u64) {
        self.0.extend_from_slice(&bits.to_le_bytes());
    }

    fn option(&mut self, bits: Option<u64>) {
        self.0.push(u8::from(bits.is_some()));
        self.bits(bits.unwrap_or_default());
    }
}

/// Returns the bits of a finite number, with one zero.
fn number(value: f64) -> u64 {
    if value == 0.0 { 0.0_f64.to_bits() } else { value.to_bits() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Key, Keys};
    use crate::{
        conversation::{Conversation, Message, Role},
        observation::Observation,
    };

    fn keys() -> Keys {
        Keys::new([7; 32])
    }

    fn talk(words: &[&str]) -> Conversation {
        let message = |content: &&str| Message { role: Role::User, content: (*content).to_owned() };
        Conversation { messages: words.iter().map(message).collect(), ..Conversation::default() }
    }

    fn key(tenant: &str, conversation: &Conversation) -> Key {
        keys().conversation(&tenant.into(), &"m".into(), conversation)
    }

    #[test]
    fn tenant_history_and_parameters_are_part_of_the_key() {
        let base = talk(&["hello"]);
        assert_eq!(key("a", &base), key("a", &base));
        assert_ne!(key("a", &base), key("b", &base));
        assert_ne!(key("a", &base), key("a", &talk(&["earlier", "hello"])));
        assert_ne!(key("a", &base), key("a", &Conversation { temperature: Some(0.0), ..base.clone() }));
        assert_ne!(key("a", &base), key("a", &Conversation { max_output_tokens: Some(0), ..base.clone() }));
        let zero = |sign: f64| key("a", &Conversation { temperature: Some(0.0 * sign), ..base.clone() });
        assert_eq!(zero(1.0), zero(-1.0));
        assert_ne!(
            keys().conversation(&"a".into(), &"m".into(), &base),
            keys().conversation(&"a".into(), &"n".into(), &base)
        );
    }

    #[test]
    fn words_cannot_slide_between_turns() {
        assert_ne!(key("a", &talk(&["ab", "c"])), key("a", &talk(&["a", "bc"])));
        assert_ne!(key("ab", &talk(&["c"])), key("a", &talk(&["bc"])));
    }

    #[test]
    fn an_observation_is_the_same_under_another_id() {
        let (tenant, model): (Arc<str>, Arc<str>) = ("t".into(), "m".into());
        let make = |id: &str, apr: f64| Observation {
            id: id.into(),
            kind: "pool".into(),
            values: [("apr".to_owned(), apr)].into(),
            ..Observation::default()
        };
        let key = |question: &str, seen: &Observation| keys().observation(&tenant, &model, question, seen);
        assert_eq!(key("q", &make("1", 25.0)), key("q", &make("2", 25.0)));
        assert_ne!(key("q", &make("1", 25.0)), key("q", &make("1", 250.0)));
        assert_ne!(key("q", &make("1", 25.0)), key("r", &make("1", 25.0)));
    }

    #[test]
    fn an_equal_digest_of_another_request_is_not_a_hit() {
        let mut forged = key("a", &talk(&["one"]));
        let genuine = key("a", &talk(&["two"]));
        forged.digest = genuine.digest;
        assert_ne!(forged, genuine);
    }

    proptest! {
        #[test]
        fn different_words_have_different_keys(one in ".{0,40}", two in ".{0,40}") {
            prop_assert_eq!(one == two, key("a", &talk(&[&one])) == key("a", &talk(&[&two])));
        }
    }
}
