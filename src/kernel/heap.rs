//! What the allocator keeps of freed memory.

/// Gives freed memory back to the kernel. Reading data and policies takes several times the memory that is kept of them;
/// without this the C library holds on to it for as long as the process lives.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]
    // SAFETY: it takes no pointer, touches only free memory, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
