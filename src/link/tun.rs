//! The TUN interface: IP packets in and out, each behind a [`crate::packet::offload`] header.
//!
//! The `tun` crate makes and configures the device; this layer adds what it lacks on Linux: several queues,
//! `TUNSETOFFLOAD`, and one layout for devices with and without the virtio header. See `linux/if_tun.h`.
#![expect(
    unsafe_code,
    reason = "the TUN ioctls and taking over descriptors have no safe interface"
)]

use crate::kernel::netlink::{self, Netlink};
use crate::packet::offload;
use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

const DEVICE: &str = "/dev/net/tun";

/// Packets the kernel keeps for us. A TUN drops silently when its queue is full, so there is room for a burst.
const QUEUE_LEN: u32 = 4096;

const CHECKSUM: u8 = 1;
const TSO: u8 = 2;
const USO: u8 = 4;

/// What the kernel does for packets on their way in and out, so that userspace need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Transport checksums may be left partial.
    pub checksum: bool,
    /// TCP segments of one flow come and go as super-segments of up to 64 KiB.
    pub tso: bool,
    /// UDP datagrams of one flow come and go as super-datagrams (since Linux 6.2).
    pub uso: bool,
}

/// One queue of a TUN interface, non-blocking. The interface goes when its last queue is closed.
///
/// Every packet has the 10 bytes of [`offload::LEN`] before it, in and out; where the device has no virtio header they
/// are zeros.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
    virtio: bool,
    offloads: AtomicU8,
}

impl Tun {
    /// Bytes a receive buffer needs: the header and the largest packet.
    pub const BUFFER: usize = offload::LEN + 65_536;

    /// Makes the interface `name`, gives it an MTU in bytes and switches it on.
    ///
    /// # Errors
    /// If the name is taken or too long, `/dev/net/tun` is missing, or for want of rights; each says what to do.
    pub fn create(name: &str, mtu: u16) -> Result<Self> {
        Self::vacant(name)?;
        let (device, virtio) = match device(name, mtu, true) {
            // Kernels or sandboxes without the virtio header refuse the flag; plain packets work everywhere.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (device(name, mtu, false), false)
            }
            made => (made, true),
        };
        Self::started(device, name, virtio)
    }

    /// As [`Tun::create`], but without the virtio header, as phones hand out their interfaces.
    ///
    /// # Errors
    /// As [`Tun::create`].
    pub fn create_plain(name: &str, mtu: u16) -> Result<Self> {
        Self::vacant(name)?;
        Self::started(device(name, mtu, false), name, false)
    }

    /// As [`Tun::create`], with `count` queues. Linux keeps a flow on one queue as long as its answers are written to
    /// the queue it was read from.
    ///
    /// # Errors
    /// As [`Tun::create`].
    pub fn create_queues(name: &str, mtu: u16, count: usize) -> Result<Vec<Self>> {
        if count <= 1 {
            return Ok(vec![Self::create(name, mtu)?]);
        }
        Self::vacant(name)?;
        let queues = (0..count)
            .map(|_| {
                let fd = OwnedFd::from(open()?);
                set_interface(&fd, name)
                    .map_err(|error| refused(name, &error))
                    .and_then(|()| Self::configured(fd, name.to_owned(), true))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut netlink = Netlink::open()?;
        netlink.set_mtu(name, u32::from(mtu))?;
        netlink.set_queue_len(name, QUEUE_LEN)?;
        netlink.up(name)?;
        Ok(queues)
    }

    /// Takes over a queue that another process has made, wherever its interface is.
    ///
    /// # Errors
    /// If the descriptor is no TUN queue of bare IP packets.
    pub fn adopt(fd: OwnedFd) -> Result<Self> {
        let (name, flags) =
            interface(&fd).context("the descriptor handed over is no TUN interface")?;
        let wanted = libc::IFF_TUN | libc::IFF_NO_PI;
        if flags & (libc::IFF_TUN | libc::IFF_TAP | libc::IFF_NO_PI) != wanted {
            bail!(
                "the interface {name} does not carry bare IP packets: make it a TUN with IFF_NO_PI"
            );
        }
        Self::configured(fd, name, flags & libc::IFF_VNET_HDR != 0)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel takes over. It may become less at run time; see [`Tun::send`].
    pub fn offloads(&self) -> Offloads {
        let bits = self.offloads.load(Ordering::Relaxed);
        Offloads {
            checksum: bits & CHECKSUM != 0,
            tso: bits & TSO != 0,
            uso: bits & USO != 0,
        }
    }

    /// Reads one packet with its header to the start of `buf`, which has [`Tun::BUFFER`] bytes, and returns how many
    /// bytes both take; `None` if none waits.
    ///
    /// # Errors
    /// If the interface is gone or down.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let (header, packet) = buf
            .split_at_mut_checked(offload::LEN)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let read = if self.virtio {
            nonblocking(|| nix::unistd::read(&self.fd, buf))?
        } else {
            header.fill(0);
            nonblocking(|| nix::unistd::read(&self.fd, packet))?.map(|len| len + offload::LEN)
        };
        Ok(read)
    }

    /// Writes one packet behind its header, as [`crate::packet::Offload`] encodes it.
    ///
    /// Some kernels refuse super-packets they promised to take. Such an error also takes the promise back: the next
    /// look at [`Tun::offloads`] tells, and the sender goes on with ordinary packets.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel has no room, `InvalidInput` for a packet the device does not take, `Unsupported` for
    /// one that needs an offload it does not have; anything else if the interface is gone or down.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let Some((header, packet)) = bytes.split_at_checked(offload::LEN) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !self.virtio {
            if header.iter().any(|byte| *byte != 0) {
                return Err(io::ErrorKind::Unsupported.into());
            }
            return written(nonblocking(|| nix::unistd::write(&self.fd, packet)));
        }
        let sent = written(nonblocking(|| nix::unistd::write(&self.fd, bytes)));
        if let Err(error) = &sent
            && error.raw_os_error() == Some(libc::EINVAL)
        {
            self.retract(header);
        }
        sent
    }

    /// Fails if the name is taken or cannot be one, or the device cannot be opened: whatever goes wrong later is about
    /// the interface.
    fn vacant(name: &str) -> Result<()> {
        open()?;
        match Netlink::open()?.index(name) {
            Ok(_) => bail!("the interface {name} exists already: choose another name or remove it"),
            Err(error) if netlink::errno(&error) == Some(libc::ENODEV) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn started(device: io::Result<tun::Device>, name: &str, virtio: bool) -> Result<Self> {
        let device = device.map_err(|error| refused(name, &error))?;
        // SAFETY: the device gives its descriptor away and forgets it, so that this is the only owner.
        let fd = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
        Netlink::open()?.set_queue_len(name, QUEUE_LEN)?;
        Self::configured(fd, name.to_owned(), virtio)
    }

    fn configured(fd: OwnedFd, name: String, virtio: bool) -> Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // The mask belongs to the device, so it is set even where an earlier owner may have done so.
        let offloads = if virtio { negotiate(&fd) } else { 0 };
        Ok(Self {
            fd,
            name,
            virtio,
            offloads: AtomicU8::new(offloads),
        })
    }

    /// Takes back the promise that a refused header relied on.
    fn retract(&self, header: &[u8]) {
        let kind = header.get(1).map(|kind| kind & !GSO_ECN);
        let promise = match kind {
            Some(GSO_TCP4 | GSO_TCP6) => TSO,
            Some(GSO_UDP_L4) => USO,
            _ => return,
        };
        self.offloads.fetch_and(!promise, Ordering::Relaxed);
    }
}

/// `VIRTIO_NET_HDR_GSO_…` of `linux/virtio_net.h`.
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Tun> for OwnedFd {
    fn from(tun: Tun) -> Self {
        tun.fd
    }
}

/// Whether this process may open `/dev/net/tun` at all.
///
/// # Errors
/// One sentence on what is missing and how to get it.
pub fn available() -> Result<()> {
    open().map(drop)
}

fn open() -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::ENOENT) => {
                    "load the driver (modprobe tun), or give the container the device (--device /dev/net/tun)"
                }
                Some(libc::EACCES | libc::EPERM) => {
                    "run as root, or let your user read and write it (chmod 666 /dev/net/tun)"
                }
                _ => "check that the driver is loaded (modprobe tun)",
            };
            anyhow!("cannot open {DEVICE}: {}: {remedy}", netlink::plain(&error))
        })
}

fn device(name: &str, mtu: u16, virtio: bool) -> io::Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration
        .tun_name(name)
        .mtu(mtu)
        .up()
        .platform_config(|linux| {
            linux.vnet_hdr(virtio);
        });
    tun::create(&configuration).map_err(|error| {
        if let tun::Error::Io(error) = error {
            error
        } else {
            io::Error::other(error)
        }
    })
}

/// Why the interface `name` could not be made.
fn refused(name: &str, error: &io::Error) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "it needs CAP_NET_ADMIN in this network namespace (run it as root)"
        }
        Some(libc::EBUSY) => "the name is in use: choose another one",
        _ => "check the name and the MTU",
    };
    anyhow!(
        "cannot make the TUN interface {name}: {}: {remedy}",
        netlink::plain(error)
    )
}

/// Asks for all offloads, then for fewer, and returns what was granted.
fn negotiate(fd: &OwnedFd) -> u8 {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    [
        (tcp | udp, CHECKSUM | TSO | USO),
        (tcp, CHECKSUM | TSO),
        (libc::TUN_F_CSUM, CHECKSUM),
    ]
    .into_iter()
    .find(|(mask, _)| set_offload(fd, *mask).is_ok())
    .map_or(0, |(_, granted)| granted)
}

fn set_offload(fd: &OwnedFd, mask: libc::c_uint) -> nix::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of this process.
    let result = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(mask),
        )
    };
    nix::errno::Errno::result(result).map(drop)
}

/// The part of `struct ifreq` (`linux/if.h`) that TUN requests use, in its full size.
#[repr(C)]
#[derive(Default)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() >= size_of::<libc::ifreq>());

fn set_interface(fd: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut request = InterfaceRequest {
        flags: i16::try_from(flags).map_err(io::Error::other)?,
        ..InterfaceRequest::default()
    };
    for (to, from) in request
        .name
        .iter_mut()
        .zip(name.bytes().take(netlink::MAX_NAME))
    {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which is no larger than what lives on this stack.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Ok(nix::errno::Errno::result(result).map(drop)?)
}

/// Name and `IFF_…` flags of the interface behind a queue.
fn interface(fd: &OwnedFd) -> io::Result<(String, i32)> {
    let mut request = InterfaceRequest::default();
    // SAFETY: TUNGETIFF writes one `ifreq`, which is no larger than what lives on this stack; files of other kinds
    // refuse the request.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    nix::errno::Errno::result(result)?;
    let name = request.name.split(|byte| *byte == 0).next();
    let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
    Ok((name, i32::from(request.flags)))
}

/// Runs a call until no signal interrupts it; `None` if it would have to wait.
fn nonblocking(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(len) => return Ok(Some(len)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn written(result: io::Result<Option<usize>>) -> io::Result<()> {
    result?
        .map(drop)
        .ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these tests read files")]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_tun_is_refused() {
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let error = Tun::adopt(null).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("the descriptor handed over is no TUN interface"),
            "{error:#}"
        );
    }

    #[test]
    fn a_refused_super_packet_takes_back_only_the_promise_it_relied_on() {
        let tun = Tun {
            fd: OwnedFd::from(File::open("/dev/null").unwrap()),
            name: "none".to_owned(),
            virtio: true,
            offloads: AtomicU8::new(CHECKSUM | TSO | USO),
        };
        tun.retract(&[1, GSO_UDP_L4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let left = tun.offloads();
        assert!(left.checksum && left.tso && !left.uso);
        tun.retract(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(tun.offloads(), left);
        tun.retract(&[1, GSO_TCP6 | GSO_ECN, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(!tun.offloads().tso);
    }

    #[test]
    fn names_no_interface_can_have_are_refused_in_one_sentence() {
        // Where the device is missing, that is what is said; both are one line.
        let error = Tun::create("much-too-long-for-linux", 1500).unwrap_err();
        let sentence = format!("{error:#}");
        assert!(!sentence.contains('\n'));
        assert!(
            sentence.contains("choose one of 1 to 15 bytes") || sentence.contains(DEVICE),
            "{sentence}"
        );
    }
}
