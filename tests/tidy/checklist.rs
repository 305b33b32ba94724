//! The table in `checklist.md` is whole, and the tests that it names exist.

use std::collections::BTreeSet;

use crate::assert_tidy;
use crate::source::{Source, files};

const TABLE: &str = "tests/tidy/checklist.md";

/// How many questions there are.
const QUESTIONS: u32 = 44;

/// The features that answers may wait for. Once one is there, its line goes, and so do the rows that wait for it.
const FEATURES: [&str; 0] = [];

/// One line of the table.
struct Row {
    line: usize,
    number: u32,
    asked: String,
    answer: String,
}

impl Row {
    /// The feature that the answer waits for.
    fn waits_for(&self) -> Option<&str> {
        self.answer.strip_prefix("waits for: ")
    }

    /// Whether the answer is a test that exists.
    fn is_tested(&self) -> bool {
        let test = self.answer.trim_matches('`').split_once("::");
        test.is_some_and(|(path, name)| files(&[path]).first().is_some_and(|file| has_test(file, name)))
    }

    fn breach(&self, text: &str) -> String {
        format!("{TABLE}:{}: {}: {text}", self.line, self.number)
    }
}

/// Whether a file has a test of this name that is run.
fn has_test(file: &Source, name: &str) -> bool {
    let lines: Vec<&str> = file.text.lines().map(str::trim_start).collect();
    let begins = format!("fn {name}()");
    lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&begins))
}

/// The lines of the table, without its head.
fn rows() -> Vec<Row> {
    let text = files(&[TABLE]).pop().map(|file| file.text).unwrap_or_default();
    let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    let rows = lines.filter(|(_, line)| !line.starts_with("| no. |")).map(|(at, line)| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, asked, answer] = cells[..] else { panic!("{TABLE}:{}: three cells", at + 1) };
        let number = number.parse().unwrap_or_else(|_| panic!("{TABLE}:{}: a number", at + 1));
        Row { line: at + 1, number, asked: asked.to_owned(), answer: answer.to_owned() }
    });
    rows.collect()
}

#[test]
fn every_question_is_there_in_order() {
    let rows = rows();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let found: BTreeSet<u32> = numbers.into_iter().collect();
    assert_eq!(found, (1..=QUESTIONS).collect());
    let mut asked = BTreeSet::new();
    let odd = rows.iter().filter(|row| row.asked.is_empty() || !asked.insert(&row.asked));
    let odd: Vec<String> = odd.map(|row| row.breach("asks nothing, or the same again")).collect();
    assert_tidy("each row asks something of its own", &odd);
}

#[test]
fn every_question_is_answered_by_a_test_or_waits_for_a_feature() {
    let rows = rows();
    let open = rows.iter().filter(|row| match row.waits_for() {
        Some(feature) => !FEATURES.contains(&feature),
        None => !row.is_tested(),
    });
    let open: Vec<String> = open.map(|row| row.breach(&format!("no such test: {}", row.answer))).collect();
    assert_tidy("each row names a test that exists, or a feature that does not", &open);
}

#[test]
fn no_feature_is_waited_for_without_a_row() {
    let rows = rows();
    let waited: BTreeSet<&str> = rows.iter().filter_map(Row::waits_for).collect();
    assert_eq!(waited, BTreeSet::from(FEATURES));
}

#[test]
fn a_test_is_told_from_a_function_and_from_one_that_is_ignored() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n#[test]\n#[ignore]\nfn three() {}\n    #[test]\n    fn four() {}\n";
    let file = Source { path: "x.rs".into(), text: text.into() };
    let found = ["one", "two", "three", "four", "on"].map(|name| has_test(&file, name));
    assert_eq!(found, [true, false, false, true, false]);
}
