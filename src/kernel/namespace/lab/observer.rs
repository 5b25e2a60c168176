//! The judge of what went over a cable: sees every packet in both directions.
//!
//! A packet socket with a memory-mapped ring (`packet_mmap`, TPACKET_V3): an ordinary socket loses packets under load,
//! and an observer that may have missed something proves nothing.
#![expect(unsafe_code, reason = "the ring is memory shared with the kernel")]

use super::Host;
use crate::kernel::netlink::Netlink;
use anyhow::{Context, Result, anyhow};
use memmap2::{MmapOptions, MmapRaw};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 32;
/// Milliseconds after which the kernel hands over a block that is not full.
const RETIRE: u32 = 2;
/// More bytes than any packet has.
const WHOLE: u32 = 1 << 18;
/// Milliseconds without a packet after which the observer takes it that none is left.
const QUIET: u8 = 50;

/// One packet, from its IP header on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// It left the host, as opposed to having come in.
    pub outgoing: bool,
    /// What it is (IEEE 802 numbers): `0x0800` IPv4, `0x86dd` IPv6, `0x0806` ARP.
    pub ethertype: u16,
    /// Its bytes. Super-packets come whole.
    pub bytes: Vec<u8>,
}

/// What an observer has seen.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// All packets that were seen.
    pub seen: u64,
    /// Packets that passed by unseen; anything but 0 makes a proof void.
    pub missed: u64,
    /// The packets that were to be kept, in order.
    pub kept: Vec<Frame>,
}

/// Watches one interface of a host until it is told to finish.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    finish: AtomicBool,
    capture: Mutex<Capture>,
}

impl Shared {
    fn capture(&self) -> std::sync::MutexGuard<'_, Capture> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// Watches an interface and keeps every packet.
    ///
    /// # Errors
    /// If the interface is not there or the kernel refuses the socket.
    pub fn on(host: &Host, link: &str) -> Result<Self> {
        Self::judging(host, link, |_| true)
    }

    /// Watches an interface and keeps the packets that `judge` says.
    ///
    /// # Errors
    /// As [`Observer::on`].
    pub fn judging(
        host: &Host,
        link: &str,
        judge: impl FnMut(&Frame) -> bool + Send + 'static,
    ) -> Result<Self> {
        Self::looking((host, link), WHOLE, judge)
    }

    /// The same with no more than the first `bytes` of each packet: so that many more of them find room until there is
    /// time to look at them.
    ///
    /// # Errors
    /// As [`Observer::on`].
    pub fn of_headers(
        host: &Host,
        link: &str,
        bytes: u32,
        judge: impl FnMut(&Frame) -> bool + Send + 'static,
    ) -> Result<Self> {
        Self::looking((host, link), bytes, judge)
    }

    fn looking(
        (host, link): (&Host, &str),
        bytes: u32,
        judge: impl FnMut(&Frame) -> bool + Send + 'static,
    ) -> Result<Self> {
        let ring = host.run(|| Ring::on(link, bytes))?;
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name(format!("observer of {link}"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || ring.watch(&shared, judge)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many packets it has seen so far.
    pub fn seen(&self) -> u64 {
        self.shared.capture().seen
    }

    /// Waits until no more packets come, and returns what was seen.
    ///
    /// # Errors
    /// If watching failed half way.
    pub fn finish(mut self) -> Result<Capture> {
        self.shared.finish.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the observer panicked"))??;
        }
        Ok(std::mem::take(&mut *self.shared.capture()))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.finish.store(true, Ordering::Relaxed);
    }
}

/// The socket and the blocks it shares with the kernel.
struct Ring {
    socket: OwnedFd,
    map: MmapRaw,
}

impl Ring {
    fn on(link: &str, bytes: u32) -> Result<Self> {
        let index = Netlink::open()?.index(link)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None::<SockProtocol>,
        )
        .context("cannot open a packet socket")?;
        let version: libc::c_int = 2; // TPACKET_V3
        set(&socket, libc::PACKET_VERSION, &version)?;
        let blocks = libc::tpacket_req3 {
            tp_block_size: u32::try_from(BLOCK)?,
            tp_block_nr: u32::try_from(BLOCKS)?,
            tp_frame_size: 2048,
            tp_frame_nr: u32::try_from(BLOCK / 2048 * BLOCKS)?,
            tp_retire_blk_tov: RETIRE,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::PACKET_RX_RING, &blocks)?;
        let map = MmapOptions::new()
            .len(BLOCK * BLOCKS)
            .map_raw(socket.as_raw_fd())
            .context("cannot map the packet ring")?;
        // A program of one instruction: take so many bytes (`BPF_RET | BPF_K`).
        let take = socket2::SockFilter::new(0x06, 0, 0, bytes);
        socket2::SockRef::from(&socket)
            .attach_filter(&[take])
            .context("cannot shorten packets")?;
        // Only now do packets come: bound to no protocol, the socket is deaf.
        bind(&socket, index)?;
        Ok(Self { socket, map })
    }

    fn watch(self, shared: &Shared, mut judge: impl FnMut(&Frame) -> bool) -> Result<()> {
        let mut at = 0;
        loop {
            if self.read_block(at, |frame| {
                let keep = judge(&frame);
                let mut capture = shared.capture();
                capture.seen += 1;
                if keep {
                    capture.kept.push(frame);
                }
            }) {
                at = (at + 1) % BLOCKS;
                continue;
            }
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let ready = match poll(&mut wanted, PollTimeout::from(QUIET)) {
                Err(nix::errno::Errno::EINTR) => continue,
                ready => ready?,
            };
            if ready == 0 && shared.finish.load(Ordering::Relaxed) {
                shared.capture().missed += u64::from(self.drops()?);
                return Ok(());
            }
        }
    }

    /// Hands over the packets of a block, if the kernel has released it, and gives it back.
    fn read_block(&self, block: usize, each: impl FnMut(Frame)) -> bool {
        // SAFETY: the mapping has BLOCKS blocks of BLOCK bytes, each with a block descriptor at its start, and the
        // mapping is page-aligned.
        let start = unsafe { self.map.as_mut_ptr().add(block * BLOCK) };
        let descriptor = start.cast::<libc::tpacket_block_desc>();
        // SAFETY: the status word is aligned and shared with the kernel, which reads and writes it atomically.
        let status = unsafe { AtomicU32::from_ptr(&raw mut (*descriptor).hdr.bh1.block_status) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: with the status at TP_STATUS_USER the block is ours until we give it back: nobody writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(start, BLOCK) };
        frames(bytes).for_each(each);
        fence(Ordering::SeqCst);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        true
    }

    /// Packets for which there was no room.
    fn drops(&self) -> Result<u32> {
        let mut statistics = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut len = libc::socklen_t::try_from(size_of_val(&statistics))?;
        // SAFETY: the kernel writes at most `len` bytes, which is the size of the structure.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut len,
            )
        };
        nix::errno::Errno::result(result)?;
        Ok(statistics.tp_drops)
    }
}

/// The packets of one block. A block that makes no sense has none beyond that point.
fn frames(block: &[u8]) -> impl Iterator<Item = Frame> + '_ {
    const COUNT: usize = std::mem::offset_of!(libc::tpacket_block_desc, hdr)
        + std::mem::offset_of!(libc::tpacket_hdr_v1, num_pkts);
    const FIRST: usize = std::mem::offset_of!(libc::tpacket_block_desc, hdr)
        + std::mem::offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
    let count = word(block, COUNT).unwrap_or(0);
    let mut at = word(block, FIRST).and_then(|first| usize::try_from(first).ok());
    (0..count).map_while(move |_| {
        let header = block.get(at?..)?;
        let (frame, next) = frame(header)?;
        at = at.and_then(|at| at.checked_add(next));
        Some(frame)
    })
}

/// A packet, and how far behind it the next one begins.
fn frame(header: &[u8]) -> Option<(Frame, usize)> {
    use std::mem::offset_of;
    type Header = libc::tpacket3_hdr;
    type Address = libc::sockaddr_ll;
    // The link-layer address follows, on a boundary of 16 bytes (`TPACKET_ALIGN`).
    const ADDRESS: usize = size_of::<Header>().next_multiple_of(16);
    let next = usize::try_from(word(header, offset_of!(Header, tp_next_offset))?).ok()?;
    let len = usize::try_from(word(header, offset_of!(Header, tp_snaplen))?).ok()?;
    let start = usize::from(half(header, offset_of!(Header, tp_net))?);
    let kind = header.get(ADDRESS + offset_of!(Address, sll_pkttype))?;
    let frame = Frame {
        outgoing: *kind == libc::PACKET_OUTGOING,
        ethertype: u16::from_be(half(header, ADDRESS + offset_of!(Address, sll_protocol))?),
        bytes: header.get(start..start.checked_add(len)?)?.to_vec(),
    };
    Some((frame, next))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the kernel reads `len` bytes, which is the size of the value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    nix::errno::Errno::result(result).context("cannot set up the packet ring")?;
    Ok(())
}

fn bind(socket: &OwnedFd, index: u32) -> Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads the size of the structure from it.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            libc::socklen_t::try_from(size_of_val(&address))?,
        )
    };
    nix::errno::Errno::result(result).context("cannot watch the interface")?;
    Ok(())
}
