//! A blocking client, for tests and tools. The runtime has its own, which waits without a thread.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::protocol::{Call, Event, MAX_LINE, Message, Outcome, Reply, Request, VERSION, Welcome};
use crate::{KeeperError, socket_path};

/// How long a keeper may take to answer. It never waits for anything itself.
const ANSWER: Duration = Duration::from_secs(10);

/// One connection to a keeper.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    read: Vec<u8>,
    events: VecDeque<Event>,
    next_id: u64,
}

impl Client {
    /// Connects, without attaching: see [`Client::hello`].
    pub fn connect(dir: &Path) -> Result<Self, KeeperError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).map_err(std::io::Error::from)?;
        let stream = UnixStream::connect(socket_path(dir.as_fd()))?;
        Ok(Self { stream, read: Vec::new(), events: VecDeque::new(), next_id: 1 })
    }

    /// Attaches: events come from now on, and the lease is held off.
    pub fn hello(&mut self) -> Result<Welcome, KeeperError> {
        match self.request(Call::Hello { version: VERSION })? {
            Reply::Hello(welcome) => Ok(welcome),
            other => Err(KeeperError::corrupt("the answer to hello", &format!("{other:?}"))),
        }
    }

    /// Asks and waits for the answer. Events that come first are kept for [`Client::next_event`].
    pub fn request(&mut self, call: Call) -> Result<Reply, KeeperError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line =
            serde_json::to_vec(&Request { id, call }).map_err(|why| KeeperError::corrupt("request", &why))?;
        line.push(b'\n');
        self.send(&line)?;
        let until = Instant::now() + ANSWER;
        loop {
            match self.next_message(until)? {
                Some(Message::Event(event)) => self.events.push_back(event),
                Some(Message::Answer(answer)) if answer.id == Some(id) || answer.id.is_none() => {
                    return match answer.outcome {
                        Outcome::Ok(reply) => Ok(reply),
                        Outcome::Error(refusal) => Err(refusal.into()),
                    };
                }
                Some(Message::Answer(_)) => {}
                None => return Err(KeeperError::Timeout),
            }
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), KeeperError> {
        self.stream.set_write_timeout(Some(ANSWER))?;
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next event; `None` when none came within `wait`.
    pub fn next_event(&mut self, wait: Duration) -> Result<Option<Event>, KeeperError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let until = Instant::now() + wait;
        loop {
            match self.next_message(until)? {
                Some(Message::Event(event)) => return Ok(Some(event)),
                Some(Message::Answer(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next line of any kind; `None` when none came before `until`.
    pub fn next_message(&mut self, until: Instant) -> Result<Option<Message>, KeeperError> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let message = serde_json::from_slice(&line).map_err(|why| KeeperError::corrupt("line", &why))?;
                return Ok(Some(message));
            }
            if self.read.len() > MAX_LINE {
                return Err(KeeperError::corrupt("line", &"too long"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(KeeperError::Closed),
                Ok(count) => self.read.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Err(KeeperError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
