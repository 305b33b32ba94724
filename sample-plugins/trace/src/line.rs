//! The trace file: a line for each callback, and the answer that the settings want of it.

use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::Write as _;

use pilotfish_plugin::{Consent, Keep, Level, PeerContext, Request, SessionContext, TorrentContext, Verdict};

use crate::options::{HookNames, Options};

/// Writes the lines of all objects of a session. They live on one thread: a `Cell` is enough to count.
pub(crate) struct Tracer {
    file: File,
    lines: Cell<u64>,
    /// A line could not be written. Nothing follows it, so that a trace has no gaps.
    broken: Cell<bool>,
    veto: HookNames,
    throw: HookNames,
    handle: bool,
}

impl Tracer {
    /// Makes the file, empty.
    ///
    /// # Errors
    /// A line that names the file and says why it cannot be written.
    pub(crate) fn create(options: &Options) -> Result<Self, String> {
        let file = File::create(&options.path)
            .map_err(|error| format!("cannot write {}: {error}", options.path.display()))?;
        Ok(Self {
            file,
            lines: Cell::new(0),
            broken: Cell::new(false),
            veto: options.veto.clone(),
            throw: options.throw.clone(),
            handle: options.handle,
        })
    }

    /// Whether lines of peers have the answers of their handles.
    pub(crate) fn wants_handle(&self) -> bool {
        self.handle
    }

    /// Writes the line of a hook, and gives the hook's answer: its default, or the opposite if the hook is vetoed.
    ///
    /// # Panics
    /// If the hook is in `throw`. The line is in the file by then.
    pub(crate) fn line<A: Answer>(&self, log: &impl Log, who: &str, hook: &str, args: Args) -> A {
        self.write(log, who, hook, &args);
        if self.throw.contains(hook) {
            panic!("thrown by {hook}");
        }
        if self.veto.contains(hook) { A::OPPOSITE } else { A::default() }
    }

    /// Unbuffered, and a line at a time: whenever the process is killed, the file ends with a whole line.
    fn write(&self, log: &impl Log, who: &str, hook: &str, args: &Args) {
        if self.broken.get() {
            return;
        }
        let seq = self.lines.replace(self.lines.get() + 1);
        let line =
            format!("{{\"seq\":{seq},\"who\":\"{who}\",\"hook\":\"{hook}\",\"args\":{{{}}}}}\n", args.0);
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            self.broken.set(true);
            log.error(&format!("the trace ends at line {seq}: {error}"));
        }
    }
}

/// What a hook answers.
pub(crate) trait Answer: Default {
    /// The opposite of the default.
    const OPPOSITE: Self;
}

impl Answer for () {
    const OPPOSITE: Self = ();
}

impl Answer for Verdict {
    const OPPOSITE: Self = Self::Handled;
}

impl Answer for Keep {
    const OPPOSITE: Self = Self::Leave;
}

impl Answer for Consent {
    const OPPOSITE: Self = Self::Refuse;
}

impl Answer for Request {
    const OPPOSITE: Self = Self::Sent;
}

/// The log that every context has.
pub(crate) trait Log {
    /// Logs that something does not work.
    fn error(&self, text: &str);
}

impl Log for SessionContext<'_> {
    fn error(&self, text: &str) {
        self.log(Level::Error, text);
    }
}

impl Log for TorrentContext<'_> {
    fn error(&self, text: &str) {
        self.log(Level::Error, text);
    }
}

impl Log for PeerContext<'_> {
    fn error(&self, text: &str) {
        self.log(Level::Error, text);
    }
}

/// The arguments of a callback: what stands between the braces of a JSON object, in the order of the calls.
pub(crate) struct Args(String);

impl Args {
    /// No arguments yet.
    pub(crate) fn none() -> Self {
        Self(String::new())
    }

    /// Adds a number; `value` must print as one.
    #[must_use]
    pub(crate) fn number(self, name: &str, value: impl Display) -> Self {
        self.raw(name, value)
    }

    /// Adds `true` or `false`.
    #[must_use]
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, value)
    }

    /// Adds a string: whatever prints.
    #[must_use]
    pub(crate) fn text(self, name: &str, value: impl Display) -> Self {
        self.raw(name, quote(&value.to_string()))
    }

    fn raw(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        // A `String` takes all that is written to it.
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }
}

/// A JSON string in plain ASCII. As in the reference tracer, which knows no encodings, each byte beyond ASCII is a
/// character of its own.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\u{byte:04x}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("trace-{name}-{}.jsonl", std::process::id())))
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    impl Log for RefCell<Vec<String>> {
        fn error(&self, text: &str) {
            self.borrow_mut().push(text.to_owned());
        }
    }

    fn options(path: &Path) -> Options {
        Options {
            path: path.to_owned(),
            veto: ["on_have", "on_handshake", "can_disconnect", "write_request"].into(),
            throw: ["on_choke"].into(),
            handle: false,
            unknown: None,
            schedule: Vec::new(),
        }
    }

    #[test]
    fn text_is_quoted_byte_by_byte() {
        assert_eq!(quote("plain ~"), r#""plain ~""#);
        assert_eq!(quote(r#"say "a\b""#), r#""say \"a\\b\"""#);
        assert_eq!(quote("\n\t\0\x7f"), r#""\u000a\u0009\u0000\u007f""#);
        assert_eq!(quote("é→"), r#""\u00c3\u00a9\u00e2\u0086\u0092""#);
    }

    #[test]
    fn arguments_stand_in_the_order_of_the_calls() {
        let args = Args::none().number("piece", -1).flag("outgoing", true).text("remote", "[::1]:5");
        assert_eq!(args.0, r#""piece":-1,"outgoing":true,"remote":"[::1]:5""#);
    }

    #[test]
    fn lines_are_numbered() {
        let scratch = Scratch::new("numbers");
        let tracer = Tracer::create(&options(&scratch.0)).unwrap();
        let log = RefCell::default();
        tracer.line::<()>(&log, "session", "added", Args::none());
        tracer.line::<()>(&log, "peer0", "sent_have", Args::none().number("piece", 3));
        let expected = concat!(
            r#"{"seq":0,"who":"session","hook":"added","args":{}}"#,
            "\n",
            r#"{"seq":1,"who":"peer0","hook":"sent_have","args":{"piece":3}}"#,
            "\n",
        );
        assert_eq!(scratch.text(), expected);
    }

    #[test]
    fn a_veto_is_the_opposite_of_the_default() {
        let scratch = Scratch::new("veto");
        let tracer = Tracer::create(&options(&scratch.0)).unwrap();
        let log = RefCell::default();
        assert_eq!(tracer.line::<Verdict>(&log, "peer0", "on_have", Args::none()), Verdict::Handled);
        assert_eq!(tracer.line::<Keep>(&log, "peer0", "on_handshake", Args::none()), Keep::Leave);
        assert_eq!(tracer.line::<Consent>(&log, "peer0", "can_disconnect", Args::none()), Consent::Refuse);
        assert_eq!(tracer.line::<Request>(&log, "peer0", "write_request", Args::none()), Request::Sent);
        assert_eq!(tracer.line::<Verdict>(&log, "peer0", "on_piece", Args::none()), Verdict::Continue);
    }

    #[test]
    fn the_line_of_a_hook_that_panics_is_written() {
        let scratch = Scratch::new("throw");
        let tracer = Tracer::create(&options(&scratch.0)).unwrap();
        let log = RefCell::default();
        let call = || tracer.line::<Verdict>(&log, "peer0", "on_choke", Args::none());
        let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "thrown by on_choke");
        assert!(scratch.text().contains("on_choke"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_ends_the_trace_with_one_word() {
        let tracer = Tracer::create(&options(Path::new("/dev/full"))).unwrap();
        let log = RefCell::default();
        tracer.line::<()>(&log, "session", "added", Args::none());
        tracer.line::<()>(&log, "session", "on_tick", Args::none());
        assert_eq!(log.borrow().len(), 1);
        assert!(log.borrow()[0].starts_with("the trace ends at line 0: "));
    }
}
