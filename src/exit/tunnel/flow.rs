//! A connection inside a tunnel, and the bytes between its rings and the pipe of its flow.

use super::flight::{self, Flight};
use super::recovery::Recovery;
use super::stream::Pipe;
use super::stretch::Acknowledged;
use crate::packet::build::Unreachable;
use crate::stack::{Connection, Phase};
use crate::time::Time;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// One connection.
pub(super) struct Stream {
    pub(super) pipe: Pipe,
    pub(super) connection: Connection,
    pub(super) acknowledged: Acknowledged,
    pub(super) recovery: Recovery,
    flight: Flight,
    /// Bytes that were not acknowledged when they were last counted.
    pub(super) counted: usize,
    /// The other end, and our port.
    pub(super) key: (SocketAddr, u16),
    pub(super) readable: bool,
    pub(super) writable: bool,
    greeted: bool,
    /// The flow has said all; it has been told that the other end has.
    ended: bool,
    told: bool,
    /// It was given up before it stood: there is no way to the other end.
    unreachable: bool,
    /// It is to be looked at before the turn is over.
    pub(super) waits: bool,
    /// When it wants to be looked at.
    pub(super) timer: Option<Time>,
}

impl Stream {
    /// A connection that was begun.
    pub(super) fn new(
        pipe: Pipe,
        connection: Connection,
        key: (SocketAddr, u16),
        now: Time,
    ) -> Self {
        Self {
            pipe,
            connection,
            acknowledged: Acknowledged::default(),
            recovery: Recovery::new(now),
            flight: Flight::new(now),
            counted: 0,
            key,
            readable: true,
            writable: true,
            greeted: false,
            ended: false,
            told: false,
            unreachable: false,
            waits: false,
            timer: None,
        }
    }

    /// Takes the connection back when it is over; the flow is told how it ended.
    pub(super) fn end(self) -> Connection {
        if self.connection.phase() == Phase::Reset {
            match (self.greeted, self.unreachable) {
                (true, _) => self.pipe.reset(),
                (false, true) => self.pipe.give_up(),
                (false, false) => self.pipe.refuse(),
            }
        }
        self.connection
    }

    /// Ends a connection that was to be, if what came back for its SYN leaves no hope; true if so.
    pub(super) fn give_up(&mut self, why: Unreachable) -> bool {
        let hopeless = match why {
            Unreachable::Prohibited
            | Unreachable::Network
            | Unreachable::Host
            | Unreachable::Port => self.connection.phase() == Phase::Opening,
            Unreachable::TooBig(_) | Unreachable::HopLimit => false,
        };
        if hopeless {
            self.unreachable = why != Unreachable::Port;
            self.connection.abort();
        }
        hopeless
    }

    /// Moves bytes between pipe and rings; true if any. `under_way` is how many bytes of all connections of the tunnel are
    /// not acknowledged.
    pub(super) fn exchange(&mut self, now: Time, under_way: &mut usize) -> bool {
        if self.connection.phase() == Phase::Opening {
            // Nothing is said before the connection stands: what can be read is the end.
            let heard = self.readable.then(|| self.pipe.read(&mut [0]));
            let waits = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
            let gone = heard.is_some_and(|heard| !heard.is_err_and(|error| waits(&error)));
            if gone {
                self.connection.abort();
            }
            self.readable = false;
            return gone;
        }
        if self.connection.phase() == Phase::Reset {
            return false;
        }
        if !self.greeted {
            self.pipe.greet();
            (self.greeted, self.readable) = (true, true);
        }
        let mut moved = self.deliver();
        moved |= self.collect(now, under_way);
        moved
    }

    /// From the other end to the flow; true if any.
    fn deliver(&mut self) -> bool {
        let mut moved = false;
        while self.writable {
            let (pipe, writable) = (&self.pipe, &mut self.writable);
            let mut broken = false;
            let taken = self.connection.take(|bytes| match pipe.write(bytes) {
                Ok(written) => written,
                Err(error) => {
                    *writable = false;
                    broken = error.kind() != ErrorKind::WouldBlock;
                    0
                }
            });
            if broken {
                self.connection.abort();
                return true;
            }
            if taken == 0 {
                break;
            }
            moved = true;
        }
        if self.connection.is_finished() && !self.told {
            self.told = true;
            // It fails only if the flow is gone, which reading tells.
            let _ = self.pipe.finish();
        }
        moved
    }

    /// From the flow to the other end; true if any.
    fn collect(&mut self, now: Time, under_way: &mut usize) -> bool {
        let mut moved = false;
        self.count(under_way);
        self.flight.waiting(self.counted, now);
        while self.readable && !self.ended {
            let spare = flight::SHARED.saturating_sub(*under_way);
            let most = self.flight.room(self.counted, spare);
            if most == 0 {
                break;
            }
            let (pipe, readable) = (&self.pipe, &mut self.readable);
            let (mut ended, mut broken) = (false, false);
            let put = self.connection.put(|room| {
                let most = most.min(room.len());
                let room = room.get_mut(..most).unwrap_or_default();
                match pipe.read(room) {
                    Ok(0) => {
                        ended = !room.is_empty();
                        0
                    }
                    Ok(read) => read,
                    Err(error) => {
                        *readable = false;
                        broken = error.kind() != ErrorKind::WouldBlock;
                        0
                    }
                }
            });
            self.flight.sent(put, now);
            self.count(under_way);
            if broken {
                self.connection.abort();
                return true;
            }
            if ended {
                self.ended = true;
                self.connection.close();
                return true;
            }
            if put == 0 {
                break;
            }
            moved = true;
        }
        moved
    }

    /// When it has waited in vain for too long for what is under way, of segments of `mss` bytes.
    pub(super) fn overdue(&self, mss: usize) -> Option<Time> {
        self.recovery.due(self.flight.round(), mss)
    }

    /// Brings the count of what is not acknowledged up to date, of this connection and of all.
    fn count(&mut self, under_way: &mut usize) {
        let waiting = self.connection.unacknowledged();
        *under_way = under_way.saturating_sub(self.counted) + waiting;
        self.counted = waiting;
    }

    /// Nothing is left to be done for it.
    pub(super) fn is_over(&self) -> bool {
        match self.connection.phase() {
            Phase::Reset => true,
            Phase::Done => !self.connection.has_bytes(),
            Phase::Opening | Phase::Open => false,
        }
    }
}
