//! A file that fits a reader's head has 100 to 500 lines.

use std::io::Write as _;

use crate::assert_tidy;
use crate::source::rust;

/// From here on a file is named, so that whoever touches it next may divide it.
const LONG: usize = 600;
/// No file has more lines than this.
const TOO_LONG: usize = 900;

#[test]
fn no_file_is_too_long() {
    let mut too_long = Vec::new();
    for source in rust(&["."]) {
        let lines = source.text.lines().count();
        let said = format!("{}: {lines} lines", source.path);
        if lines > TOO_LONG {
            too_long.push(said);
        } else if lines > LONG {
            // Past the test's own capture: a report that only failing tests show is no report. It is no fault if
            // nobody listens.
            let _ = writeln!(std::io::stderr(), "tidy: long file: {said}");
        }
    }
    assert_tidy(&format!("a file has at most {TOO_LONG} lines"), &too_long);
}
