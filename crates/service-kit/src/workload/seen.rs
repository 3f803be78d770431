//! Tokens that were verified before: they cost a look, not a signature.

use std::{collections::HashMap, fmt};

use super::token::{Invalid, Time};

/// Tokens that are remembered at most. A handful of pods call a service; what is more came by a fault or on purpose.
const LIMIT: usize = 1024;

/// By what a token is found: the end of its signature. All of it is compared, but only so much is hashed.
type Tail = [u8; 32];

/// Verified tokens.
#[derive(Default)]
pub(super) struct Seen(HashMap<Tail, Entry>);

/// How many: they are worth what they say to whoever reads them.
impl fmt::Debug for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Seen").field(&self.0.len()).finish()
    }
}

/// One of them, with its subject and the time in which it holds.
struct Entry {
    token: Box<str>,
    subject: Box<str>,
    time: Time,
}

impl Seen {
    /// The subject of a token that was verified before, if its time is not over; none when it was not seen.
    pub(super) fn get(&self, token: &str, now: u64) -> Option<Result<&str, Invalid>> {
        let entry = self.0.get(tail(token)?).filter(|entry| *entry.token == *token)?;
        Some(entry.time.holds(now).map(|()| &*entry.subject))
    }

    /// Remembers one. Where there is no room, those whose time is over go, and else all: they are verified again.
    pub(super) fn put(&mut self, token: &str, subject: &str, time: Time, now: u64) {
        let Some(tail) = tail(token) else { return };
        if self.0.len() >= LIMIT {
            self.0.retain(|_, entry| entry.time.holds(now).is_ok());
        }
        if self.0.len() >= LIMIT {
            self.0.clear();
        }
        self.0.insert(*tail, Entry { token: token.into(), subject: subject.into(), time });
    }
}

fn tail(token: &str) -> Option<&Tail> {
    token.as_bytes().last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(not_before: u64, expires: u64) -> Time {
        Time { not_before, expires }
    }

    /// As long as a cluster's.
    fn token(number: usize) -> String {
        format!("{number:0>1100}")
    }

    #[test]
    fn a_token_seen_before_counts_until_its_end() {
        let mut seen = Seen::default();
        seen.put(&token(1), "subject", time(100, 200), 150);
        assert_eq!(seen.get(&token(1), 199), Some(Ok("subject")));
        assert_eq!(seen.get(&token(1), 200 + 30), Some(Err(Invalid::Expired)));
        for other in
            [token(2), token(1)[1..].to_owned(), format!("1{}", &token(1)[1..]), String::new()]
        {
            assert_eq!(seen.get(&other, 150), None, "{other}");
        }
    }

    #[test]
    fn it_never_grows_beyond_its_limit() {
        let mut seen = Seen::default();
        for number in 0..3 * LIMIT {
            seen.put(&token(number), "subject", time(0, 1000), 0);
            assert!(seen.0.len() <= LIMIT);
        }
        // Those whose time is over make room for the others.
        let mut seen = Seen::default();
        seen.put(&token(0), "subject", time(0, 10_000), 0);
        for number in 1..LIMIT {
            seen.put(&token(number), "subject", time(0, 1000), 0);
        }
        seen.put(&token(LIMIT), "subject", time(0, 10_000), 5000);
        assert_eq!(seen.0.len(), 2);
        assert!(seen.get(&token(0), 5000).is_some());
    }
}
