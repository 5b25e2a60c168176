//! Asking the resolvers that are configured, by whichever transport: a thread of its own, so that no packet waits.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the shell holds the sockets and reads the system's files"
)]

mod by_exit;
mod provider;
mod upstream;

pub use upstream::system;

use crate::config;
use crate::exit::Ways;
use crate::gateway::{Ask, Dns, Lane};
use crate::policy::{Permit, Route};
use anyhow::{Context, Result, bail};
use hickory_proto::op::Message;
use provider::Provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use upstream::{Address, Upstream};

/// How long one resolver may take before the next is asked.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Takes what came of a question; `None` if no resolver answered it.
pub type Deliver = Box<dyn FnOnce(Option<Message>) + Send>;

/// Asks resolvers. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Resolver(UnboundedSender<Parcel>);

/// What to ask, by which ways, and what is to be done with the answer.
struct Parcel(Ask, Arc<Ways>, Deliver);

impl Resolver {
    /// Reads what is configured and starts the thread; `None` if questions are not to be answered here. `mark` is the
    /// firewall mark of our own sockets.
    ///
    /// # Errors
    /// If an upstream cannot be read, the system names none, or there is no thread to be had.
    pub fn start(settings: &config::Dns, mark: Option<u32>) -> Result<Option<(Dns, Self)>> {
        if !settings.answer {
            return Ok(None);
        }
        let (plan, addresses) = plan(settings)?;
        let roots = roots(settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let provider = Provider::new(mark);
        let upstreams: Vec<Arc<Upstream>> = addresses
            .into_iter()
            .map(|address| Upstream::new(address, &provider, &roots).map(Arc::new))
            .collect::<Result<_>>()?;
        let (sender, mut asks) = unbounded_channel::<Parcel>();
        let work = async move {
            while let Some(Parcel(ask, ways, deliver)) = asks.recv().await {
                let upstreams = upstreams.clone();
                tokio::spawn(async move { deliver(answer(&upstreams, ask, &ways).await) });
            }
        };
        std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(work))
            .context("the system gives no thread")?;
        Ok(Some((plan, Self(sender))))
    }

    /// Has a question asked, by the ways that there are now where its permits name an exit. What comes of it is delivered
    /// from the resolver's thread.
    pub fn ask(&self, ask: Ask, ways: Arc<Ways>, deliver: Deliver) {
        if let Err(refused) = self.0.send(Parcel(ask, ways, deliver)) {
            let Parcel(.., deliver) = refused.0;
            deliver(None);
        }
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deliver")
    }
}

/// Asks one resolver after the other; those that failed of late come last.
async fn answer(upstreams: &[Arc<Upstream>], ask: Ask, ways: &Ways) -> Option<Message> {
    let mut permitted: Vec<(&Arc<Upstream>, &Permit)> = ask
        .upstreams
        .iter()
        .filter_map(|(place, permit)| {
            let upstream = upstreams.get(*place)?;
            (permit.destination() == upstream.address()).then_some((upstream, permit))
        })
        .collect();
    permitted.sort_by_key(|(upstream, _)| upstream.has_failed());
    for (upstream, permit) in permitted {
        let answer = async {
            match permit.route() {
                Route::Direct => upstream.ask(&ask.message).await,
                Route::Via(_) => upstream.ask_by(ways, permit, &ask.message).await,
            }
        };
        if let Ok(Some(message)) = tokio::time::timeout(ATTEMPT, answer).await {
            upstream.answered();
            return Some(message);
        }
        upstream.failed();
    }
    None
}

/// What the gateway is told of, and where the upstreams are.
fn plan(settings: &config::Dns) -> Result<(Dns, Vec<Address>)> {
    let mut addresses = Vec::new();
    let mut lane = |texts: &[String]| -> Result<Vec<usize>> {
        let mut places = Vec::new();
        for text in texts {
            for address in Address::read(text)? {
                places.push(addresses.len());
                addresses.push(address);
            }
        }
        Ok(places)
    };
    let mut routes = Vec::new();
    for route in &settings.route {
        if route.domain.is_empty() && route.from.is_empty() {
            bail!("a route under [dns] needs a `domain` or a `from`");
        }
        routes.push(Lane {
            domains: route.domain.iter().map(|name| canonical(name)).collect(),
            sources: route.from.clone(),
            upstreams: lane(&route.upstreams)?,
        });
    }
    let last = Lane {
        upstreams: lane(&settings.upstreams)?,
        ..Lane::default()
    };
    routes.push(last);
    let upstreams = addresses.iter().map(Address::upstream).collect();
    let private = settings.private.iter().map(|name| canonical(name));
    let plan = Dns {
        upstreams,
        routes,
        private: private.collect(),
    };
    Ok((plan, addresses))
}

fn canonical(name: &str) -> Box<str> {
    let bare = name.trim_start_matches('.');
    crate::policy::canonical_name(bare).map_or_else(|| bare.into(), Into::into)
}

/// Who may vouch for upstreams: the public authorities, and those of the configured file.
fn roots(settings: &config::Dns) -> Result<Vec<CertificateDer<'static>>> {
    let Some(path) = &settings.ca else {
        return Ok(Vec::new());
    };
    let fault = || format!("cannot read certificates from {}", path.display());
    let text = std::fs::read(path).with_context(fault)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(fault)
}
