//! The command line as types: one struct per command, one field per option.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use super::exit::ExitCode;
use super::select::Selection;
use crate::settings::{HostPorts, Settings};

/// A BitTorrent client that loads plugins.
#[derive(Debug, Parser)]
#[command(name = "pilotfish", version, propagate_version = true, after_help = ExitCode::help(), after_long_help = long_help())]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Download(Download),
    Seed(Seed),
    Run(Run),
    Create(Create),
    Show(Show),
    Verify(Verify),
    /// See it at work: a swarm on this machine shares a file, with the sample plugins loaded from a folder. Ends by itself
    /// within a minute, and leaves nothing behind.
    ///
    /// The samples are built from the source that this program is run in. --plugin adds a plugin of your own;
    /// --plugin-dir names other plugins to take instead of the samples.
    Demo,
    /// What plugins there are, and what a plugin file says about itself.
    #[command(subcommand)]
    Plugins(Plugins),
}

/// What every command understands.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Common {
    /// Load the plugins in this folder; may be repeated. Without it: the folders in $PILOTFISH_PLUGIN_PATH, then
    /// pilotfish/plugins in the user's data folder.
    #[arg(long, value_name = "DIR", global = true, help_heading = "Plugins")]
    pub(super) plugin_dir: Vec<PathBuf>,
    /// Load this plugin, before those in folders; may be repeated. It is an error if it is refused.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Plugins")]
    pub(super) plugin: Vec<PathBuf>,
    /// Set KEY of the plugin NAME; may be repeated.
    #[arg(long, value_name = "NAME.KEY=VALUE", global = true, help_heading = "Plugins")]
    pub(super) plugin_set: Vec<PluginSetting>,
    /// Load no plugins, whatever else is said.
    #[arg(long, global = true, help_heading = "Plugins")]
    pub(super) no_plugins: bool,
    /// Switch off the extensions that are built in.
    #[arg(long, global = true, help_heading = "Plugins")]
    pub(super) no_builtin_extensions: bool,
    /// Where things are kept from one run to the next: what plugins want to keep, which pieces of torrents are there, and the
    /// metadata of magnet links. Without it: pilotfish in the user's state folder.
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) state_dir: Option<PathBuf>,
    /// Keep nothing from one run to the next, and use nothing that was kept.
    #[arg(long, global = true, conflicts_with = "state_dir")]
    pub(super) no_state: bool,
    /// Change a setting of the engine; may be repeated. `--help` lists them.
    #[arg(long, value_name = "SETTING=VALUE", global = true)]
    pub(super) set: Vec<Assignment>,
    /// Write JSON to stdout: one object per line.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Show errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Show more; twice, also what happens with every block and message.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(super) verbose: u8,
}

/// Options of the commands that talk to peers.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Session {
    /// Connect to this peer; may be repeated.
    #[arg(long = "peer", value_name = "IP:PORT")]
    pub(super) peers: Vec<SocketAddr>,
    /// Enter the DHT through this node, besides those of the setting dht_bootstrap_nodes; may be repeated.
    #[arg(long = "dht-node", value_name = "HOST:PORT", value_parser = parse_host)]
    pub(super) dht_nodes: Vec<(String, u16)>,
    /// Listen for peers here; may be repeated. Port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: Vec<SocketAddr>,
    /// Stop after this time, such as 90s, 5m or 1h30m.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) stop_after: Option<Duration>,
    /// Say at the end how long the turns of the network thread took: a plugin that takes long shows in them.
    #[arg(long)]
    pub(super) turns: bool,
    /// Have nothing to do with the addresses in this list, of PeerGuardian's kind (.p2p), eMule's (.dat), or plain ones with an
    /// address, a range or ADDRESS/BITS per line; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(super) ip_filter: Vec<PathBuf>,
    /// Receive at most so many bytes per second, such as 500K or 2M, protocol included.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(super) download_limit: Option<u32>,
    /// Send at most so many bytes per second, as above.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(super) upload_limit: Option<u32>,
    /// Hash the data that is there, whatever is known of it from an earlier run.
    #[arg(long)]
    pub(super) recheck: bool,
}

/// Options of the commands that download.
#[derive(Debug, Default, clap::Args)]
pub(super) struct WebSeeds {
    /// Download from this server, too: a URL of the file, or of the folder that holds it; may be repeated.
    #[arg(long = "web-seed", value_name = "URL")]
    pub(super) urls: Vec<String>,
}

/// Download torrents, and exit when all of them are finished. What is there already is checked and kept.
#[derive(Debug, clap::Args)]
pub(super) struct Download {
    /// .torrent files, and magnet links.
    #[arg(required = true, value_name = "TORRENT")]
    pub(super) torrents: Vec<PathBuf>,
    /// The folder that will hold what is downloaded.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) output: PathBuf,
    /// Download these files only, by their numbers in `show --files`, such as 1-3,7. For a single torrent.
    #[arg(long, value_name = "FILES")]
    pub(super) select: Option<Selection>,
    /// When everything is there, upload until so many times the size of the download has been uploaded, such as 1.5.
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub(super) seed_ratio: Option<f64>,
    /// When everything is there, upload for this time. With --seed-ratio, whichever is reached first ends it.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) seed_time: Option<Duration>,
    #[command(flatten)]
    pub(super) web_seeds: WebSeeds,
    #[command(flatten)]
    pub(super) session: Session,
}

/// Check data that is complete, and upload it to whoever asks, until stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Seed {
    /// The .torrent files.
    #[arg(required = true, value_name = "TORRENT")]
    pub(super) torrents: Vec<PathBuf>,
    /// The folder that holds the data.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Give it away piece by piece, each to one peer that passes it on (BEP 16): a first copy for little more than its size.
    #[arg(long = "super")]
    pub(super) super_seeding: bool,
    #[command(flatten)]
    pub(super) session: Session,
}

/// Run a session as told, with any number of torrents: download what is missing, upload what is there.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// .torrent files, and magnet links.
    #[arg(value_name = "TORRENT")]
    pub(super) torrents: Vec<PathBuf>,
    /// The folder that holds, or will hold, the data.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) output: PathBuf,
    /// When to exit by itself: when everything is finished, or when the seconds of --stop-after are over [default:
    /// seconds with --stop-after, else never].
    #[arg(long, value_enum)]
    pub(super) exit_when: Option<ExitWhen>,
    #[command(flatten)]
    pub(super) web_seeds: WebSeeds,
    #[command(flatten)]
    pub(super) session: Session,
}

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExitWhen {
    /// When every torrent is finished.
    Finished,
    /// When the time of --stop-after is over.
    Seconds,
    /// When a signal comes.
    Never,
}

/// Make a .torrent file of a file or folder.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The file or folder.
    pub(super) path: PathBuf,
    /// The file to write; it must not exist [default: NAME.torrent in the current folder].
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// A tracker; may be repeated, each in a tier of its own.
    #[arg(short, long = "tracker", value_name = "URL")]
    pub(super) trackers: Vec<String>,
    /// A server that has the data: a URL of the file, or of the folder that holds it; may be repeated.
    #[arg(long = "web-seed", value_name = "URL")]
    pub(super) web_seeds: Vec<String>,
    /// Bytes per piece, such as 262144, 256K or 1M: a power of two [default: by size].
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(super) piece_length: Option<u32>,
    /// Ask clients to find peers by the trackers alone.
    #[arg(long)]
    pub(super) private: bool,
    /// A remark for whoever reads the file.
    #[arg(long, value_name = "TEXT")]
    pub(super) comment: Option<String>,
    /// Where the torrent belongs; makes its info-hash differ from the same data's elsewhere.
    #[arg(long, value_name = "TEXT")]
    pub(super) source: Option<String>,
}

/// Show what a .torrent file, or a magnet link, says.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The .torrent file, or the link.
    pub(super) torrent: PathBuf,
    /// List the files, too.
    #[arg(long)]
    pub(super) files: bool,
}

/// Compare data with a torrent, and list the pieces and files that are wrong or missing.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The .torrent file.
    pub(super) torrent: PathBuf,
    /// The folder that holds the data.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
}

/// What to tell of plugins.
#[derive(Debug, Subcommand)]
pub(super) enum Plugins {
    /// List every plugin file: loaded, or refused and why.
    List,
    /// Show what a plugin file says about itself, without loading it.
    Inspect {
        /// The plugin file.
        file: PathBuf,
    },
}

/// `SETTING=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `NAME.KEY=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PluginSetting {
    pub(super) plugin: String,
    pub(super) key: String,
    pub(super) value: String,
}

impl FromStr for PluginSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Assignment { name, value } = text.parse()?;
        let (plugin, key) = name.split_once('.').ok_or("there is no . before the =")?;
        if plugin.is_empty() || key.is_empty() {
            return Err("the plugin or the key is empty".to_owned());
        }
        Ok(Self { plugin: plugin.to_owned(), key: key.to_owned(), value })
    }
}

/// A host and its port.
fn parse_host(text: &str) -> Result<(String, u16), String> {
    HostPorts::parse_one(text)
        .ok_or_else(|| "a host, a colon and a port, such as router.example:6881".to_owned())
}

/// A time such as `500ms`, `30s`, `5m`, `1h30m`; a number alone is in seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number and ms, s, m, h or d, such as 90s or 1h30m".to_owned();
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(wrong)?;
        let milliseconds = match unit {
            "ms" => 1.0,
            "s" | "" => 1e3,
            "m" | "min" => 60e3,
            "h" => 3_600e3,
            "d" => 86_400e3,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * milliseconds / 1e3).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if text.trim().is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A ratio: a number that is not negative.
fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| "a ratio is a number such as 1.5".to_owned())
}

/// A number of bytes such as `262144`, `256K`, `256KiB` or `1M`.
fn parse_size(text: &str) -> Result<u32, String> {
    let wrong = || "a size is a number and K or M, such as 256K".to_owned();
    let (number, unit, after) = number_and_unit(text.trim()).ok_or_else(wrong)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        _ => return Err(wrong()),
    };
    let bytes = number * factor;
    let fits = after.is_empty() && bytes.fract() == 0.0 && bytes <= f64::from(u32::MAX);
    if fits { Ok(bytes as u32) } else { Err(wrong()) }
}

/// The number that `text` starts with, the letters that follow, and the rest.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let (number, rest) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    Some((number.parse().ok()?, unit, rest))
}

/// What `--help` says and `-h` does not: also the engine's settings.
fn long_help() -> String {
    let mut text = ExitCode::help() + "\n\nSettings, with their defaults:";
    for (name, value, doc) in Settings::default().iter() {
        text += &format!("\n  {name}={value}\n      {doc}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_table_of_options_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_line_of_the_parity_check_is_understood() {
        let args = parse(
            "pilotfish run /t/payload.torrent --output /t/subject --listen 127.0.0.1:7000 --peer 127.0.0.1:1 --peer [::1]:2 \
             --stop-after 7s --exit-when finished --plugin libpilotfish_trace.so --plugin-set trace.path=/t/a.b=c.jsonl \
             --plugin-set trace.veto=new_torrent,on_piece --no-builtin-extensions --set min_reconnect_time=1",
        )
        .unwrap();
        let Command::Run(run) = args.command else { panic!("not run") };
        assert_eq!((run.output, run.exit_when), ("/t/subject".into(), Some(ExitWhen::Finished)));
        assert_eq!(run.session.stop_after, Some(Duration::from_secs(7)));
        assert_eq!((run.session.peers.len(), run.session.listen.len()), (2, 1));
        assert_eq!(args.common.plugin_set[0].value, "/t/a.b=c.jsonl");
        assert_eq!((&*args.common.plugin_set[1].plugin, &*args.common.plugin_set[1].key), ("trace", "veto"));
        let setting = Assignment { name: "min_reconnect_time".into(), value: "1".into() };
        assert_eq!((args.common.set, args.common.no_builtin_extensions), (vec![setting], true));
    }

    #[test]
    fn options_for_all_commands_may_stand_before_and_after_the_command() {
        assert!(parse("pilotfish --json verify a.torrent --data .").unwrap().common.json);
        assert!(parse("pilotfish plugins list --json").unwrap().common.json);
    }

    #[test]
    fn a_session_may_have_no_torrents_but_a_download_may_not() {
        assert!(parse("pilotfish run --exit-when seconds --stop-after 1").is_ok());
        assert!(parse("pilotfish download").is_err());
    }

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        let times =
            ["500ms", "30s", "30", "1h30m", "0.5s", "2m"].map(|text| parse_time(text).unwrap().as_millis());
        assert_eq!(times, [500, 30_000, 30_000, 5_400_000, 500, 120_000]);
        assert!(
            ["", "s", "30x", "-1s", "1e400s", "9999999999999999999999d"]
                .iter()
                .all(|text| parse_time(text).is_err())
        );
        assert_eq!(
            ["16384", "256K", "1MiB"].map(|text| parse_size(text).unwrap()),
            [16_384, 262_144, 1_048_576]
        );
        assert!(["", "1G", "0.3", "8000M", "1K1"].iter().all(|text| parse_size(text).is_err()));
    }

    #[test]
    fn a_node_of_the_dht_has_a_name_or_an_address_and_a_port() {
        let nodes = ["a.b:1", "1.2.3.4:5", "[::1]:6"].map(|text| parse_host(text).unwrap());
        assert_eq!(nodes.map(|(host, port)| format!("{host} {port}")), ["a.b 1", "1.2.3.4 5", "::1 6"]);
        assert!(
            ["a", "a:", ":1", "a:0", "::1:6", "[a]:1", "a b:1"].iter().all(|text| parse_host(text).is_err())
        );
    }

    #[test]
    fn a_plugin_setting_must_name_plugin_and_key() {
        assert!(
            ["path=x", ".path=x", "trace.=x", "trace.path"]
                .iter()
                .all(|text| text.parse::<PluginSetting>().is_err())
        );
    }
}
