//! A connection that goes back to the pool only when its statement has ended, however little the one who asked waited.

use std::ops::Deref;

use deadpool_postgres::Object;
use tokio::runtime::Handle;

/// A connection with a statement at work on it.
///
/// Who gives up waiting does not end the statement. The next on this connection would wait behind it, without a bound,
/// though others are free; and more than the pool's size would be at work in the database if it were closed.
#[derive(Debug)]
pub(super) struct Lent(Option<Object>);

impl Lent {
    /// A connection from the pool.
    pub(super) fn new(connection: Object) -> Self {
        Self(Some(connection))
    }

    /// The statement has ended: the connection is free.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Deref for Lent {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("it is taken at the end only")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(connection), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            // It is carried out after all that was sent before.
            let _either_way_nothing_is_at_work = connection.simple_query("").await;
        });
    }
}
