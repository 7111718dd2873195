//! Callers: who they are, whether they are served, and from where on.

use std::mem;
use std::time::Instant;

use crate::bridge::around::Around;
use crate::bridge::clock::{millis, now};
use crate::bridge::error::{BridgeError, Fault, LinkError};
use crate::bridge::feed::Feed;
use crate::bridge::frame::{Code, Frame, Hello, VERSION, Welcome, is_name};
use crate::bridge::link::Link;
use crate::bridge::report::Event;
use crate::bridge::secret::{
    Greeting, RECEIVER_DIFFERS, RECEIVER_LACKS, Role, SENDER_LACKS, bytes_of, nonce,
};
use crate::bridge::stranger::{Host, Met, Strangers};
use crate::bridge::subscriber::{Session, Subscriber};

use super::Sending;

/// Number of the record at which a caller begins, or why it is not served.
type Terms = Result<u64, (Code, &'static str)>;

/// How far a stranger has come.
#[derive(Default)]
pub(super) enum Stage {
    /// It is to say its hello.
    #[default]
    Called,
    /// It has, and is to prove that it has our secret.
    Challenged(Box<Caller>),
}

/// A receiver that has said who it is, and proved it if that is asked for.
pub(super) struct Caller {
    hello: Hello<'static>,
    name: String,
    /// What it has proved, and what the answer is proved with.
    greeting: Option<Greeting>,
}

impl<'b, F: Feed> Host<'b> for Sending<'b, F> {
    type Stage = Stage;
    type Known = Caller;

    fn around(&mut self) -> &mut Around<'b> {
        &mut self.around
    }

    fn strangers(&mut self) -> &mut Strangers<Stage> {
        &mut self.strangers
    }

    fn is_alone(&self) -> bool {
        let nobody = self.subscribers.iter().all(|one| one.session.is_none());
        nobody && self.strangers.is_empty()
    }

    fn meet(&mut self, link: &mut Link, stage: &mut Stage) -> Result<Met<Caller>, Fault> {
        match mem::take(stage) {
            Stage::Called => self.hear_hello(link, stage),
            Stage::Challenged(caller) => self.hear_proof(link, stage, caller),
        }
    }

    /// Begins a session, or says why there is none.
    fn admit(&mut self, mut link: Link, caller: Caller, now: Instant) -> Result<(), BridgeError> {
        let (hello, name) = (&caller.hello, &*caller.name);
        let greeting = caller.greeting.as_ref();
        let settings = self.around.settings;
        let next = match self.terms(hello, name)? {
            Ok(next) => next,
            Err((code, text)) => {
                let refusal = Frame::Refusal { code, text };
                self.prove(&mut link, greeting, &refusal);
                link.part(&refusal);
                let text = text.to_owned();
                let why = &LinkError::Refused { code, text };
                let peer = link.peer();
                (self.around.report)(&Event::Disconnected { peer, name, why });
                self.around.backoff.failed(now);
                return Ok(());
            }
        };
        let welcome = Frame::Welcome(Welcome {
            stream: self.feed.stream(),
            next,
            largest_record: self.feed.largest_record(),
            silence_ms: millis(settings.silence),
        });
        self.prove(&mut link, greeting, &welcome);
        link.say(&welcome);
        if hello.stream == Some(self.feed.stream()) && hello.next < next {
            let (from, to) = (hello.next, next);
            link.say(&Frame::Gap { from, to });
            self.summary.gaps += 1;
            self.summary.gap_records = self.summary.gap_records.saturating_add(to - from);
            (self.around.report)(&Event::Gap { name, from, to });
        }
        let peer = link.peer();
        (self.around.report)(&Event::Connected { peer, name, next });
        self.summary.connections += 1;
        self.around.backoff.succeeded();
        let session = Session::new(link, hello, next, settings.silence);
        let number = self.number_of(name);
        self.hang_up(number, &LinkError::Superseded);
        let one = &mut self.subscribers[number];
        one.came(next, now);
        if core::mem::replace(&mut one.is_known, true) {
            self.around.gauges.reconnects.add(1);
        }
        one.session = Some(session);
        // What it said behind its hello is here already: its socket would not tell.
        self.hear(number, now);
        Ok(())
    }
}

impl<F: Feed> Sending<'_, F> {
    fn hear_hello(&self, link: &mut Link, stage: &mut Stage) -> Result<Met<Caller>, Fault> {
        let (hello, name) = match link.frame()? {
            None => return Ok(Met::Stays),
            Some(Frame::Hello(hello)) => hello.into_owned(),
            Some(Frame::Refusal { code, text }) => {
                let text = text.to_owned();
                return Err(LinkError::Refused { code, text }.into());
            }
            Some(_) => return Err(LinkError::Nonsense("does not begin with a hello").into()),
        };
        if hello.version != VERSION {
            let (code, text) = (Code::Version, "the sending end speaks version 2");
            link.part(&Frame::Refusal { code, text });
            let text = text.to_owned();
            return Err(LinkError::Refused { code, text }.into());
        }
        let mut caller = Caller {
            hello,
            name,
            greeting: None,
        };
        match (&self.around.secret, caller.hello.nonce) {
            (None, None) => {
                link.pass();
                Ok(Met::Known(caller))
            }
            (Some(_), Some(_)) => {
                let mut greeting = Greeting::new(link)?;
                greeting.add(link.frame_bytes());
                link.pass();
                let challenge = Frame::Challenge(nonce()?);
                greeting.add(&bytes_of(&challenge));
                link.say(&challenge);
                caller.greeting = Some(greeting);
                *stage = Stage::Challenged(Box::new(caller));
                Ok(Met::Stays)
            }
            (Some(_), None) => Err(LinkError::Unproved(RECEIVER_LACKS).into()),
            (None, Some(_)) => Err(LinkError::Unproved(SENDER_LACKS).into()),
        }
    }

    fn hear_proof(
        &self,
        link: &mut Link,
        stage: &mut Stage,
        caller: Box<Caller>,
    ) -> Result<Met<Caller>, Fault> {
        // Ends with what has come.
        let proof = loop {
            match link.frame()? {
                None => {
                    *stage = Stage::Challenged(caller);
                    return Ok(Met::Stays);
                }
                Some(Frame::Proof(proof)) => break proof,
                // It may have waited for the challenge for a while.
                Some(Frame::Heartbeat) => link.pass(),
                Some(Frame::Refusal { code, text }) => {
                    let text = text.to_owned();
                    return Err(LinkError::Refused { code, text }.into());
                }
                Some(_) => return Err(LinkError::Nonsense("does not prove anything").into()),
            }
        };
        link.pass();
        let secret = self.around.secret.as_ref();
        let proved = secret.zip(caller.greeting.as_ref());
        if proved.is_none_or(|(secret, said)| !secret.is_proved(Role::Receiver, said, &proof)) {
            return Err(LinkError::Unproved(RECEIVER_DIFFERS).into());
        }
        Ok(Met::Known(*caller))
    }

    /// Proves our secret, if there is one, with what is answered next.
    fn prove(&self, link: &mut Link, greeting: Option<&Greeting>, answer: &Frame<'_>) {
        if let Some((secret, said)) = self.around.secret.as_ref().zip(greeting) {
            let said = said.with(&bytes_of(answer));
            link.say(&Frame::Proof(secret.prove(Role::Sender, &said)));
        }
    }

    /// The place of a subscriber who may be new.
    fn number_of(&mut self, name: &str) -> usize {
        let found = self.subscribers.iter().position(|one| one.name == name);
        found.unwrap_or_else(|| {
            let excused = now() + self.around.settings.absence();
            let one = Subscriber::new(name.to_owned(), self.released, excused);
            self.subscribers.push(one);
            self.subscribers.len() - 1
        })
    }

    /// Where a caller goes on, or why it does not. Only who is served is written down.
    fn terms(&mut self, hello: &Hello<'_>, name: &str) -> Result<Terms, BridgeError> {
        if !is_name(name) {
            let text = "a subscriber's name has 1 to 56 bytes, and no white space";
            return Ok(Err((Code::NotInvited, text)));
        }
        let known = self.subscribers.iter().any(|one| one.name == name);
        let others = "this ring is held for subscribers of other names";
        if !known && self.subscribers.len() >= self.required {
            return Ok(Err((Code::NotInvited, others)));
        }
        let next = match self.begins_at(hello)? {
            Ok(next) => next,
            refused => return Ok(refused),
        };
        if !known && !self.feed.remember(name) {
            return Ok(Err((Code::NotInvited, others)));
        }
        Ok(Ok(next))
    }

    /// Where a receiver goes on by what it holds.
    fn begins_at(&mut self, hello: &Hello<'_>) -> Result<Terms, BridgeError> {
        let ours = self.feed.stream();
        match hello.stream {
            None => Ok(Ok(self.released)),
            Some(theirs) if theirs == ours => self.place(hello.next),
            // The same ring, numbered by a bridge that has died: all that it left comes again.
            Some(theirs)
                if ours.life != 0
                    && (theirs.ring_id, theirs.generation) == (ours.ring_id, ours.generation) =>
            {
                Ok(Ok(self.released))
            }
            Some(_) if hello.accepts_other => Ok(Ok(self.released)),
            Some(_) => {
                let text = "the receiver holds the records of another ring";
                Ok(Err((Code::OtherStream, text)))
            }
        }
    }

    /// Where to go on for one that wants `wanted` next: there, or behind what is released.
    fn place(&mut self, wanted: u64) -> Result<Terms, BridgeError> {
        while self.feed.next() < wanted {
            if !self.read_lot()? {
                let text = "the receiver holds records that this ring does not have";
                return Ok(Err((Code::Ahead, text)));
            }
        }
        Ok(Ok(wanted.max(self.released)))
    }
}
