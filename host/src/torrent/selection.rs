//! From files that are wanted to pieces that are.

use std::ops::RangeInclusive;

use super::Priority;
use crate::metainfo::FileLayout;

/// The priority of each file, if only those of these numbers are wanted. Empty, which is everything, if none are named.
pub fn of_files(layout: &FileLayout, only: &[RangeInclusive<u32>]) -> Vec<u8> {
    if only.is_empty() {
        return Vec::new();
    }
    let wanted = |number: usize| {
        u32::try_from(number).is_ok_and(|number| only.iter().any(|range| range.contains(&number)))
    };
    let priority = |number| if wanted(number) { Priority::DEFAULT } else { Priority::NEVER };
    (0..layout.files().len()).map(|number| priority(number).get()).collect()
}

/// The priority of each piece: the highest of a file that it has a part of. A file beyond the end of `files` is wanted like
/// any other.
pub fn of_pieces(layout: &FileLayout, files: &[u8]) -> Vec<Priority> {
    let geometry = layout.geometry();
    let length = u64::from(geometry.piece_length());
    let mut pieces = vec![Priority::NEVER; geometry.num_pieces() as usize];
    for (number, file) in layout.files().iter().enumerate().filter(|(_, file)| file.length > 0 && !file.pad) {
        let priority = files.get(number).map_or(Priority::DEFAULT, |priority| Priority::new(*priority));
        let (first, end) = (file.offset / length, (file.offset + file.length).div_ceil(length));
        for piece in &mut pieces[first as usize..end as usize] {
            *piece = (*piece).max(priority);
        }
    }
    pieces
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::FileEntry;

    #[test]
    fn a_piece_is_wanted_as_much_as_the_file_that_is_wanted_most() {
        let files = [15, 0, 10, 5, 30].iter().enumerate().map(|(i, len)| FileEntry::new(i.to_string(), *len));
        let layout = FileLayout::new("t", 10, files.collect()).unwrap();
        let pieces = |files: &[u8]| of_pieces(&layout, files).iter().map(|p| p.get()).collect::<Vec<_>>();
        assert_eq!(pieces(&[]), [4; 6]);
        assert_eq!(pieces(&[0, 7, 0, 0, 0]), [0; 6]);
        assert_eq!(pieces(&[1, 0, 0, 7, 0]), [1, 1, 7, 0, 0, 0]);
        assert_eq!(pieces(&[0, 0, 2]), [0, 2, 4, 4, 4, 4]);
        assert_eq!(of_files(&layout, &[0..=1, 4..=9]), [4, 4, 0, 0, 4]);
        assert!(of_files(&layout, &[]).is_empty());
    }
}
