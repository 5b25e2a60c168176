//! What the kernel does with packets of devices before they come to the TUN.

use crate::gateway::KERNEL_TERM;
use crate::kernel::fastpath::{Fastpath, Place};
use crate::kernel::ingress::{Inside, Shortcut};
use anyhow::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Flows of each family that the kernel may forward at once.
const FLOWS: u32 = 65_536;

/// The kernel path of a gate, shared by its shards.
pub(super) type Kernel = Arc<Mutex<Fastpath>>;

/// What there is of it.
#[derive(Debug, Default)]
pub struct Early {
    way: Way,
    /// What the kernel refused, and what is done instead.
    pub(super) fallbacks: Vec<String>,
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
        Self { way, fallbacks }
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

    /// Opens the short way anew if the devices are elsewhere now: an interface that went took its chain with it.
    ///
    /// # Errors
    /// If the kernel refuses; then what is not taken meets the guard.
    pub fn follow(&mut self, now: Inside) -> Result<()> {
        match &mut self.way {
            Way::Short(inside, shortcut) if *inside != now => {
                shortcut.renew(&now)?;
                *inside = now;
            }
            Way::ShortOrKernel(inside, kernel) if *inside != now => {
                locked(kernel).renew(&now)?;
                *inside = now;
            }
            Way::Routed | Way::RoutedOrKernel(_) | Way::Short(..) | Way::ShortOrKernel(..) => {}
        }
        Ok(())
    }
}

/// The kernel path, whatever happened to who held it before: its changes are whole or not made.
pub(super) fn locked(kernel: &Kernel) -> MutexGuard<'_, Fastpath> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}
