//! Who calls.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use tonic::Code;

use crate::Fault;

/// The tenant of a caller without a token, where such callers are let in.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// Who calls: known from the token, never from a message.
///
/// The host puts it into the extensions of every request. In an axum handler it is an extractor that answers 401 where
/// the caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Whose data the call may see.
    pub tenant: Arc<str>,
    /// What the call may do.
    pub role: Role,
    /// What the caller's token is called, for accounts; empty where it has no name. It grants nothing.
    pub name: Arc<str>,
}

/// What a caller may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The work of an agent: read and write the data of its tenant.
    Agent,
    /// Beyond that: change caches, flush, see costs.
    Admin,
}

impl Caller {
    /// Makes a caller without a name.
    #[must_use]
    pub fn new(tenant: impl Into<Arc<str>>, role: Role) -> Self {
        Self { tenant: tenant.into(), role, name: Arc::from("") }
    }

    /// Gives the caller a name.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Returns who sent `request`. A request that came through no host (in a unit test) is the tenant `default` with the
    /// role `agent`; insert a `Caller` into its extensions for another.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_else(|| Self::new(DEFAULT_TENANT, Role::Agent))
    }

    /// Checks that the caller may do what `role` may.
    ///
    /// # Errors
    /// PERMISSION_DENIED with the reason `ROLE_REQUIRED`.
    pub fn require(&self, role: Role) -> Result<(), Fault> {
        if self.role >= role {
            return Ok(());
        }
        let needed = match role {
            Role::Agent => "this call needs the role agent",
            Role::Admin => "this call needs the role admin",
        };
        Err(Fault::new(Code::PermissionDenied, needed).reason("ROLE_REQUIRED"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().ok_or((StatusCode::UNAUTHORIZED, "a bearer token is needed\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_what_an_agent_may() {
        assert!(Caller::new("acme", Role::Admin).require(Role::Agent).is_ok());
        let fault = Caller::new("acme", Role::Agent).require(Role::Admin).unwrap_err();
        assert_eq!((fault.code(), fault.reason_word()), (Code::PermissionDenied, Some("ROLE_REQUIRED")));
    }

    #[test]
    fn a_request_that_came_through_no_host_has_the_least_rights() {
        assert_eq!(Caller::of(&tonic::Request::new(())), Caller::new("default", Role::Agent));
    }
}
