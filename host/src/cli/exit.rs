//! How the program ends: an exit code, and one line that says why.

use std::fmt::{Display, Write as _};

macro_rules! exit_codes {
    ($( $Name:ident = $number:literal, $meaning:literal; )+) => {
        /// What the program's exit code says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ExitCode {
            $( #[doc = $meaning] $Name = $number, )+
        }

        impl ExitCode {
            /// Every code and its meaning, in the order of their numbers.
            const TABLE: &[(Self, &str)] = &[$( (Self::$Name, $meaning) ),+];
        }
    };
}

exit_codes! {
    Done = 0, "everything that was asked for is done";
    Other = 1, "another error";
    Usage = 2, "the command line is wrong";
    Unfinished = 3, "some torrents are unfinished";
    BadTorrent = 4, "a .torrent file or magnet link cannot be used";
    Mismatch = 5, "data is missing, or is not what the torrent says";
    Network = 6, "no address to listen on, and no peer to connect to";
    TimedOut = 7, "--stop-after was over before the download";
    Disk = 8, "a file cannot be read or written";
    Exists = 9, "the file to be written exists already";
    Plugin = 10, "a plugin that was asked for was refused";
    Interrupted = 130, "stopped by SIGINT (Ctrl-C), after closing everything";
    Terminated = 143, "stopped by SIGTERM, after closing everything";
}

impl ExitCode {
    /// As the operating system hears it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The list of codes for `--help`.
    pub(super) fn help() -> String {
        let mut text = "Exit codes:".to_owned();
        for (code, meaning) in Self::TABLE {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\n  {:>3}  {meaning}", code.number());
        }
        text + "\n\nA second signal ends the program at once."
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}

/// Why the program did not do what it was asked. The code says who is at fault; the text is one line that names the
/// file or option, and the mend where there is one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    text: String,
}

impl Failure {
    pub(super) fn new(code: ExitCode, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_rely_on() {
        let numbers: Vec<u8> = ExitCode::TABLE.iter().map(|(code, _)| code.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
    }

    #[test]
    fn help_lists_every_code() {
        let help = ExitCode::help();
        assert!(
            ExitCode::TABLE
                .iter()
                .all(|(code, meaning)| help.contains(&format!("{}  {meaning}", code.number())))
        );
    }
}
