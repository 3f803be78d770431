//! `nix-format [--check] [PATH...]`: formats the Nix files below the paths with alejandra.
//!
//! alejandra comes as a library because neither Debian nor the crate registry has a Nix formatter as a program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use alejandra::format;
use anyhow::{Context, Result, bail};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
fn main() -> ExitCode {
    let (flags, paths): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|word| word.starts_with('-'));
    let check = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => {
            println!(
                "nix-format [--check] [PATH...]: formats the Nix files below the paths (default: here)"
            );
            return ExitCode::from(64);
        }
    };
    let paths = if paths.is_empty() { vec![".".to_owned()] } else { paths };
    match run(&paths, check) {
        Ok(unformatted) if check && !unformatted.is_empty() => {
            for file in unformatted {
                eprintln!("not formatted: {} (run nix fmt)", file.display());
            }
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nix-format: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Formats the files, or with `check` leaves them; tells which were not formatted.
fn run(paths: &[String], check: bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        collect(Path::new(path), &mut files)?;
    }
    if files.is_empty() {
        bail!("no Nix file below {}", paths.join(", "));
    }
    files.sort();
    let mut unformatted = Vec::new();
    for file in files {
        let context = || file.display().to_string();
        let before = fs::read_to_string(&file).with_context(context)?;
        let after = formatted(&before).with_context(context)?;
        if after != before {
            if !check {
                fs::write(&file, after).with_context(context)?;
            }
            unformatted.push(file);
        }
    }
    Ok(unformatted)
}

/// The files named `*.nix` below a path; hidden folders, links and Cargo's output are passed over.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let kind = path.symlink_metadata().with_context(|| path.display().to_string())?;
    if kind.is_file() && path.extension().is_some_and(|extension| extension == "nix") {
        files.push(path.to_owned());
    }
    if kind.is_dir() {
        for entry in path.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with('.') && name != "target" {
                collect(&entry.path(), files)?;
            }
        }
    }
    Ok(())
}

fn formatted(text: &str) -> Result<String> {
    match format::in_memory(String::new(), text.to_owned()) {
        (format::Status::Error(error), _) => bail!(error),
        (_, text) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_is_stable_and_a_syntax_error_is_told() {
        let once = formatted("{a=1;  b = [ 1 2 ];}").expect("it is valid");
        assert_eq!(once, "{\n  a = 1;\n  b = [1 2];\n}\n");
        assert_eq!(formatted(&once).expect("it is valid"), once);
        assert!(formatted("{ a = ; }").is_err());
    }
}
