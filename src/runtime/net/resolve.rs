//! Names, as a guest asks for them.
//!
//! In order: addresses in digits, `localhost`, the pod's own host name, what the cluster knows, and
//! last the host's resolver, which a pod without egress never reaches (its questions would leave
//! the cluster as surely as a connection). Unicode names are converted as browsers do.

use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Error;
use super::options::Family;
use super::pod_net::PodNet;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses that one answer may have.
const MAX_ADDRESSES: usize = 1024;

type Answer = Result<Vec<IpAddr>, Error>;

/// A question being answered; a future of the addresses, at least one.
pub struct Lookup(State);

enum State {
    Done(Option<Answer>),
    Waiting(oneshot::Receiver<Answer>),
}

impl Lookup {
    fn done(answer: Answer) -> Self {
        Self(State::Done(Some(answer)))
    }
}

impl Future for Lookup {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut self.0 {
            State::Done(answer) => Poll::Ready(answer.take().unwrap_or(Err(Error::InvalidState))),
            State::Waiting(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|answer| answer.unwrap_or(Err(Error::TemporaryResolverFailure))),
        }
    }
}

impl PodNet {
    /// Resolves a name.
    pub fn lookup(&self, name: &str) -> Lookup {
        let domain = match url::Host::parse(name) {
            Ok(url::Host::Domain(domain)) => domain,
            Ok(url::Host::Ipv4(ip)) => return Lookup::done(Ok(vec![ip.into()])),
            Ok(url::Host::Ipv6(ip)) => return Lookup::done(Ok(vec![ip.to_canonical()])),
            Err(_) => {
                // Bare IPv6 addresses are no hosts of a URL.
                let bare = name.parse::<Ipv6Addr>();
                let answer = bare.map(|ip| vec![ip.to_canonical()]);
                return Lookup::done(answer.map_err(|_| Error::InvalidArgument));
            }
        };
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        match self.lookup_inside(domain) {
            Some(mut addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                if addresses.is_empty() {
                    return Lookup::done(Err(Error::NameUnresolvable));
                }
                Lookup::done(Ok(addresses))
            }
            None if self.config.egress => {
                let cluster = &self.fabric.cluster;
                let alias = cluster.alias(&self.config.namespace, domain);
                self.lookup_outside(alias.as_deref().unwrap_or(domain))
            }
            None => Lookup::done(Err(Error::NameUnresolvable)),
        }
    }

    fn lookup_inside(&self, domain: &str) -> Option<Vec<IpAddr>> {
        if domain == "localhost" || domain.ends_with(".localhost") {
            return Some(vec![Family::V4.loopback(), Family::V6.loopback()]);
        }
        if domain.eq_ignore_ascii_case(&self.config.hostname) {
            return Some(vec![self.config.ip]);
        }
        let cluster = &self.fabric.cluster;
        cluster.resolve(&self.config.namespace, domain)
    }

    fn lookup_outside(&self, domain: &str) -> Lookup {
        let (mut answer, receiver) = oneshot::channel();
        let domain = domain.to_owned();
        self.fabric
            .tasks
            .spawn_contained("name-lookup", async move {
                let found = tokio::select! {
                    () = answer.closed() => return,
                    found = tokio::time::timeout(
                        LOOKUP_TIMEOUT,
                        tokio::net::lookup_host((domain.as_str(), 0)),
                    ) => found,
                };
                let result = match found {
                    Ok(Ok(addresses)) => {
                        let mut distinct: Vec<IpAddr> = Vec::new();
                        for addr in addresses.take(MAX_ADDRESSES) {
                            let ip = addr.ip().to_canonical();
                            if !distinct.contains(&ip) {
                                distinct.push(ip);
                            }
                        }
                        if distinct.is_empty() {
                            Err(Error::NameUnresolvable)
                        } else {
                            Ok(distinct)
                        }
                    }
                    Ok(Err(_)) => Err(Error::NameUnresolvable),
                    Err(_) => Err(Error::TemporaryResolverFailure),
                };
                drop(answer.send(result));
            });
        Lookup(State::Waiting(receiver))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;
    use super::*;

    #[tokio::test]
    async fn names_are_answered_in_order() {
        let world = World::new();
        let cases: [(&str, Result<&[&str], Error>); 13] = [
            ("10.1.2.3", Ok(&["10.1.2.3"])),
            ("::1", Ok(&["::1"])),
            // Never IPv4 in disguise.
            ("::ffff:10.1.2.3", Ok(&["10.1.2.3"])),
            ("[::ffff:10.1.2.3]", Ok(&["10.1.2.3"])),
            ("[::1]", Ok(&["::1"])),
            ("localhost", Ok(&["127.0.0.1", "::1"])),
            ("LOCALHOST.", Ok(&["127.0.0.1", "::1"])),
            ("web-0", Ok(&["10.64.0.1"])),
            ("db", Ok(&["10.43.0.1"])),
            ("empty", Err(Error::NameUnresolvable)),
            ("example.com", Err(Error::NameUnresolvable)),
            ("", Err(Error::InvalidArgument)),
            ("a b", Err(Error::InvalidArgument)),
        ];
        for (name, expected) in cases {
            let expected = expected.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect());
            assert_eq!(world.first.lookup(name).await, expected, "{name}");
        }
    }
}
