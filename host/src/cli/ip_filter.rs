//! Reading lists of addresses that are kept out.

use std::fs;
use std::path::{Path, PathBuf};

use super::exit::{ExitCode, Failure};
use super::text;
use crate::ip_filter::{IpFilter, parse_list};

/// Larger files are refused, in bytes: several times the longest list there is.
const MAX_SIZE: u64 = 512 << 20;

/// The filter that these files make, one after the other.
///
/// # Errors
/// A file cannot be read, or a line in it is no range of addresses.
pub(super) fn read(files: &[PathBuf]) -> Result<IpFilter, Failure> {
    let mut rules = Vec::new();
    for file in files {
        let refused = |reason: String| {
            let file = text::plain(&file.to_string_lossy());
            Failure::new(ExitCode::Usage, format!("--ip-filter: {file}: {reason}"))
        };
        let bytes = contents(file).map_err(refused)?;
        rules.extend(parse_list(&bytes).map_err(|error| refused(error.to_string()))?);
    }
    Ok(IpFilter::new(rules))
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_SIZE {
        return Err(format!("it is longer than {} MiB", MAX_SIZE >> 20));
    }
    fs::read(file).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one.p2p", "two.dat"].map(|name| folder.path().join(name));
        fs::write(&one, "all of it:1.0.0.0-1.255.255.255\n").unwrap();
        fs::write(&two, "001.002.000.000 - 001.002.255.255 , 200 , let in again\n").unwrap();
        let filter = read(&[one.clone(), two]).unwrap();
        assert_eq!(["1.1.1.1", "1.2.1.1"].map(|ip| filter.blocks(ip.parse().unwrap())), [true, false]);
        assert!(read(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("bad.p2p");
        fs::write(&list, "1.2.3.4\nnot a range\n").unwrap();
        let failure = read(&[list]).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.to_string().contains("bad.p2p: line 2: it holds no range"), "{failure}");
        let failure = read(&[folder.path().join("none")]).unwrap_err();
        assert!(failure.to_string().contains("none: No such file"), "{failure}");
    }
}
