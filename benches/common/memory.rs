//! The memory of processes, as the kernel counts it. In MB of a million bytes.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

/// What a tree of processes takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident memory, what is shared counted once in all.
    pub(crate) resident: f64,
    /// The highest resident memory that any one of them had so far.
    pub(crate) largest_peak: f64,
    /// How many there are.
    pub(crate) processes: usize,
    /// Of these, those whose shared pages are counted in full, because the kernel does not tell more.
    pub(crate) counted_whole: usize,
}

/// The most that the tree takes at any time of a run, and how often it was looked at. Looked at all the while, which
/// takes a processor: nothing else is to be measured in that run.
pub(crate) fn peak_of<T>(run: impl FnOnce() -> T) -> Result<(T, Memory, u32)> {
    let done = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&done);
    let looking = std::thread::spawn(move || {
        let (mut most, mut looks) = (Memory::default(), 0_u32);
        while !ended.load(Ordering::Relaxed) {
            let now = of_descendants();
            let largest_peak = most.largest_peak.max(now.largest_peak);
            most = if now.resident > most.resident { now } else { most };
            most.largest_peak = largest_peak;
            looks += 1;
            std::thread::yield_now();
        }
        (most, looks)
    });
    let ran = run();
    done.store(true, Ordering::Relaxed);
    let (most, looks) = looking.join().map_err(|_| anyhow!("the look at the memory panicked"))?;
    Ok((ran, most, looks))
}

/// This process's children, their children and so on. It adopts orphans, so none of them is missed.
pub(crate) fn of_descendants() -> Memory {
    let mut memory = Memory::default();
    for pid in descendants(std::process::id()) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let Some(whole) = kilobytes(&status, "VmRSS:") else { continue };
        let shared = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let part = shared.and_then(|rollup| kilobytes(&rollup, "Pss:"));
        memory.counted_whole += usize::from(part.is_none());
        memory.resident += part.unwrap_or(whole);
        memory.largest_peak = memory.largest_peak.max(kilobytes(&status, "VmHWM:").unwrap_or_default());
        memory.processes += 1;
    }
    memory
}

/// The resident memory of this process.
pub(crate) fn of_this_process() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmRSS:").unwrap_or_default()
}

/// The processes below `root`, without it.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; behind it: state, parent.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// A field in kB, as MB.
fn kilobytes(text: &str, field: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
