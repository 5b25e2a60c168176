//! What the kernel does with packets of devices before they come to the TUN.

use crate::gateway::KERNEL_TERM;
use crate::kernel::divert::{Divert, Installed};
use crate::kernel::fastpath::{Fastpath, Place};
use crate::kernel::ingress::{Inside, Shortcut};
use anyhow::Result;
use ipnet::IpNet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Flows of each family that the kernel may forward at once.
const FLOWS: u32 = 65_536;

/// Every so many looks it is also looked for networks behind the devices' interfaces, which takes a list of all routes.
const SELDOM: u32 = 30;

/// The kernel path of a gate, shared by its shards.
pub(super) type Kernel = Arc<Mutex<Fastpath>>;

/// What there is of it.
#[derive(Debug, Default)]
pub struct Early {
    way: Way,
    /// What the kernel refused, and what is done instead.
    pub(super) fallbacks: Vec<String>,
    /// Where the devices were when it was last looked.
    footing: (Vec<u32>, Vec<IpNet>),
    /// How often it was looked.
    looks: u32,
    /// How many packets the guard had dropped then.
    dropped: u64,
}

#[derive(Debug, Default)]
enum Way {
    /// Packets come to the TUN by routes.
    #[default]
    Routed,
    /// They come by routes, but flows may be left to the kernel.
    RoutedOrKernel(Kernel),
    /// They come by the short way.
    Short(Inside, Shortcut),
    /// They come by the short way, and flows may be left to the kernel.
    ShortOrKernel(Inside, Kernel),
}

impl Early {
    /// Opens the best that the kernel has; `kernel` if it may be left flows.
    pub fn open(inside: Inside, kernel: bool) -> Self {
        let mut fallbacks = Vec::new();
        let way = if kernel {
            Self::with_kernel(inside, &mut fallbacks)
        } else {
            match Shortcut::open(&inside) {
                Ok(shortcut) => Way::Short(inside, shortcut),
                Err(error) => {
                    fallbacks.push(format!("{error:#}"));
                    Way::Routed
                }
            }
        };
        Self {
            way,
            fallbacks,
            ..Self::default()
        }
    }

    fn with_kernel(inside: Inside, fallbacks: &mut Vec<String>) -> Way {
        let open = |place| {
            Fastpath::open(place, &inside, KERNEL_TERM, FLOWS)
                .map(|fastpath| Arc::new(Mutex::new(fastpath)))
        };
        match open(Place::Ingress) {
            Ok(kernel) => return Way::ShortOrKernel(inside, kernel),
            // Whether flows can be left to the kernel is seen at the next place.
            Err(error) => fallbacks.push(format!(
                "packets take the kernel's long way to us: {}",
                error.root_cause()
            )),
        }
        match open(Place::Prerouting) {
            Ok(kernel) => Way::RoutedOrKernel(kernel),
            Err(error) => {
                let why = format!(
                    "every packet passes through here, none is left to the kernel: {error:#}"
                );
                eprintln!("cordon: {why}");
                fallbacks.push(why);
                Way::Routed
            }
        }
    }

    /// Whether packets need routes to come to the TUN.
    pub fn needs_routes(&self) -> bool {
        matches!(self.way, Way::Routed | Way::RoutedOrKernel(_))
    }

    /// Where flows are left to the kernel.
    pub(super) fn kernel(&self) -> Option<Kernel> {
        match &self.way {
            Way::RoutedOrKernel(kernel) | Way::ShortOrKernel(_, kernel) => Some(Arc::clone(kernel)),
            Way::Routed | Way::Short(..) => None,
        }
    }

    /// Whether flows are left to the kernel.
    pub(super) fn leaves_flows(&self) -> bool {
        self.kernel()
            .is_some_and(|kernel| !locked(&kernel).is_stopped())
    }

    /// Follows what happens on the machine. The short way is opened anew if the devices are elsewhere now: an interface
    /// that went took its chain with it. And if packets of flows that were left to the kernel are lost, none is any more.
    ///
    /// # Errors
    /// If the kernel refuses; then what is not taken meets the guard.
    pub fn follow(&mut self, divert: &Divert, installed: &Installed) -> Result<()> {
        let (Way::Short(inside, _) | Way::ShortOrKernel(inside, _)) = &mut self.way else {
            return Ok(());
        };
        let footing = divert.footing()?;
        self.looks = self.looks.wrapping_add(1);
        let moved = footing != self.footing;
        if moved || self.looks.is_multiple_of(SELDOM) {
            let now = divert.inside()?;
            if *inside != now {
                self.renew(now)?;
            }
            self.footing = footing;
        }
        self.doubt(installed.dropped()?, moved)
    }

    /// Opens the short way anew.
    fn renew(&mut self, now: Inside) -> Result<()> {
        match &mut self.way {
            Way::Short(inside, shortcut) => {
                shortcut.renew(&now)?;
                *inside = now;
            }
            Way::ShortOrKernel(inside, kernel) => {
                locked(kernel).renew(&now)?;
                *inside = now;
            }
            Way::Routed | Way::RoutedOrKernel(_) => {}
        }
        Ok(())
    }

    /// Leaves no flow to the kernel any more if packets of those that were are lost.
    fn doubt(&mut self, dropped: u64, moved: bool) -> Result<()> {
        let before = std::mem::replace(&mut self.dropped, dropped);
        // On an interface that has come back every packet is lost until it is noticed.
        if dropped > before
            && !moved
            && let Some(kernel) = self.kernel()
            && self.leaves_flows()
        {
            locked(&kernel).stop()?;
            let why = "no flow is left to the kernel any more: a rule of this machine changes the marks of packets (the \
                       bits 0xff000000 are ours), or devices send what only the guard sees";
            eprintln!("cordon: {why}");
            self.fallbacks.push(why.to_owned());
        }
        Ok(())
    }
}

/// The kernel path, whatever happened to who held it before: its changes are whole or not made.
pub(super) fn locked(kernel: &Kernel) -> MutexGuard<'_, Fastpath> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}
