//! `--select`: files by their numbers, as `show --files` counts them.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::exit::{ExitCode, Failure};
use super::text;
use crate::metainfo::FileLayout;

/// Numbers of files, from 1 on, such as `1-3,7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection(Vec<RangeInclusive<u32>>);

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "files are numbers from 1 on, and ranges of them, such as 1-3,7".to_owned();
        let number = |text: &str| text.trim().parse().ok().filter(|number: &u32| *number > 0);
        let range = |text: &str| -> Option<RangeInclusive<u32>> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(number(first)?..=number(last)?).filter(|range| !range.is_empty())
        };
        let ranges = text.split(',').map(range).collect::<Option<_>>();
        ranges.map(Self).ok_or_else(wrong)
    }
}

impl Selection {
    /// The same as a magnet link says it (BEP 53): from 0 on. Padding among the files counts there, and cannot be told before they
    /// are known.
    pub(super) fn indices(&self) -> Vec<RangeInclusive<u32>> {
        self.0.iter().map(|range| range.start() - 1..=range.end() - 1).collect()
    }

    /// The priority of each file of a torrent, padding included, which has no number.
    ///
    /// # Errors
    /// There is no such file.
    pub(super) fn priorities(&self, layout: &FileLayout) -> Result<Vec<u8>, Failure> {
        self.check(layout)?;
        let mut number = 0;
        let mut priority = |on_disk: bool| {
            number += u32::from(on_disk);
            if on_disk && self.0.iter().any(|range| range.contains(&number)) { 4 } else { 0 }
        };
        Ok(layout.files().iter().map(|file| priority(file.on_disk())).collect())
    }

    fn check(&self, layout: &FileLayout) -> Result<(), Failure> {
        let files = layout.files().iter().filter(|file| file.on_disk()).count();
        let beyond = self.0.iter().map(|range| *range.end()).find(|last| *last as usize > files);
        let Some(beyond) = beyond else { return Ok(()) };
        let files = text::count(files, "file");
        let text = format!(
            "--select: {} has {files}, and no file {beyond}: `show --files` lists them",
            layout.name()
        );
        Err(Failure::new(ExitCode::Usage, text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::FileEntry;

    #[test]
    fn files_are_selected_by_number_and_range() {
        let selection: Selection = "1-2, 5,4".parse().unwrap();
        assert_eq!(selection.indices(), [0..=1, 4..=4, 3..=3]);
        for wrong in ["", "0", "1-", "-3", "3-1", "a", "1,,2", "1-2-3", "4294967296"] {
            assert!(wrong.parse::<Selection>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_files_on_disk_and_must_exist() {
        let mut files: Vec<_> = (0..4).map(|n| FileEntry::new(n.to_string(), 10)).collect();
        files[1].pad = true;
        let layout = FileLayout::new("t", 10, files).unwrap();
        let priorities = |text: &str| text.parse::<Selection>().unwrap().priorities(&layout);
        assert_eq!(priorities("2").unwrap(), [0, 0, 4, 0]);
        assert_eq!(priorities("1,3").unwrap(), [4, 0, 0, 4]);
        let failure = priorities("2-4").unwrap_err();
        let expected = "--select: t has 3 files, and no file 4: `show --files` lists them";
        assert_eq!((failure.code, failure.to_string()), (ExitCode::Usage, expected.to_owned()));
    }
}
