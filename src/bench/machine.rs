//! What the machine says of this process: its cores, its memory, its processor time. Where it says nothing, figures
//! are left out rather than guessed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// How many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most memory that was resident since the last [`forget_resident_max`], in bytes. Linux only.
pub fn resident_bytes_max() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Begins to look for the most resident memory anew; tells whether the system could.
pub fn forget_resident_max() -> bool {
    // 5 resets the peak; see proc(5).
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The processor time of all living threads of this process so far. Linux only.
pub fn processor_time() -> Option<Duration> {
    Some(thread_times("self")?.into_values().sum())
}

/// The same by the names of the threads, for a process by its number.
pub fn thread_times(process: &str) -> Option<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let task = task.ok()?.path();
        // A thread may end between the listing and the reading.
        let (Ok(name), Ok(text)) = (
            fs::read_to_string(task.join("comm")),
            fs::read_to_string(task.join("schedstat")),
        ) else {
            continue;
        };
        let nanos = text.split_whitespace().next()?.parse().ok()?;
        *times.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    Some(times)
}
