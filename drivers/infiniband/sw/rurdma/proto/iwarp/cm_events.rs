// SPDX-License-Identifier: GPL-2.0

//! Which event of a connection the core's iWARP CM may be told when.
//!
//! The core (`drivers/infiniband/core/iwcm.c`) trusts its providers: an event in the wrong state is
//! a `BUG_ON()`. What holds there:
//!
//! * no event at all before `iw_connect` or `iw_accept` promised one by returning success, and none
//!   if they fail;
//! * the active side's first event is CONNECT_REPLY, exactly once; if it says that the attempt
//!   failed, it is the last event, too;
//! * the passive side's first event is ESTABLISHED, exactly once, even if the connection is gone by
//!   then: until it comes, whoever wants to close or destroy the cm_id waits;
//! * after that DISCONNECT at most once, and CLOSE exactly once; CLOSE is the last.
//!
//! [`CmEvents`] is told what happens to the connection, in whatever order a peer makes it happen,
//! and says which event is due. The driver takes them out one by one, in one place.

#![forbid(unsafe_code)]

/// An event that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upcall {
    /// CONNECT_REPLY with status 0.
    Connected,
    /// CONNECT_REPLY with an error, which the driver knows.
    ConnectFailed,
    /// ESTABLISHED.
    Established,
    /// DISCONNECT.
    Disconnect,
    /// CLOSE.
    Close,
}

/// What the core believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing was promised.
    Nothing,
    /// `iw_connect` promised CONNECT_REPLY.
    ConnectPromised,
    /// `iw_accept` promised ESTABLISHED.
    AcceptPromised,
    /// The connection is there.
    Up,
    /// The connection is closing.
    Disconnecting,
    /// That was all.
    Over,
}

/// What has become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It is not there yet.
    Pending,
    /// It is there.
    Up,
    /// It is closing.
    Closing,
    /// It is gone.
    Gone,
}

/// The events of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmEvents {
    /// What the core believes.
    told: Told,
    /// What is the case; never goes back.
    fate: Fate,
    /// Whether the connection has been there.
    was_up: bool,
}

impl Default for CmEvents {
    fn default() -> Self {
        Self::new()
    }
}

impl CmEvents {
    /// Nothing promised, nothing happened.
    pub const fn new() -> Self {
        CmEvents {
            told: Told::Nothing,
            fate: Fate::Pending,
            was_up: false,
        }
    }

    /// `iw_connect` is going to return success. False: it must not, a promise was made before.
    #[must_use]
    pub fn promise_connect(&mut self) -> bool {
        self.promise(Told::ConnectPromised)
    }

    /// `iw_accept` is going to return success. False: it must not.
    #[must_use]
    pub fn promise_accept(&mut self) -> bool {
        self.promise(Told::AcceptPromised)
    }

    /// Makes a promise, once.
    fn promise(&mut self, told: Told) -> bool {
        let free = self.told == Told::Nothing;
        if free {
            self.told = told;
        }
        free
    }

    /// The connection is there. Ignored if it was before, or is closing or gone by now; returns
    /// whether it was news.
    pub fn up(&mut self) -> bool {
        let news = self.fate == Fate::Pending;
        if news {
            self.fate = Fate::Up;
            self.was_up = true;
        }
        news
    }

    /// The connection begins to close. Returns whether that was news.
    pub fn closing(&mut self) -> bool {
        let news = self.fate < Fate::Closing;
        if news {
            self.fate = Fate::Closing;
        }
        news
    }

    /// The connection is gone, or did not come to be.
    pub fn gone(&mut self) {
        self.fate = Fate::Gone;
    }

    /// Whether the core wants to hear anything more, now or later.
    pub fn is_over(&self) -> bool {
        match self.told {
            Told::Over => true,
            Told::Nothing => self.fate == Fate::Gone,
            _ => false,
        }
    }

    /// The next event that is due. The core counts as told as soon as this returns: the driver sees
    /// to it that the event cannot get lost.
    pub fn next(&mut self) -> Option<Upcall> {
        let (told, upcall) = match (self.told, self.fate) {
            (Told::Nothing | Told::Over, _) => return None,
            (Told::ConnectPromised | Told::AcceptPromised, Fate::Pending) => return None,
            (Told::ConnectPromised, Fate::Gone) if !self.was_up => {
                (Told::Over, Upcall::ConnectFailed)
            }
            // How it ends is not known yet.
            (Told::ConnectPromised, Fate::Closing) if !self.was_up => return None,
            (Told::ConnectPromised, _) => (Told::Up, Upcall::Connected),
            (Told::AcceptPromised, _) => (Told::Up, Upcall::Established),
            (Told::Up, Fate::Closing) => (Told::Disconnecting, Upcall::Disconnect),
            (Told::Up | Told::Disconnecting, Fate::Gone) => (Told::Over, Upcall::Close),
            (Told::Up | Told::Disconnecting, _) => return None,
        };
        self.told = told;
        Some(upcall)
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_cm_events)
)]
mod tests {
    use super::*;

    /// The core's cm_id, with every `BUG_ON()` of iwcm.c that a provider can reach.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Core {
        Idle,
        ConnSent,
        ConnRecv,
        Established,
        Closing,
    }

    /// Core, its event credits, and how often it was told what.
    #[derive(Clone, Copy)]
    struct Model {
        core: Core,
        credits: u32,
        firsts: u32,
        closes: u32,
    }

    impl Model {
        /// Takes an event. False: a kernel would have died.
        fn take(&mut self, upcall: Upcall) -> bool {
            if self.credits == 0 {
                return false;
            }
            self.credits -= 1;
            self.core = match (upcall, self.core) {
                (Upcall::Connected, Core::ConnSent) => {
                    self.firsts += 1;
                    Core::Established
                }
                (Upcall::ConnectFailed, Core::ConnSent) => {
                    self.firsts += 1;
                    Core::Idle
                }
                (Upcall::Established, Core::ConnRecv) => {
                    self.firsts += 1;
                    Core::Established
                }
                // Any other state is left alone, but then the event was pointless.
                (Upcall::Disconnect, Core::Established) => Core::Closing,
                (Upcall::Close, Core::Established | Core::Closing) => {
                    self.closes += 1;
                    Core::Idle
                }
                _ => return false,
            };
            true
        }
    }

    /// Plays the inputs that the digits of `script` stand for, the promise (by the active or passive
    /// side) coming before input number `promise_at`, and the events taken out after every input or
    /// only at the end.
    fn play(mut script: u32, active: bool, promise_at: u32, eager: bool) {
        const INPUTS: u32 = 6;
        let mut events = CmEvents::new();
        let mut model = Model {
            core: if active {
                Core::ConnSent
            } else {
                Core::ConnRecv
            },
            credits: if active { 4 } else { 3 },
            firsts: 0,
            closes: 0,
        };
        let mut promised = false;
        for i in 0..INPUTS {
            if i == promise_at {
                promised = if active {
                    events.promise_connect()
                } else {
                    events.promise_accept()
                };
                assert!(promised);
                assert!(!events.promise_accept());
            }
            match script % 4 {
                0 => assert!(!events.up() || !events.up()),
                1 => assert!(!events.closing() || !events.closing()),
                2 => events.gone(),
                _ => {}
            }
            script /= 4;
            while eager {
                let Some(upcall) = events.next() else { break };
                assert!(promised);
                assert!(model.take(upcall));
            }
        }
        // Every connection ends.
        events.gone();
        while let Some(upcall) = events.next() {
            assert!(promised);
            assert!(model.take(upcall));
        }
        assert!(events.is_over());
        if promised {
            // Nobody waits for the first event any more, and the core has let go of the QP.
            assert!(model.firsts == 1);
            assert!(model.core == Core::Idle);
            assert!(model.closes <= 1);
        } else {
            assert!(model.firsts == 0);
        }
    }

    #[test]
    fn no_order_of_events_breaks_the_contract() {
        for script in 0..4096 {
            for promise_at in 0..7 {
                for active in [false, true] {
                    for eager in [false, true] {
                        play(script, active, promise_at, eager);
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_attempt_is_over() {
        let mut e = CmEvents::new();
        assert!(e.promise_connect());
        e.gone();
        assert!(e.next() == Some(Upcall::ConnectFailed));
        assert!(e.next().is_none() && e.is_over());
    }

    #[test]
    fn an_acceptance_of_the_dead_is_told_as_both() {
        let mut e = CmEvents::new();
        e.gone();
        assert!(e.promise_accept());
        assert!(e.next() == Some(Upcall::Established));
        assert!(e.next() == Some(Upcall::Close));
        assert!(e.next().is_none() && e.is_over());
    }

    #[test]
    fn the_peer_closes() {
        let mut e = CmEvents::new();
        assert!(e.promise_connect());
        assert!(e.next().is_none());
        assert!(e.up());
        assert!(e.next() == Some(Upcall::Connected));
        assert!(e.closing());
        assert!(e.next() == Some(Upcall::Disconnect));
        e.gone();
        assert!(e.next() == Some(Upcall::Close));
    }
}
