//! What a pod of some account runs: it asks services for things, each time without a token and then with its own.
//! `e2e ask "TOKEN_FILE METHOD URL"...`

use std::{env, fs, time::Duration};

use anyhow::Context;
use hyper::Method;
use local_stack::http;
use serde::{Deserialize, Serialize};

use crate::{Result, cluster::until};

/// How long a new pod may be cut off, until all that enforces policies knows it.
const REACHED_WITHIN: Duration = Duration::from_secs(40);

/// What a question was answered: the status, and the problem's type if it is one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answers {
    /// Without a token.
    pub without: String,
    /// With one.
    pub with: String,
}

/// Asks all of the command line, one after the other, and prints the answers as JSON.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(async {
        let mut answers = Vec::new();
        for question in env::args().skip(2) {
            answers.push(ask(&question).await?);
        }
        Result::Ok(answers)
    })?;
    #[expect(clippy::print_stdout, reason = "the pod's log is how the answers come out")]
    {
        println!("{}", serde_json::to_string(&answers)?);
    }
    Ok(())
}

async fn ask(question: &str) -> Result<Answers> {
    let words: Vec<_> = question.split(' ').collect();
    let [file, method, url] = words[..] else { anyhow::bail!("not a question: {question:?}") };
    let method: Method = method.parse()?;
    let token = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let authorization = format!("Bearer {}", token.trim_end());
    let without = answer(&method, url, &[]).await?;
    let with = answer(&method, url, &[("authorization", &authorization)]).await?;
    Ok(Answers { without, with })
}

async fn answer(method: &Method, url: &str, headers: &[(&str, &str)]) -> Result<String> {
    let reply = until("the service is reached", REACHED_WITHIN, async || {
        http::send(method.clone(), url, headers, "").await.map(Some)
    })
    .await?;
    let problem = reply.json()["type"].as_str().unwrap_or_default().to_owned();
    Ok(format!("{} {problem}", reply.status.as_u16()).trim_end().to_owned())
}
