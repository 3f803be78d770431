//! pgbench's scripts, written from statements that PostgreSQL ran.

use super::log::Statement;

/// A statement, with the types of its parameters.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) statement: Statement,
    pub(super) types: Vec<String>,
}

/// A value of the request that was watched, and the expression that stands for it in a script: of type text, and of the
/// same length.
pub(super) type Variable<'a> = (&'a str, &'a str);

/// A script that does the same as those statements, for other values of the variables each time.
pub(super) fn write(head: &str, statements: &[Typed], variables: &[Variable<'_>]) -> String {
    let mut script = head.to_owned();
    let mut database = "";
    for Typed { statement, types } in statements {
        if statement.database != database {
            database = &statement.database;
            script.push_str(&format!("\n-- {database}\n"));
        }
        script.push_str(&with_values(statement, types, variables));
        script.push_str(";\n");
    }
    script
}

/// A part of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// A literal with its quotes.
    Literal(&'a str),
    /// A parameter, from 0.
    Parameter(usize),
}

/// The statement on one line, with values for its parameters.
fn with_values(statement: &Statement, types: &[String], variables: &[Variable<'_>]) -> String {
    let mut line = String::new();
    for part in parts(&statement.sql) {
        match part {
            Part::Text(text) => line.push_str(&on_one_line(text)),
            Part::Literal(literal) => match without_names(literal) {
                split if split == literal => line.push_str(literal),
                split => line.push_str(&format!("({split})")),
            },
            Part::Parameter(index) => {
                let value = statement.parameters.get(index).and_then(Option::as_deref);
                let value = value.map_or("NULL".to_owned(), |value| expression(value, variables));
                let kind = types.get(index).map_or("text", String::as_str);
                line.push_str(&format!("({value})::{kind}"));
            }
        }
    }
    line.trim().to_owned()
}

/// A text with each run of white space as one space.
fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars() {
        if !letter.is_whitespace() {
            line.push(letter);
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line
}

fn parts(sql: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '$']) {
        parts.push(Part::Text(&rest[..at]));
        let (part, length) = special(&rest[at..]);
        parts.push(part);
        rest = &rest[at + length..];
    }
    parts.push(Part::Text(rest));
    parts
}

/// What begins with a quote or a dollar sign, and its length. A doubled quote in a literal makes two literals side by
/// side, which is the same text.
fn special(text: &str) -> (Part<'_>, usize) {
    let after = &text[1..];
    if text.starts_with('\'') {
        let length = after.find('\'').map_or(text.len(), |end| end + 2);
        return (Part::Literal(&text[..length]), length);
    }
    let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
    match after[..digits].parse::<usize>() {
        Ok(number) => (Part::Parameter(number.saturating_sub(1)), digits + 1),
        Err(_) => (Part::Text(&text[..1]), 1),
    }
}

/// An expression whose text is `value`, with the variables' expressions where their values stand.
fn expression(value: &str, variables: &[Variable<'_>]) -> String {
    let next = |text: &str| {
        let found =
            variables.iter().filter_map(|variable| Some((text.find(variable.0)?, *variable)));
        found.min_by_key(|(at, _)| *at)
    };
    let mut terms = Vec::new();
    let mut rest = value;
    while let Some((at, (known, expression))) = next(rest) {
        if at > 0 {
            terms.push(literal(&rest[..at]));
        }
        terms.push(expression.to_owned());
        rest = &rest[at + known.len()..];
    }
    if !rest.is_empty() || terms.is_empty() {
        terms.push(literal(rest));
    }
    terms.join(" || ")
}

fn literal(text: &str) -> String {
    without_names(&format!("'{}'", text.replace('\'', "''")))
}

/// A literal in which pgbench sees no variable: it takes `:name` for one in a literal too, so that a literal is cut in two
/// after such a colon.
fn without_names(literal: &str) -> String {
    let mut split = String::new();
    let mut letters = literal.chars().peekable();
    while let Some(letter) = letters.next() {
        split.push(letter);
        let begins_name =
            |next: &char| next.is_ascii_alphabetic() || *next == '_' || !next.is_ascii();
        if letter == ':' && letters.peek().is_some_and(begins_name) {
            split.push_str("' || '");
        }
    }
    split
}

/// A script as it is compared with another: its statements without comments, every number in a literal the same, since
/// times and digests are not. In any order: what is sent at the same time arrives so. The keys of one statement come in any
/// order too, so that of its literals only the letters count.
pub(super) fn normal(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with("--"));
    // pgbench's own commands end with their line.
    let end = |line: &str| if line.starts_with('\\') { ";\n" } else { "\n" };
    let text: String = lines.map(|line| format!("{line}{}", end(line))).collect();
    let mut normal: Vec<_> = text.trim_end().split(";\n").map(normal_statement).collect();
    normal.sort();
    normal
}

fn normal_statement(statement: &str) -> String {
    let (mut sql, mut letters) = (String::new(), Vec::new());
    for part in parts(statement.trim_end_matches(';')) {
        match part {
            Part::Text(text) => sql.push_str(text),
            Part::Literal(literal) => letters.extend(without_numbers(literal).chars()),
            Part::Parameter(number) => sql.push_str(&format!("${number}")),
        }
    }
    letters.sort_unstable();
    sql.extend(letters);
    sql
}

fn without_numbers(literal: &str) -> String {
    let mut same = String::new();
    for letter in literal.chars() {
        if !letter.is_ascii_digit() {
            same.push(letter);
        } else if !same.ends_with('0') {
            same.push('0');
        }
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(sql: &str, parameters: &[(Option<&str>, &str)]) -> Typed {
        let (values, types): (Vec<_>, Vec<_>) = parameters.iter().copied().unzip();
        let statement = Statement {
            database: "orders".to_owned(),
            backend: 1,
            sql: sql.to_owned(),
            parameters: values.into_iter().map(|value| value.map(str::to_owned)).collect(),
        };
        Typed { statement, types: types.into_iter().map(str::to_owned).collect() }
    }

    fn written(sql: &str, parameters: &[(Option<&str>, &str)]) -> String {
        let script = write("", &[typed(sql, parameters)], &[("NUT-1", "'NUT-' || :item::text")]);
        script.strip_prefix("\n-- orders\n").unwrap().to_owned()
    }

    #[test]
    fn parameters_become_values_of_their_types() {
        let sql = "UPDATE a\n            SET b = $1, c = $2 WHERE d = $10";
        let mut parameters = vec![(Some("it's"), "text"), (None, "int8")];
        parameters.resize(9, (None, "text"));
        parameters.push((Some("{NUT-1,x}"), "_text"));
        assert_eq!(
            written(sql, &parameters),
            "UPDATE a SET b = ('it''s')::text, c = (NULL)::int8 WHERE d = ('{' || 'NUT-' || :item::text || ',x}')::_text;\n"
        );
        assert_eq!(
            written("SELECT $1", &[(Some("NUT-1"), "text")]),
            "SELECT ('NUT-' || :item::text)::text;\n"
        );
        assert_eq!(written("SELECT $1", &[(Some(""), "text")]), "SELECT ('')::text;\n");
    }

    #[test]
    fn pgbench_finds_no_variables_in_literals() {
        assert_eq!(
            written(
                "SELECT to_char(now(), 'HH24:MI:SS'), a::text, $1",
                &[(Some(r#"{"a":null,"b":1}"#), "json")]
            ),
            "SELECT to_char(now(), ('HH24:' || 'MI:' || 'SS')), a::text, ('{\"a\":' || 'null,\"b\":1}')::json;\n"
        );
        assert_eq!(written("SELECT 'it''s', '$1  x'", &[]), "SELECT 'it''s', '$1  x';\n");
    }

    #[test]
    fn each_database_is_named_where_its_statements_begin() {
        let mut other = typed("COMMIT", &[]);
        other.statement.database = "inventory".to_owned();
        let script =
            write("\\set a 1\n", &[typed("BEGIN", &[]), typed("SELECT 1", &[]), other], &[]);
        assert_eq!(script, "\\set a 1\n\n-- orders\nBEGIN;\nSELECT 1;\n\n-- inventory\nCOMMIT;\n");
    }

    #[test]
    fn scripts_are_the_same_but_for_comments_the_order_and_the_numbers_in_literals() {
        let script = "-- made on a day\n\\set a 1\nSELECT ('at 12:34:56')::text, $1;\n";
        let other = "\\set a 1\n\nSELECT ('at 9:00:07')::text, $1;";
        assert_eq!(normal(script), normal(other));
        for change in
            ["\\set a 2\nSELECT ('at 9:00:07')::text, $1;", "\\set a 1\nSELECT ('at 9')::text, $1;"]
        {
            assert_ne!(normal(script), normal(change));
        }
        assert_eq!(normal("SELECT 1;\nSELECT a;"), normal("SELECT a;\nSELECT 1;"));
        let keys = |array: &str| normal(&format!("\\set a 1\nSELECT ({array});\nSELECT 1;\n"));
        assert_eq!(
            keys("'{\"a\nb' || :x || '\",' || :x || '}'"),
            keys("'{' || :x || ',\"a\nb' || :x || '\"}'")
        );
        assert_ne!(keys("'{' || :x || '}'"), keys("'{' || :x || ',' || :x || '}'"));
    }
}
