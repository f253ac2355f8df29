//! Names: resolved by the system, checked, and held to what they were.
//!
//! **Invariant:** no connection goes where no model gateway can be: to nobody, to everybody, or to the link, where clouds
//! keep their machines' credentials.
//! **Invariant:** a name that was public does not become this machine or its neighbourhood while the process runs. So a
//! foreign name server cannot turn the client on what it can reach and others cannot.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::ports::BoxFuture;
use lakitu_kernel::supervise::Guarded;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Until a name is resolved.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Asks the system.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The one name of a client.
pub(super) struct Names {
    lookup: Lookup,
    /// What it was the first time.
    pinned: Arc<Guarded<Option<Vec<IpAddr>>>>,
}

impl Names {
    /// Names as the system resolves them.
    pub(super) fn of_the_system() -> Self {
        Self::new(Arc::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        }))
    }

    fn new(lookup: Lookup) -> Self {
        Self { lookup, pinned: Arc::default() }
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let looked_up = (self.lookup)(name.as_str().to_owned());
        let pinned = Arc::clone(&self.pinned);
        Box::pin(async move {
            let found = tokio::time::timeout(RESOLVE_DEADLINE, looked_up).await;
            let found = found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s")));
            let addresses = pinned.with(|pinned| match (found, &*pinned) {
                (Ok(found), known) => {
                    let taken = checked(&found, known.as_deref())?;
                    pinned.get_or_insert_with(|| taken.clone());
                    Ok(taken)
                }
                // Who resolves names is away, and where this one leads is known.
                (Err(_), Some(known)) => Ok(known.clone()),
                (Err(error), None) => Err(error),
            })?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// What may be connected to of what was found, beside what was found the first time.
fn checked(found: &[IpAddr], pinned: Option<&[IpAddr]>) -> io::Result<Vec<IpAddr>> {
    let refused = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned()));
    let possible: Vec<IpAddr> = found.iter().copied().filter(|address| !is_impossible(*address)).collect();
    if possible.is_empty() {
        return refused(if found.is_empty() { "no address" } else { "the name leads to where no gateway can be" });
    }
    let was_public = pinned.is_some_and(|pinned| !pinned.iter().any(|address| is_near(*address)));
    if !was_public {
        return Ok(possible);
    }
    let public: Vec<IpAddr> = possible.into_iter().filter(|address| !is_near(*address)).collect();
    if public.is_empty() {
        return refused("the name was public and leads into a private network now");
    }
    Ok(public)
}

/// Whether no gateway can be there: nobody, everybody, or the link.
pub(super) fn is_impossible(address: IpAddr) -> bool {
    /// Where Amazon's machines find their credentials, beside the link's own address.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match plain(address) {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first >= 224 || v4.is_link_local()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || v6 == METADATA,
    }
}

/// Whether it is this machine or a network that is not the world's.
fn is_near(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

/// The address that a mapped or translated one stands for.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let translated = v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = v6.octets();
    let inner = if translated { Some(Ipv4Addr::new(a, b, c, d)) } else { v6.to_ipv4_mapped() };
    inner.map_or(address, IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn where_no_gateway_can_be_is_known_in_every_spelling() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(is_impossible(text.parse().unwrap()), "{text}");
        }
        for text in
            ["127.0.0.1", "10.0.0.1", "192.168.1.1", "1.1.1.1", "::1", "fd00::1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(!is_impossible(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_public_name_does_not_become_a_private_one() {
        type Addresses = &'static [&'static str];
        let rows: &[(Addresses, Option<Addresses>, Result<Addresses, &str>)] = &[
            (&["127.0.0.1"], None, Ok(&["127.0.0.1"])),
            (&["1.1.1.1", "169.254.169.254"], None, Ok(&["1.1.1.1"])),
            (&["169.254.169.254"], None, Err("no gateway can be")),
            (&[], None, Err("no address")),
            (&["8.8.8.8"], Some(&["1.1.1.1"]), Ok(&["8.8.8.8"])),
            (&["8.8.8.8", "10.0.0.1"], Some(&["1.1.1.1"]), Ok(&["8.8.8.8"])),
            (&["127.0.0.1"], Some(&["1.1.1.1"]), Err("was public")),
            (&["::ffff:10.0.0.1"], Some(&["1.1.1.1"]), Err("was public")),
            (&["64:ff9b::7f00:1"], Some(&["1.1.1.1"]), Err("was public")),
            (&["100.64.0.1"], Some(&["2606:4700::1111"]), Err("was public")),
            (&["fd00::1", "::1"], Some(&["1.1.1.1"]), Err("was public")),
            (&["10.0.0.2"], Some(&["10.0.0.1"]), Ok(&["10.0.0.2"])),
            (&["1.1.1.1"], Some(&["10.0.0.1"]), Ok(&["1.1.1.1"])),
            (&["10.0.0.1"], Some(&["10.0.0.1", "1.1.1.1"]), Ok(&["10.0.0.1"])),
        ];
        for (found, pinned, expected) in rows {
            let taken = checked(&ips(found), pinned.map(ips).as_deref());
            match expected {
                Ok(expected) => assert_eq!(taken.unwrap(), ips(expected), "{found:?} {pinned:?}"),
                Err(why) => assert!(taken.unwrap_err().to_string().contains(why), "{found:?} {pinned:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_held_to_what_it_was_and_known_while_nobody_resolves_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let lookup: Lookup = Arc::new(move |name| {
            assert_eq!(name, "gateway.example");
            let at = asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match at {
                    0 | 4 => Err(io::Error::other("no such host")),
                    1 => Ok(ips(&["1.1.1.1"])),
                    2 => Ok(ips(&["127.0.0.1"])),
                    3 => Ok(ips(&["8.8.8.8"])),
                    _ => std::future::pending().await,
                }
            })
        });
        let names = Names::new(lookup);
        let ask = async || {
            let found = names.resolve("gateway.example".parse().unwrap()).await;
            found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        assert!(ask().await.unwrap_err().contains("no such host"));
        assert_eq!(ask().await, Ok(ips(&["1.1.1.1"])));
        assert!(ask().await.unwrap_err().contains("was public"));
        assert_eq!(ask().await, Ok(ips(&["8.8.8.8"])));
        assert_eq!(ask().await, Ok(ips(&["1.1.1.1"])));
        let begun = tokio::time::Instant::now();
        assert_eq!(ask().await, Ok(ips(&["1.1.1.1"])));
        assert_eq!(begun.elapsed(), RESOLVE_DEADLINE);
    }
}
