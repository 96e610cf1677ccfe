//! The conformance table: `tests/conformance/table.txt` says what the protocols ask for, tests cite its rows, and this
//! test holds the two together. `make conformance` prints the result.
//!
//! Not here: whether a test proves what it cites. That is for its reader.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// One requirement.
#[derive(Debug)]
struct Row {
    id: String,
    section: String,
    rule: String,
    /// Why it is not kept, or not to the letter.
    exception: Option<String>,
}

/// A test that says which rows it proves.
#[derive(Debug)]
struct Citation {
    id: String,
    /// File and name of the test.
    test: String,
}

fn parse_table(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(" | ").collect();
        let [id, section, rule, rest @ ..] = &fields[..] else {
            return Err(format!("not a row: {line}"));
        };
        if rest.len() > 1 || rows.iter().any(|row| row.id == *id) {
            return Err(format!("too many fields, or an id twice: {line}"));
        }
        rows.push(Row {
            id: id.to_string(),
            section: section.to_string(),
            rule: rule.to_string(),
            exception: rest.first().map(|text| text.to_string()),
        });
    }
    Ok(rows)
}

/// The citations of one source file. Each must stand above a test.
fn citations(path: &Path, text: &str) -> Result<Vec<Citation>, String> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some(list) = line.strip_prefix("// Proves ") else {
            continue;
        };
        let misplaced = || format!("{}: no test below \"{line}\"", path.display());
        let list = list.strip_suffix('.').ok_or_else(misplaced)?;
        if lines.next() != Some("#[test]") {
            return Err(misplaced());
        }
        while lines.next_if(|line| line.starts_with("#[")).is_some() {}
        let name = lines
            .peek()
            .and_then(|line| line.strip_prefix("fn ")?.split('(').next());
        let name = name.ok_or_else(misplaced)?;
        for id in list.split(", ") {
            found.push(Citation {
                id: id.to_string(),
                test: format!("{}: {name}", path.display()),
            });
        }
    }
    Ok(found)
}

/// The table with its tests, and what is wrong with it.
fn join(rows: &[Row], citations: &[Citation]) -> (String, Vec<String>) {
    let (mut text, mut wrong) = (String::new(), Vec::new());
    let mut by_row: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for citation in citations {
        by_row.entry(&citation.id).or_default().push(&citation.test);
    }
    let mut excepted = 0;
    for row in rows {
        let tests = by_row.remove(row.id.as_str()).unwrap_or_default();
        let _ = writeln!(text, "{:8} {:14} {}", row.id, row.section, row.rule);
        for test in &tests {
            let _ = writeln!(text, "{:24}by {test}", "");
        }
        if let Some(reason) = &row.exception {
            excepted += 1;
            let _ = writeln!(text, "{:24}except: {reason}", "");
        }
        if tests.is_empty() && row.exception.is_none() {
            wrong.push(format!("{} has no test: {}", row.id, row.rule));
        }
    }
    for (id, tests) in by_row {
        wrong.push(format!("there is no row {id}, which {tests:?} cite"));
    }
    let cited = citations.len();
    let _ = writeln!(
        text,
        "{} rows, {cited} citations, {excepted} rows with an exception",
        rows.len()
    );
    (text, wrong)
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_row_has_a_test_or_a_reason_and_every_citation_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/conformance/table.txt")).expect("the table");
    let rows = parse_table(&table).unwrap_or_else(|e| panic!("{e}"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    rust_files(&root.join("tests"), &mut files);
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let path = file.strip_prefix(root).unwrap_or(&file);
        all.extend(citations(path, &text).unwrap_or_else(|e| panic!("{e}")));
    }
    let (text, wrong) = join(&rows, &all);
    println!("{text}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_missing_is_found() {
    let rows = parse_table("# head\n\nA1 | 1 | a rule\nA2 | 1 | another | because\n").unwrap();
    let source = "// Proves A1.\n#[test]\n#[ignore]\nfn one() {\n";
    let cited = citations(Path::new("x.rs"), source).unwrap();
    assert_eq!(cited[0].test, "x.rs: one");
    assert!(join(&rows, &cited).1.is_empty());
    assert_eq!(join(&rows, &[]).1.len(), 1, "A1 has no test");
    let stray = citations(Path::new("x.rs"), &source.replace("A1", "A1, A9")).unwrap();
    assert_eq!(join(&rows, &stray).1.len(), 1, "there is no row A9");
    for misplaced in ["// Proves A1.\nfn one() {", "// Proves A1\n#[test]\nfn one() {"] {
        assert!(citations(Path::new("x.rs"), misplaced).is_err());
    }
    for malformed in ["A1 | 1", "A1 | 1 | a\nA1 | 1 | b"] {
        assert!(parse_table(malformed).is_err());
    }
}
