//! How large a request's head may be.
//!
//! One limit for the whole way: what the gateway lets in, each service behind it can read too, with the headers that are
//! added on the way. What is larger than a connection reads at all hyper refuses (server/refusal.rs).

use crate::{App, Problem};

/// Header fields that a request from outside may have. hyper reads 100.
const FIELDS: usize = 64;
/// The bytes of its target, and of the names and values of its fields; behind the gateway a head has 24 KiB, for a token
/// of 8 KiB at most.
const BYTES: usize = 12 * 1024;

/// 431 for a head that is too large, where requests come in from outside.
pub(crate) fn check<A: App, B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    if !A::IS_EDGE {
        return Ok(());
    }
    let headers = request.headers();
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    if headers.len() > FIELDS || target + fields.sum::<usize>() > BYTES {
        return Err(Problem::head_too_large());
    }
    Ok(())
}
