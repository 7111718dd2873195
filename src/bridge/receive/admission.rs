//! Senders that are not served yet: what they are asked for, and which of them is.

use std::time::{Duration, Instant};

use crate::bridge::around::Around;
use crate::bridge::clock::millis;
use crate::bridge::error::{BridgeError, Fault, LinkError};
use crate::bridge::frame::{
    Code, Frame, Hello, PROOF_BYTES, StreamId, VERSION, Welcome, largest_frame,
};
use crate::bridge::link::Link;
use crate::bridge::report::Event;
use crate::bridge::secret::{
    Greeting, RECEIVER_LACKS, Role, SENDER_DIFFERS, Secret, bytes_of, nonce,
};
use crate::bridge::stranger::{Host, Met, Strangers};
use crate::bridge::subscriber::beat;

use super::{Receiving, Session};

/// How far a stranger has come.
#[derive(Default)]
pub(super) enum Stage {
    /// It is there.
    #[default]
    Called,
    /// It was told what is held, and is to say its welcome.
    Asked(Asked),
}

/// What a stranger was told, and what it has said.
pub(super) struct Asked {
    /// Whose records are held, and how many. Told of something else, it would go on elsewhere.
    held: (Option<StreamId>, u64),
    credit: u64,
    /// What is to be proved, if anything is.
    greeting: Option<Greeting>,
    /// Its challenge was answered.
    is_challenged: bool,
    /// Its proof, of what it says next.
    proof: Option<[u8; PROOF_BYTES]>,
}

/// A sender that has said its welcome, and may be served.
pub(super) struct Sender {
    welcome: Welcome,
    credit: u64,
    /// It has another ring than the one whose records are held.
    changes: bool,
}

impl<'b> Host<'b> for Receiving<'b> {
    type Stage = Stage;
    type Known = Sender;

    fn around(&mut self) -> &mut Around<'b> {
        &mut self.around
    }

    fn strangers(&mut self) -> &mut Strangers<Stage> {
        &mut self.strangers
    }

    fn is_alone(&self) -> bool {
        !self.is_taken() && self.strangers.is_empty()
    }

    fn meet(&mut self, link: &mut Link, stage: &mut Stage) -> Result<Met<Sender>, Fault> {
        if let Stage::Called = stage {
            if !link.is_established() {
                return Ok(Met::Stays);
            }
            if self.is_taken() {
                return Ok(busy(link));
            }
            *stage = Stage::Asked(self.ask(link)?);
        }
        let Stage::Asked(asked) = stage else {
            return Ok(Met::Stays);
        };
        let welcome = match self.hear_answer(link, asked)? {
            None => return Ok(Met::Stays),
            Some(welcome) => welcome,
        };
        link.pass();
        if self.is_taken() {
            return Ok(busy(link));
        }
        self.intake.resume();
        if asked.held != self.held() {
            // Another one was served since it was told.
            return Ok(busy(link));
        }
        self.judge(link, welcome, asked.credit).map(Met::Known)
    }

    /// Begins its session.
    fn admit(&mut self, mut link: Link, sender: Sender, now: Instant) -> Result<(), BridgeError> {
        let welcome = sender.welcome;
        if self.intake.stream() != Some(welcome.stream) {
            self.intake.begin(welcome.stream, welcome.next);
        }
        let next = self.intake.next();
        self.summary.connections += 1;
        self.around.backoff.succeeded();
        let (peer, name) = (link.peer(), &*self.name);
        (self.around.report)(&Event::Connected { peer, name, next });
        link.allow(self.largest_frame());
        let theirs = Duration::from_millis(welcome.silence_ms.into());
        self.session = Some(Session {
            link,
            changes: sender.changes,
            done: (0, 0),
            // With the first ack the sender knows our window, wherever it began.
            acked: next.wrapping_sub(1),
            behind: 0,
            credit: sender.credit,
            is_full: false,
            beat: beat(self.around.settings.silence, theirs),
            over: false,
        });
        // What it said behind its welcome is here already: its socket would not tell.
        self.go_on_or_hang_up(false, now).map(drop)
    }
}

impl Receiving<'_> {
    /// Says who we are, what we hold, and what we take.
    fn ask(&mut self, link: &mut Link) -> Result<Asked, LinkError> {
        self.intake.resume();
        let settings = self.around.settings;
        let held = self.held();
        let credit = held.1.wrapping_add(settings.window_records);
        let mut greeting = match self.around.secret {
            Some(_) => Some((Greeting::new(link)?, nonce()?)),
            None => None,
        };
        let hello = Frame::Hello(Hello {
            version: VERSION,
            stream: held.0,
            accepts_other: self.accept,
            next: held.1,
            largest_record: self.intake.largest_record(),
            largest_frame: self.largest_frame(),
            credit,
            silence_ms: millis(settings.silence),
            nonce: greeting.as_ref().map(|(_, nonce)| *nonce),
            name: &self.name,
        });
        link.say(&hello);
        if let Some((greeting, _)) = &mut greeting {
            greeting.add(&bytes_of(&hello));
        }
        Ok(Asked {
            held,
            credit,
            greeting: greeting.map(|(greeting, _)| greeting),
            is_challenged: false,
            proof: None,
        })
    }

    /// Hears a welcome, behind what is to be proved.
    fn hear_answer(&self, link: &mut Link, asked: &mut Asked) -> Result<Option<Welcome>, Fault> {
        let secret = self.around.secret.as_ref();
        // Each of these is heard once.
        loop {
            match link.frame()? {
                None => return Ok(None),
                Some(Frame::Challenge(_)) if !asked.is_challenged => {
                    let Some((secret, greeting)) = secret.zip(asked.greeting.as_mut()) else {
                        return Err(LinkError::Unproved(RECEIVER_LACKS).into());
                    };
                    greeting.add(link.frame_bytes());
                    asked.is_challenged = true;
                    link.pass();
                    link.say(&Frame::Proof(secret.prove(Role::Receiver, greeting)));
                }
                Some(Frame::Proof(proof)) if asked.is_challenged && asked.proof.is_none() => {
                    asked.proof = Some(proof);
                    link.pass();
                }
                Some(Frame::Welcome(welcome)) => {
                    if !asked.is_proved(secret, link.frame_bytes()) {
                        return Err(LinkError::Unproved(SENDER_DIFFERS).into());
                    }
                    return Ok(Some(welcome));
                }
                Some(Frame::Refusal { code, text }) => {
                    let text = text.to_owned();
                    // Whoever calls must not be able to end this bridge: not while another one is
                    // served, nor if there is something to be proved.
                    let counts = self.around.dials()
                        || !self.is_taken() && asked.is_proved(secret, link.frame_bytes());
                    return Err(match counts {
                        true => refused(link.peer(), code, text),
                        false => LinkError::Refused { code, text }.into(),
                    });
                }
                Some(_) => return Err(LinkError::Nonsense("does not begin with a welcome").into()),
            }
        }
    }

    /// Whether what a sender has goes on with what is held.
    fn judge(&self, link: &mut Link, welcome: Welcome, credit: u64) -> Result<Sender, Fault> {
        let (held, next) = self.held();
        let is_same_ring = held.is_none_or(|held| {
            (held.ring_id, held.generation) == (welcome.stream.ring_id, welcome.stream.generation)
        });
        if let Some(held) = held.filter(|_| !is_same_ring && !self.accept) {
            let (peer, sent) = (link.peer().to_owned(), welcome.stream);
            let error = BridgeError::OtherStream { peer, held, sent };
            super::tell_why(link, &error);
            return Err(Fault::Bridge(error));
        }
        if held == Some(welcome.stream) && next > welcome.next {
            return Err(LinkError::Nonsense("goes on before what is held").into());
        }
        Ok(Sender {
            welcome,
            credit,
            changes: !is_same_ring,
        })
    }

    fn held(&self) -> (Option<StreamId>, u64) {
        (self.intake.stream(), self.intake.next())
    }

    /// Longest frame that is taken.
    fn largest_frame(&self) -> u32 {
        let record = self.intake.largest_record();
        largest_frame(record, self.around.settings.batch_bytes)
    }
}

impl Asked {
    /// Whether this answer is from whom it has to be; from anybody if there is no secret.
    fn is_proved(&self, secret: Option<&Secret>, answer: &[u8]) -> bool {
        let Some(secret) = secret else {
            return true;
        };
        let proved = self.greeting.as_ref().zip(self.proof.as_ref());
        proved.is_some_and(|(said, proof)| {
            self.is_challenged && secret.is_proved(Role::Sender, &said.with(answer), proof)
        })
    }
}

fn busy<K>(link: &mut Link) -> Met<K> {
    let text = "another sender is being served";
    let code = Code::Busy;
    link.part(&Frame::Refusal { code, text });
    Met::Leaves
}

/// What becomes of this end when its peer hangs up for that reason.
pub(super) fn refused(peer: &str, code: Code, text: String) -> Fault {
    if code.is_final() {
        let peer = peer.to_owned();
        return Fault::Bridge(BridgeError::Refused { peer, code, text });
    }
    LinkError::Refused { code, text }.into()
}
