//! The connections of runtimes: lines in, lines out, never waiting for either.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::lines::{Cutter, Line};
use crate::protocol::{Event, MAX_LINE, Message};

/// Beyond this much unread, a client misses `output` events: the next one says as much.
const SOFT_LIMIT: usize = 256 * 1024;
/// Beyond this it is taken for dead; it may connect again and ask.
const HARD_LIMIT: usize = 1024 * 1024;
/// What is read from one client before the others have their turn.
const READ_AT_ONCE: usize = 64 * 1024;
/// A buffer that had to grow beyond this is given back when it is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) token: u64,
    pub(super) attached: bool,
    pub(super) since: Instant,
    stream: UnixStream,
    cutter: Cutter,
    unsent: Vec<u8>,
    broken: bool,
}

impl Connection {
    pub(super) fn new(token: u64, stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let cutter = Cutter::new(MAX_LINE);
        Ok(Self { token, attached: false, since: now, stream, cutter, unsent: Vec::new(), broken: false })
    }

    /// What has arrived. A closed or broken connection is marked so, after its last lines.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut taken = 0;
        while taken < READ_AT_ONCE && !self.broken {
            match self.stream.read(buffer) {
                Ok(0) => self.broken = true,
                Ok(count) => {
                    taken += count;
                    self.cutter.take(buffer.get(..count).unwrap_or_default(), &mut lines);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        lines
    }

    /// Queues one line and sends what the socket takes. Whoever does not read misses `output` events, then is dropped.
    pub(super) fn send(&mut self, message: &Message) {
        let skippable = matches!(message, Message::Event(Event::Output { .. }));
        if self.broken || (skippable && self.unsent.len() > SOFT_LIMIT) {
            return;
        }
        let Ok(line) = serde_json::to_vec(message) else { return };
        if self.unsent.len() + line.len() >= HARD_LIMIT {
            self.broken = true;
            return;
        }
        self.unsent.extend_from_slice(&line);
        self.unsent.push(b'\n');
        self.flush();
    }

    /// Sends what the socket takes now.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty() && !self.broken) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.is_empty() && self.unsent.capacity() > KEEP_CAPACITY {
            self.unsent = Vec::new();
        }
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_does_not_read_never_stops_the_keeper() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(1, ours, Instant::now()).unwrap();
        let mut queued = 0;
        for bytes in 0..200_000 {
            connection.send(&Message::Event(Event::Output { seq: 1, bytes }));
            queued = queued.max(connection.unsent.len());
        }
        assert!(queued <= SOFT_LIMIT + 100 && !connection.is_broken());
        for seq in 0..200_000 {
            connection.send(&Message::Event(Event::Gone { seq }));
        }
        assert!(connection.is_broken() && connection.unsent.len() <= HARD_LIMIT);
    }
}
