//! `show`: what a .torrent file, or a magnet link, says.

use pilotfish_plugin::Level;
use serde_json::{Value, json};

use super::args::Show;
use super::exit::{ExitCode, Failure};
use super::screen::Screen;
use super::text;
use super::torrent_file;
use crate::metainfo::{FileEntry, Magnet, Metainfo};

/// # Errors
/// It is not a torrent that can be used.
pub(super) fn show(args: &Show, screen: &Screen) -> Result<ExitCode, Failure> {
    if let Some(link) = torrent_file::link(&args.torrent) {
        show_link(&torrent_file::magnet(link)?, screen);
        return Ok(ExitCode::Done);
    }
    let torrent = torrent_file::read(&args.torrent)?;
    if screen.json() {
        screen.object(&object(&torrent, args.files));
    } else {
        lines(&torrent, args.files).iter().for_each(|line| screen.data(line));
        if !args.files && torrent.layout().files().len() > 1 {
            screen.say(Level::Info, "--files lists the files");
        }
    }
    Ok(ExitCode::Done)
}

/// What a link says; all else is known to peers alone.
fn show_link(magnet: &Magnet, screen: &Screen) {
    if screen.json() {
        return screen.object(&json!({
            "schema": 1,
            "torrent": magnet.info_hashes.to_string(),
            "name": magnet.name,
            "trackers": magnet.trackers,
            "web_seeds": magnet.web_seeds,
            "peers": magnet.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "magnet": magnet.to_string(),
        }));
    }
    let row = |name: &str, value: &str| screen.data(format!("{:<13}{value}", format!("{name}:")));
    row("info-hash", &magnet.info_hashes.to_string());
    magnet.name.iter().for_each(|name| row("name", name));
    magnet.trackers.iter().for_each(|tracker| row("tracker", tracker));
    magnet.web_seeds.iter().for_each(|url| row("web seed", url));
    magnet.peers.iter().for_each(|peer| row("peer", &peer.to_string()));
}

/// The files that a user would find on disk.
fn files(torrent: &Metainfo) -> impl Iterator<Item = &FileEntry> {
    torrent.layout().files().iter().filter(|file| file.on_disk())
}

fn lines(torrent: &Metainfo, with_files: bool) -> Vec<String> {
    let geometry = torrent.layout().geometry();
    let total = geometry.total();
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{:<13}{value}", format!("{name}:")));
    row("name", torrent.name().to_owned());
    row("info-hash", torrent.info_hashes().to_string());
    row("size", format!("{} ({total} bytes)", text::size(total)));
    row("files", files(torrent).count().to_string());
    row("pieces", format!("{} of {}", geometry.num_pieces(), text::size(geometry.piece_length().into())));
    if torrent.private() {
        row("private", "yes".to_owned());
    }
    for (tier, trackers) in torrent.trackers().iter().enumerate() {
        trackers.iter().for_each(|tracker| row("tracker", format!("{tracker} (tier {})", tier + 1)));
    }
    torrent.web_seeds().iter().for_each(|url| row("web seed", url.clone()));
    torrent.http_seeds().iter().for_each(|url| row("HTTP seed", url.clone()));
    if let Some(comment) = torrent.comment() {
        row("comment", comment.to_owned());
    }
    if let Some(program) = torrent.created_by() {
        row("created by", program.to_owned());
    }
    if let Some(seconds) = torrent.creation_date() {
        row("created", text::date(seconds).unwrap_or_else(|| seconds.to_string()));
    }
    if with_files {
        let numbered = (1..).zip(files(torrent));
        lines.extend(
            numbered
                .map(|(number, file)| format!("{number:>5} {:>14}  {}", file.length, file.path.display())),
        );
    }
    lines
}

fn object(torrent: &Metainfo, with_files: bool) -> Value {
    let geometry = torrent.layout().geometry();
    let listed = || -> Vec<Value> {
        let one = |file: &FileEntry| json!({"path": file.path.to_string_lossy(), "bytes": file.length});
        files(torrent).map(one).collect()
    };
    json!({
        "schema": 1,
        "torrent": torrent.info_hashes().to_string(),
        "name": torrent.name(),
        "total_bytes": geometry.total(),
        "piece_bytes": geometry.piece_length(),
        "pieces": geometry.num_pieces(),
        "private": torrent.private(),
        "trackers": torrent.trackers(),
        "web_seeds": torrent.web_seeds(),
        "http_seeds": torrent.http_seeds(),
        "comment": torrent.comment(),
        "created_by": torrent.created_by(),
        "creation_date": torrent.creation_date(),
        "file_count": files(torrent).count(),
        "files": with_files.then(listed),
        "magnet": torrent.magnet().to_string(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::{CreateOptions, Creator, NewFile};

    fn torrent() -> Metainfo {
        let options = CreateOptions {
            trackers: vec![vec!["http://a/".to_owned()], vec!["http://b/".to_owned()]],
            comment: Some("two\nlines".to_owned()),
            private: true,
            ..CreateOptions::default()
        };
        let file = |path: &str, length| NewFile { path: path.into(), length, executable: false };
        let mut creator = Creator::folder("album", vec![file("b", 20_000), file("a/x", 3)], options).unwrap();
        creator.update(&[0; 20_003]).unwrap();
        Metainfo::parse(&creator.finish().unwrap()).unwrap()
    }

    #[test]
    fn people_see_names_sizes_and_trackers() {
        let lines = lines(&torrent(), true);
        for expected in
            ["name:        album", "pieces:      2 of 16.0 KiB", "tracker:     http://b/ (tier 2)"]
        {
            assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
        }
        let path = std::path::Path::new("album").join("b");
        assert!(lines.last().unwrap().ends_with(&format!("20000  {}", path.display())));
    }

    #[test]
    fn programs_see_the_same() {
        let shown = object(&torrent(), true);
        assert_eq!((&shown["total_bytes"], &shown["private"]), (&json!(20_003), &json!(true)));
        assert_eq!(shown["trackers"], json!([["http://a/"], ["http://b/"]]));
        assert_eq!(shown["files"].as_array().unwrap().len(), 2);
        assert_eq!(object(&torrent(), false)["files"], Value::Null);
    }
}
