//! The identity of a request.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::form::Form;
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
        form.object(conversation.parameters.as_object());
        for message in &conversation.messages {
            form.turn(message);
            form.content(&message.content);
        }
        self.seal(form, tenant, model)
    }

    /// Returns the key of what has to be equal for two questions to be compared: everything of a conversation but the words of its last
    /// turn, if that is the user's and text alone.
    #[must_use]
    pub fn partition(&self, tenant: &Arc<str>, model: &Arc<str>, conversation: &Conversation) -> Option<Key> {
        conversation.last_words()?;
        let (last, earlier) = conversation.messages.split_last()?;
        let mut form = Form::new("partition", tenant, model);
        form.object(conversation.parameters.as_object());
        for message in earlier {
            form.turn(message);
            form.content(&message.content);
        }
        form.turn(last);
        Some(self.seal(form, tenant, model))
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
            form.number(*value);
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
        // As they are: two entities are never one.
        for text in [&observation.kind, &observation.id, &observation.subject] {
            form.bytes(text.as_bytes());
        }
        self.seal(form, tenant, model)
    }

    /// Returns the key of a merged call about the observations with `keys`, in this order, and its `context`.
    #[must_use]
    pub fn merge(&self, tenant: &Arc<str>, model: &Arc<str>, context: &str, keys: &[&Key]) -> Key {
        let mut form = Form::new("merge", tenant, model);
        form.text(context);
        for key in keys {
            form.bytes(&key.digest);
        }
        self.seal(form, tenant, model)
    }

    fn seal(&self, form: Form, tenant: &Arc<str>, model: &Arc<str>) -> Key {
        let form = form.finish();
        Key {
            digest: *blake3::keyed_hash(&self.secret, &form).as_bytes(),
            form: form.into(),
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

    /// Returns a name for what is stored under the key: 32 hexadecimal digits, by which nobody can tell the request.
    #[must_use]
    pub fn id(&self) -> String {
        let half = self.digest.first_chunk().copied().unwrap_or_default();
        telemetry::hex(u128::from_be_bytes(half))
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
        // 64 bits of a keyed hash tell entries of a table apart as well as all of it.
        let part = self.digest.first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_le_bytes(part));
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
        let message = |content: &&str| Message::text(Role::User, *content);
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
        let with = |name: &str, value: serde_json::Value| {
            let mut asked = base.clone();
            asked.parameters.set(name, value);
            key("a", &asked)
        };
        assert_ne!(key("a", &base), with("temperature", 0.0.into()));
        assert_ne!(key("a", &base), with("a_parameter_of_tomorrow", "x".into()));
        assert_eq!(with("temperature", 0.0.into()), with("temperature", (-0.0).into()));
        let mut called = base.clone();
        called.messages[0].tool_call_id = Some("c1".into());
        assert_ne!(key("a", &base), key("a", &called));
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
        let later = Observation { time: Some(std::time::SystemTime::UNIX_EPOCH), ..make("1", 25.0) };
        assert_eq!(key("q", &make("1", 25.0)), key("q", &later), "nor at another time");
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
