//! Fair shares: one client holds at most an eighth of what a listener has, so that nobody can take all of it.
//!
//! A client is an address; of IPv6 the network of 64 bits, since who has one has all addresses in it. Behind a proxy all
//! have the proxy's address: those of the proxies that are trusted tell whom a request is from.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    str,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use ipnet::IpNet;

/// How a proxy tells from whom a request came to it, after those whom it was told.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose address is a client's, and what each client holds of the requests at work.
#[derive(Debug, Default)]
pub(crate) struct FairShares {
    proxies: Vec<IpNet>,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// A client's hold on one more request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    shares: Arc<FairShares>,
    client: IpAddr,
}

impl FairShares {
    /// Behind proxies in these networks.
    pub(crate) fn new(proxies: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { proxies, held: Mutex::default() })
    }

    /// Is it the address of a trusted proxy?
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// The client that a request from this peer is from: the last address that no trusted proxy has.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(HeaderValue::as_bytes);
        let mut told =
            lines.flat_map(|line| line.rsplit(|byte| *byte == b',')).map_while(address_of);
        let mut client = peer;
        while self.is_proxy(client) {
            let Some(address) = told.next() else { break };
            client = address;
        }
        self::client(client)
    }

    /// Lets a client hold one more of `limit`, unless it has its share.
    pub(crate) fn hold(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(client).or_default();
        if *count >= share_of(limit) {
            return None;
        }
        *count += 1;
        Some(Held { shares: Arc::clone(self), client })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

/// One client's part of a whole.
pub(crate) fn share_of(limit: usize) -> usize {
    (limit / 8).max(1)
}

/// Who has an address, as far as it is told from others.
pub(crate) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            Ipv6Addr::from(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// An address as proxies write it: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::7`, `[2001:db8::7]:80`.
fn address_of(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']')).map(|(bare, _)| bare);
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    bare.unwrap_or(text).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<FairShares> {
        FairShares::new(["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec())
    }

    fn client_of(peer: &str, told: &[&str]) -> String {
        let told = told.iter().map(|line| (FORWARDED_FOR, line.parse().unwrap()));
        shares().client(peer.parse().unwrap(), &told.collect()).to_string()
    }

    #[test]
    fn a_client_is_who_no_trusted_proxy_is() {
        for (peer, told, client) in [
            ("192.0.2.1", &["198.51.100.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9"], "198.51.100.9"),
            ("::ffff:10.0.0.1", &["198.51.100.9:80"], "198.51.100.9"),
            ("10.0.0.1", &["made.up, 198.51.100.9, 10.0.0.2"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.1", "198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", &["203.0.113.1, unknown"], "10.0.0.1"),
            ("fd00::1", &["[2001:db8:1:2:3::4]:443"], "2001:db8:1:2::"),
            ("10.0.0.1", &["10.0.0.3"], "10.0.0.3"),
        ] {
            assert_eq!(client_of(peer, told), client, "{peer} {told:?}");
        }
    }

    #[test]
    fn a_client_holds_an_eighth_and_others_hold_theirs() {
        let shares = shares();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let mut held: Vec<_> = (0..4).map(|_| shares.hold(one, 32).unwrap()).collect();
        assert!(shares.hold(one, 32).is_none());
        assert!(shares.hold(other, 32).is_some());
        held.pop();
        assert!(shares.hold(one, 32).is_some());
        drop(held);
        assert!(shares.held.lock().unwrap().is_empty());
        assert_eq!(share_of(3), 1);
    }
}
