//! The command line: commands in, alerts out. It drives the engine by [`Session`](crate::session::Session) alone.
//!
//! What is for people goes to stderr, what is for programs to stdout. Every command ends with an [`ExitCode`], and with
//! one line of text if it did not do what it was asked.

mod args;
mod create;
mod demo;
mod exit;
mod goal;
mod ip_filter;
mod load;
mod plugins;
mod progress;
mod records;
mod run;
mod screen;
mod select;
mod show;
mod signals;
mod state;
mod text;
mod torrent_file;
mod verify;
mod watch;

use clap::Parser as _;

use self::args::{Args, Command};
pub use self::exit::ExitCode;
use self::exit::Failure;
use self::screen::Screen;
use self::signals::Signals;

/// Does what the process's arguments say, and returns what it should exit with. Help, and arguments that make no
/// sense, end the process here.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new(&args.common);
    carry_out(&args, &screen).unwrap_or_else(|failure| {
        screen.fail(&failure);
        failure.code
    })
}

fn carry_out(Args { command, common }: &Args, screen: &Screen) -> Result<ExitCode, Failure> {
    let signals = Signals::listen()
        .map_err(|error| Failure::new(ExitCode::Other, format!("signals cannot be handled: {error}")))?;
    match command {
        Command::Download(args) => run::download(args, common, screen, &signals),
        Command::Seed(args) => run::seed(args, common, screen, &signals),
        Command::Run(args) => run::run(args, common, screen, &signals),
        Command::Create(args) => create::create(args, screen, &signals),
        Command::Show(args) => show::show(args, screen),
        Command::Verify(args) => verify::verify(args, screen, &signals),
        Command::Demo => demo::demo(common, screen, &signals),
        Command::Plugins(args) => plugins::plugins(args, common, screen),
    }
}
