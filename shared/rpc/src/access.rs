//! Decides who is let in: static bearer tokens, and what a caller without one may do.

use std::{fmt, hint::black_box, net::SocketAddr};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tonic::Code;

use crate::{Caller, Error, Fault, HostSettings, Role, caller::DEFAULT_TENANT};

/// Who is let in.
#[derive(Clone)]
pub(crate) struct Access {
    tokens: Vec<Entry>,
    /// Who a caller without a token is; `None` if such a caller is not let in.
    anonymous: Option<Caller>,
}

/// A token, and whose it is.
type Entry = (Box<[u8]>, Caller);

impl Access {
    /// Reads the settings for a host that listens on `address`.
    pub(crate) fn of(settings: &HostSettings, address: SocketAddr) -> Result<Self, Error> {
        let tokens = parse(settings.auth_tokens.expose())?;
        let loopback = address.ip().to_canonical().is_loopback();
        let role = match (tokens.is_empty(), loopback, settings.allow_anonymous) {
            // Whoever is on this machine could read the data anyway.
            (true, true, _) => Some(Role::Admin),
            (true, false, false) => return Err(Error::Unprotected { address }),
            (_, _, true) => Some(Role::Agent),
            (false, _, false) => None,
        };
        Ok(Self { tokens, anonymous: role.map(|role| Caller::new(DEFAULT_TENANT, role)) })
    }

    /// Returns who sent `headers`; `None` if there is no token and none is needed only where nothing is at stake.
    ///
    /// # Errors
    /// UNAUTHENTICATED if there is a token and it is unknown.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, Fault> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(self.anonymous.clone()) };
        // Without tokens there is nothing to compare with: a client that has one may still call a local service.
        if self.tokens.is_empty() {
            return Ok(self.anonymous.clone());
        }
        let given = bearer(value).unwrap_or_default();
        let mut found = None;
        // All are compared, so that the time does not tell which one was close.
        for (token, caller) in &self.tokens {
            if is_same(token, given) {
                found = Some(caller);
            }
        }
        found.cloned().map(Some).ok_or_else(|| unauthenticated("the bearer token is not valid"))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Access")
            .field("tokens", &self.tokens.len())
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

/// The fault of a caller who is not let in.
pub(crate) fn unauthenticated(message: &'static str) -> Fault {
    Fault::new(Code::Unauthenticated, message).reason("TOKEN_REQUIRED")
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Compares in a time that depends on the lengths only.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0_u8, |all, (one, other)| black_box(all | (one ^ other)));
    one.len() == other.len() && differences == 0
}

fn parse(text: &str) -> Result<Vec<Entry>, Error> {
    let entries = text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty());
    entries
        .map(|(index, entry)| entry_of(entry).map_err(|problem| Error::Tokens { entry: index + 1, problem }))
        .collect()
}

fn entry_of(entry: &str) -> Result<Entry, &'static str> {
    // From the right: a token in base64 may end in `=`.
    let (token, owner) = entry.rsplit_once('=').ok_or("must be token=tenant:role")?;
    let (tenant, role) = owner.split_once(':').ok_or("must be token=tenant:role")?;
    let (role, name) = role.split_once(':').map_or((role, None), |(role, name)| (role, Some(name)));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must have a token of visible ASCII characters");
    }
    let is_name = |name: &str| (1..=64).contains(&name.len()) && name.bytes().all(is_plain);
    if !is_name(tenant) {
        return Err("must have a tenant of 1 to 64 letters, digits, `-`, `_` or `.`");
    }
    if !name.is_none_or(is_name) {
        return Err("must have a name of 1 to 64 letters, digits, `-`, `_` or `.`, or none");
    }
    let role = match role {
        "agent" => Role::Agent,
        "admin" => Role::Admin,
        _ => return Err("must have the role agent or admin"),
    };
    Ok((token.as_bytes().into(), Caller::new(tenant, role).named(name.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use config::Secret;

    use super::*;

    fn access(tokens: &str, allow_anonymous: bool, address: &str) -> Result<Access, Error> {
        let settings =
            HostSettings { auth_tokens: Secret::new(tokens), allow_anonymous, ..HostSettings::defaults() };
        Access::of(&settings, address.parse().unwrap())
    }

    fn with(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(token).unwrap())])
    }

    #[test]
    fn a_token_names_tenant_and_role() {
        let access = access("abc==acme:admin, xyz=zeta:agent", false, "0.0.0.0:1").unwrap();
        assert_eq!(access.identify(&with("Bearer abc=")).unwrap(), Some(Caller::new("acme", Role::Admin)));
        assert_eq!(access.identify(&with("bearer xyz")).unwrap(), Some(Caller::new("zeta", Role::Agent)));
        assert_eq!(access.identify(&HeaderMap::new()).unwrap(), None);
        for wrong in ["Bearer xy", "Bearer xyzz", "Bearer ", "Basic xyz", "xyz"] {
            assert_eq!(access.identify(&with(wrong)).unwrap_err().code(), Code::Unauthenticated, "{wrong}");
        }
    }

    #[test]
    fn a_token_may_have_a_name_by_which_its_callers_are_told_apart() {
        let access = access("one=acme:admin:night.job, two=acme:admin", false, "0.0.0.0:1").unwrap();
        let caller = |token| access.identify(&with(token)).unwrap().unwrap();
        assert_eq!(caller("Bearer one"), Caller::new("acme", Role::Admin).named("night.job"));
        assert_eq!(&*caller("Bearer two").name, "");
    }

    #[test]
    fn without_tokens_only_this_machine_is_let_in() {
        for local in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let access = access("", false, local).unwrap();
            assert_eq!(
                access.identify(&HeaderMap::new()).unwrap(),
                Some(Caller::new("default", Role::Admin))
            );
        }
        assert!(matches!(access("", false, "0.0.0.0:1"), Err(Error::Unprotected { .. })));
        let open = access("", true, "0.0.0.0:1").unwrap();
        assert_eq!(open.identify(&HeaderMap::new()).unwrap(), Some(Caller::new("default", Role::Agent)));
    }

    #[test]
    fn a_bad_entry_is_named_by_its_position_and_not_shown() {
        for bad in [
            "hunter2",
            "hunter2=acme",
            "hunter2=acme:root",
            "=acme:agent",
            "hunter2=a b:agent",
            "hunter2=acme:agent:",
            "hunter2=acme:agent:a:b",
        ] {
            let error = access(&format!("good=acme:agent,{bad}"), false, "127.0.0.1:1").unwrap_err();
            assert!(matches!(error, Error::Tokens { entry: 2, .. }), "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn tokens_are_not_in_debug_output() {
        assert!(!format!("{:?}", access("hunter2=acme:agent", false, "127.0.0.1:1")).contains("hunter2"));
    }
}
