//! PostgreSQL's log as JSON lines, with every statement in it: which of them serve one request.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A statement as PostgreSQL ran it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The database.
    pub(super) database: String,
    /// The process that ran it: one for each connection.
    pub(super) backend: u32,
    /// Its text, with `$1`, `$2` ... for parameters.
    pub(super) sql: String,
    /// The parameters as text; none for NULL.
    pub(super) parameters: Vec<Option<String>>,
}

impl Statement {
    fn begins(&self) -> bool {
        self.starts_with(&["BEGIN", "START"])
    }

    fn ends(&self) -> bool {
        self.starts_with(&["COMMIT", "ROLLBACK", "END"])
    }

    fn starts_with(&self, words: &[&str]) -> bool {
        let first = self.sql.split(|letter: char| !letter.is_ascii_alphabetic()).next();
        first.is_some_and(|first| words.iter().any(|word| word.eq_ignore_ascii_case(first)))
    }

    /// Has a parameter one of those in it?
    fn tells_of(&self, marks: &[&str]) -> bool {
        let parameters = self.parameters.iter().flatten();
        parameters.into_iter().any(|value| marks.iter().any(|mark| value.contains(mark)))
    }
}

/// The statements of a log, in its order.
pub(super) fn statements(log: &str) -> Result<Vec<Statement>> {
    #[derive(Deserialize)]
    struct Entry {
        dbname: Option<String>,
        pid: u32,
        message: Option<String>,
        detail: Option<String>,
    }
    let mut statements = Vec::new();
    for line in log.lines() {
        let entry: Entry = serde_json::from_str(line).context("a line of the log is no entry")?;
        let (Some(database), Some(message)) = (entry.dbname, entry.message) else { continue };
        let Some(sql) = sql(&message) else { continue };
        let parameters = entry.detail.as_deref().map(parameters).unwrap_or_default();
        let sql = sql.to_owned();
        statements.push(Statement { database, backend: entry.pid, sql, parameters });
    }
    Ok(statements)
}

/// The statement in a message: `statement: ...` or `execute NAME: ...`.
fn sql(message: &str) -> Option<&str> {
    match message.strip_prefix("statement: ") {
        None => Some(message.strip_prefix("execute ")?.split_once(": ")?.1),
        sql => sql,
    }
}

/// The values in a detail: `Parameters: $1 = 'it''s', $2 = NULL`.
fn parameters(detail: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = detail;
    while let Some((_, value)) = rest.split_once(" = ") {
        let Some(quoted) = value.strip_prefix('\'') else {
            values.push(None);
            rest = value;
            continue;
        };
        let mut text = String::new();
        rest = quoted;
        while let Some((part, after)) = rest.split_once('\'') {
            text.push_str(part);
            rest = after;
            match rest.strip_prefix('\'') {
                Some(after) => {
                    text.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        values.push(Some(text));
    }
    values
}

/// Those that serve a request: the transactions, and the statements outside of any, that one of its marks is in. Each
/// transaction is whole, and they come in the order in which they began.
///
/// # Errors
/// When two of them overlap: one connection cannot do the same.
pub(super) fn of_request(statements: &[Statement], marks: &[&str]) -> Result<Vec<Statement>> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, statement) in statements.iter().enumerate() {
        let open = groups
            .iter_mut()
            .find(|group| group.is_open && group.statements[0].backend == statement.backend);
        match open {
            Some(group) => {
                group.is_open = !statement.ends();
                group.last = place;
                group.statements.push(statement.clone());
            }
            None => groups.push(Group {
                first: place,
                last: place,
                is_open: statement.begins(),
                statements: vec![statement.clone()],
            }),
        }
    }
    groups.retain(|group| group.statements.iter().any(|statement| statement.tells_of(marks)));
    if groups.windows(2).any(|pair| pair[0].last > pair[1].first) {
        bail!("transactions of one request overlap, which pgbench cannot do");
    }
    Ok(groups.into_iter().flat_map(|group| group.statements).collect())
}

/// A transaction, or a statement outside of any.
struct Group {
    /// The places in the log of its first and last statement.
    first: usize,
    last: usize,
    is_open: bool,
    statements: Vec<Statement>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"pid":1,"message":"the server is ready"}
{"dbname":"orders","pid":2,"message":"execute s1: SELECT 1 WHERE $1 = 'a' || $2","detail":"Parameters: $1 = 'it''s', $2 = NULL"}
{"dbname":"orders","pid":2,"message":"statement: BEGIN"}
{"dbname":"orders","pid":3,"message":"execute <unnamed>: SELECT count(*) FROM orders"}
{"dbname":"orders","pid":2,"message":"execute s2: UPDATE a SET b = $1","detail":"parameters: $1 = '{KEY,x}'"}
{"dbname":"orders","pid":2,"message":"execute s3: UPDATE c SET d = 1"}
{"dbname":"orders","pid":2,"message":"statement: COMMIT"}
{"dbname":"inventory","pid":4,"message":"execute s1: SELECT $1","detail":"Parameters: $1 = 'KEY'"}
{"dbname":"orders","pid":2,"message":"a checkpoint"}
"#;

    #[test]
    fn statements_and_their_parameters_are_read_from_the_log() {
        let statements = statements(LOG).unwrap();
        assert_eq!(statements.len(), 7);
        let first = Statement {
            database: "orders".to_owned(),
            backend: 2,
            sql: "SELECT 1 WHERE $1 = 'a' || $2".to_owned(),
            parameters: vec![Some("it's".to_owned()), None],
        };
        assert_eq!(statements[0], first);
    }

    #[test]
    fn the_statements_of_a_request_are_told_from_others() {
        let ours = of_request(&statements(LOG).unwrap(), &["KEY"]).unwrap();
        let sql: Vec<_> = ours.iter().map(|statement| statement.sql.as_str()).collect();
        assert_eq!(
            sql,
            ["BEGIN", "UPDATE a SET b = $1", "UPDATE c SET d = 1", "COMMIT", "SELECT $1"]
        );
    }

    #[test]
    fn transactions_that_overlap_are_refused() {
        let statement = |backend, sql: &str| Statement {
            database: String::new(),
            backend,
            sql: sql.to_owned(),
            parameters: vec![Some("KEY".to_owned())],
        };
        let overlapping = [(1, "begin"), (2, "SELECT $1"), (1, "SELECT $1"), (1, "commit")];
        let overlapping = overlapping.map(|(backend, sql)| statement(backend, sql));
        assert!(of_request(&overlapping, &["KEY"]).is_err());
        assert_eq!(of_request(&overlapping, &["other"]).unwrap(), []);
    }
}
