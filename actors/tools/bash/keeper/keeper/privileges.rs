//! What a command may not do even as root: undo what hides the runtime, or look past it.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Each of these leads out: by mounting, by another process's memory, by handles of files, by raw devices, by kernel
/// code, or by settings that hold for the whole machine.
const DROPPED: [CapabilitySet; 17] = [
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::DAC_READ_SEARCH,
    CapabilitySet::MKNOD,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::BPF,
    CapabilitySet::PERFMON,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::SYSLOG,
    CapabilitySet::AUDIT_CONTROL,
    CapabilitySet::SYS_PACCT,
    CapabilitySet::LINUX_IMMUTABLE,
    CapabilitySet::CHECKPOINT_RESTORE,
];

/// Takes them from this process and from everything it will execute, set-user-id programs included.
/// In a user namespace it is all capabilities: they are no use outside it and too much inside.
pub(super) fn drop_for_command(user_namespace: bool) -> io::Result<()> {
    let dropped = if user_namespace {
        CapabilitySet::from_bits_retain(u64::MAX)
    } else {
        DROPPED.iter().fold(CapabilitySet::empty(), |all, one| all | *one)
    };
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if dropped.contains(one) {
            bound(one)?;
        }
    }
    let mut held = capabilities(None)?;
    held.effective.remove(dropped);
    held.permitted.remove(dropped);
    held.inheritable.remove(dropped); // and with it from the ambient set
    Ok(set_capabilities(None, held)?)
}

fn bound(one: CapabilitySet) -> io::Result<()> {
    match capability_is_in_bounding_set(one) {
        Ok(true) => {}
        Ok(false) | Err(Errno::INVAL) => return Ok(()), // gone already, or not known to this kernel
        Err(error) => return Err(error.into()),
    }
    match remove_capability_from_bounding_set(one) {
        // Without CAP_SETPCAP there is nothing to lose by it either: this process holds no capability.
        Err(Errno::PERM) if capabilities(None)?.permitted.is_empty() => Ok(()),
        other => Ok(other?),
    }
}
