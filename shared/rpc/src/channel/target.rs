//! Where a channel calls: one URL, or several of the same service.

use std::{net::IpAddr, sync::Arc};

use http::{Uri, uri::Authority};

use crate::Error;

/// A server by name; it may stand for many addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether the host is an address, which no lookup can change.
    pub(super) is_address: bool,
    /// As requests name it.
    pub(super) authority: Authority,
}

impl Target {
    /// Reads URLs with commas between: `http://…` or `https://…`, all of the same scheme, without a path.
    pub(super) fn several(urls: &str) -> Result<Vec<Arc<Self>>, Error> {
        let wrong = || Error::Url { url: urls.to_owned() };
        let targets: Option<Vec<_>> =
            urls.split(',').map(|url| Self::parse(url.trim()).map(Arc::new)).collect();
        let targets = targets.ok_or_else(wrong)?;
        let is_alike = targets.windows(2).all(|pair| pair[0].tls == pair[1].tls);
        if is_alike { Ok(targets) } else { Err(wrong()) }
    }

    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return None,
        };
        let authority = uri.authority()?.clone();
        let is_bare =
            matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let is_address = host.parse::<IpAddr>().is_ok();
        (is_bare && !host.is_empty()).then_some(Self { tls, host, port, is_address, authority })
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_hosts_and_ports() {
        let read = |url: &str| {
            let target = Target::several(url).unwrap().remove(0);
            (target.tls, target.host.clone(), target.port, target.is_address)
        };
        assert_eq!(read("http://memory:7102"), (false, "memory".to_owned(), 7102, false));
        assert_eq!(read("https://memory.example/"), (true, "memory.example".to_owned(), 443, false));
        assert_eq!(read("http://[::1]:80"), (false, "::1".to_owned(), 80, true));
        assert_eq!(Target::several("http://a:1, http://b:2").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for wrong in [
            "",
            "localhost",
            "127.0.0.1:7102",
            "ftp://host",
            "http://",
            "http://a/path",
            "http://a?x",
            "http://user:key@a",
            "http://a,",
            "http://a,https://b",
        ] {
            assert!(matches!(Target::several(wrong), Err(Error::Url { .. })), "{wrong}");
        }
    }
}
