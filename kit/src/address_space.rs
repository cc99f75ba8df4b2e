//! How much address space the allocator reserves.
//!
//! glibc gives threads arenas of their own, up to eight for each core, and reserves 64 MiB of address space for each. Under a limit of
//! address space (`ulimit -v`, RLIMIT_AS) they take all of it, and no further thread can be started.

/// Arenas at most: the worker threads and the chains have one each.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: std::ffi::c_int = 4;

/// Bounds what is reserved. It has to come before the first thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn bound() {
    #[expect(
        unsafe_code,
        reason = "mallopt takes two numbers and touches no memory of ours; there is no safe binding"
    )]
    // SAFETY: both arguments are plain numbers, and no other thread runs yet.
    let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
    if taken == 0 {
        tracing::debug!(
            arenas = ARENAS_MAX,
            "the allocator keeps its own number of arenas"
        );
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn bound() {}
