//! Memory for the TCP terminator's rings: reserved at once, committed page by page as it is written to.
//!
//! A socket of the terminator keeps its rings as long as it lives, so sockets are recycled whole: a socket that ends
//! is put aside with its rings, whose pages are [given back](crate::stack::Rings::idle) meanwhile, and taken up again
//! for another flow. Addresses are cheap; the terminator counts the memory.
#![expect(
    unsafe_code,
    reason = "memory that outlives every borrow, and giving its pages back, has no safe interface"
)]

use crate::stack::Ring;
use anyhow::{Context, Result, ensure};
use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};

/// Address space is reserved in pieces of this many bytes, or of one ring if that is larger.
const CHUNK: usize = 64 << 20;

/// The rings of one shard.
#[derive(Debug)]
pub struct Rings {
    page: usize,
    chunks: Vec<Chunk>,
    lent: Vec<Place>,
}

#[derive(Debug)]
struct Chunk {
    /// Never unmapped: slices of it are out for ever.
    map: std::mem::ManuallyDrop<MmapRaw>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    offset: usize,
    len: usize,
}

impl Rings {
    /// None lent yet.
    ///
    /// # Errors
    /// If the system does not tell its page size.
    pub fn new() -> Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?
            .and_then(|size| usize::try_from(size).ok())
            .context("the system does not tell its page size")?;
        Ok(Self {
            page,
            chunks: Vec::new(),
            lent: Vec::new(),
        })
    }

    /// Finds `len` bytes that nobody has.
    fn place(&mut self, len: usize) -> Option<(usize, usize)> {
        if let Some(last) = self.chunks.last()
            && last.map.len() - last.used >= len
        {
            return Some((self.chunks.len() - 1, last.used));
        }
        let map = reserve(len.max(CHUNK)).ok()?;
        let map = std::mem::ManuallyDrop::new(map);
        self.chunks.push(Chunk { map, used: 0 });
        Some((self.chunks.len() - 1, 0))
    }
}

/// Address space without memory behind it.
fn reserve(len: usize) -> Result<MmapRaw> {
    ensure!(len > 0, "no room to reserve");
    let map: MmapMut = MmapOptions::new()
        .len(len)
        .no_reserve_swap()
        .map_anon()
        .context("cannot reserve memory for TCP")?;
    // Huge pages would commit 2 MiB for the first byte of a ring. Kernels without them refuse the advice, rightly.
    let _ = map.advise(Advice::NoHugePage);
    Ok(MmapRaw::from(map))
}

impl crate::stack::Rings for Rings {
    /// A fresh ring of at least `len` bytes, rounded up to whole pages; `None` if the system has no more room.
    fn take(&mut self, len: usize) -> Option<Ring> {
        let len = len.max(1).checked_next_multiple_of(self.page)?;
        let id = u32::try_from(self.lent.len()).ok()?;
        let (index, offset) = self.place(len)?;
        let chunk = self.chunks.get_mut(index)?;
        // SAFETY: the chunk is mapped readable and writable, private to this process, and never unmapped, so the bytes
        // live for ever. `used` only grows, so no two rings share a byte, and `place` made sure that
        // `offset + len` lies within the chunk. Anonymous memory is all zeros, which are valid bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(chunk.map.as_mut_ptr().add(offset), len) };
        chunk.used = offset + len;
        self.lent.push(Place {
            chunk: index,
            offset,
            len,
        });
        Some(Ring { id, bytes })
    }

    /// What the ring holds is worthless now: its pages go back to the system. Its holder keeps it, and finds zeros in
    /// it.
    ///
    /// Call it only while nobody is reading or writing the ring, that is, from the loop that owns the socket and
    /// between two calls into it.
    fn idle(&mut self, id: u32) {
        let Some(place) = self.lent.get(id as usize) else {
            return;
        };
        let Some(chunk) = self.chunks.get(place.chunk) else {
            return;
        };
        // SAFETY: the range lies within a private anonymous mapping that is never unmapped, and holds nothing but one
        // ring's bytes. MADV_DONTNEED makes it zeros at once and for good (MADV_FREE would do so at any later time,
        // under the holder's hands). Zeros are valid bytes, so to the holder it is as if it had cleared the ring
        // itself. The compiler cannot have kept a byte across this call: the address has been given to the kernel,
        // and no slice of the ring is an argument of any function that is running (see above).
        let result = unsafe {
            chunk
                .map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, place.offset, place.len)
        };
        // Failing to give pages back costs memory, not correctness.
        let _ = result;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these tests read files")]
mod tests {
    use super::*;
    use crate::stack::Rings as _;

    /// Resident bytes of the process (`/proc/self/statm`, second field, in pages).
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    #[test]
    fn rings_do_not_overlap_and_are_whole_pages() {
        let mut rings = Rings::new().unwrap();
        let a = rings.take(5000).unwrap();
        let b = rings.take(1).unwrap();
        assert_eq!((a.bytes.len(), b.bytes.len()), (8192, 4096));
        a.bytes.fill(0xaa);
        assert!(b.bytes.iter().all(|byte| *byte == 0));
        b.bytes.fill(0xbb);
        assert!(a.bytes.iter().all(|byte| *byte == 0xaa));
        assert_ne!(a.id, b.id);
    }

    #[test]
    fn memory_is_committed_by_writing_and_given_back_by_idling() {
        const LEN: usize = 96 << 20;
        let mut rings = Rings::new().unwrap();
        let before = resident();
        let ring = rings.take(LEN).unwrap();
        // Other tests of this process allocate meanwhile, but not by tens of megabytes.
        assert!(resident() < before + LEN / 2, "taking a ring commits it");
        ring.bytes.fill(7);
        assert!(resident() > before + LEN / 2);
        rings.idle(ring.id);
        assert!(resident() < before + LEN / 2, "idling keeps the pages");
        assert!(ring.bytes.iter().all(|byte| *byte == 0));
        ring.bytes[0] = 1;
        assert_eq!(ring.bytes[..2], [1, 0]);
    }
}
