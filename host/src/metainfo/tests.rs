use proptest::prelude::*;

use super::*;
use crate::wire::bencode::BencodeError;

/// A torrent of 40 000 bytes in pieces of 16 KiB, with `files` as its `files` or `length`, and `more` in the info.
fn torrent(files: &str, more: &str) -> Vec<u8> {
    let info = format!("d{files}4:name4:root12:piece lengthi16384e6:pieces60:{}{more}e", "h".repeat(60));
    format!("d4:info{info}e").into_bytes()
}

fn single() -> Vec<u8> {
    torrent("6:lengthi40000e", "")
}

fn error(bytes: &[u8]) -> MetainfoError {
    Metainfo::parse(bytes).unwrap_err()
}

fn paths(torrent: &Metainfo) -> Vec<&str> {
    torrent.layout().files().iter().map(|file| file.path.to_str().unwrap()).collect()
}

#[test]
fn a_torrent_of_one_file() {
    let torrent = Metainfo::parse(&single()).unwrap();
    assert_eq!((torrent.name(), paths(&torrent)), ("root", vec!["root"]));
    assert_eq!((torrent.layout().geometry().num_pieces(), torrent.hashes().len()), (3, 3));
    assert!(!torrent.private() && torrent.trackers().is_empty() && torrent.comment().is_none());
    assert!(torrent.info_hashes().verify_v1(torrent.info_bytes()).unwrap());
    assert_eq!(
        torrent.magnet().to_string(),
        format!("magnet:?xt=urn:btih:{}&dn=root", torrent.info_hashes())
    );
}

#[test]
fn a_torrent_of_many_files_with_attributes() {
    let files = "5:filesl\
        d6:lengthi20000e4:pathl1:a1:bee\
        d4:attr1:p6:lengthi12768e4:pathl4:.pad0:ee\
        d4:attr1:x6:lengthi7232e4:pathl1:x10:path.utf-8e10:path.utf-8l3:é.ee\
        d4:attr1:l6:lengthi-5e4:pathl4:linkee\
        d6:lengthi0e4:pathl5:emptyeee";
    let torrent = Metainfo::parse(&torrent(files, "7:privatei1e")).unwrap();
    assert_eq!(paths(&torrent), ["root/a/b", "root/.pad/12768", "root/é.", "root/link", "root/empty"]);
    let flags = torrent.layout().files().iter().map(|file| (file.pad, file.executable, file.symlink));
    let expected = [(false, false, false), (true, false, false), (false, true, false), (false, false, true)];
    assert!(flags.take(4).eq(expected));
    assert!(torrent.private());
}

#[test]
fn the_info_hash_is_of_the_bytes_as_they_came() {
    let sloppy = torrent("6:lengthi40000e", "7:privatei01e1:ai1e");
    let torrent = Metainfo::parse(&sloppy).unwrap();
    assert_eq!(torrent.info_bytes()[..], sloppy[7..sloppy.len() - 1]);
    assert!(torrent.info_hashes().verify_v1(torrent.info_bytes()).unwrap());
    assert!(!torrent.info_hashes().verify_v1(b"de").unwrap());
    let again = Metainfo::from_info(torrent.info_bytes().clone()).unwrap();
    assert_eq!(again.info_hashes(), torrent.info_hashes());
    assert_eq!(again.layout(), torrent.layout());
}

#[test]
fn what_stands_around_the_info_is_optional_and_lenient() {
    let with = |outer: &str| {
        let bytes = [b"d4:info", &single()[7..single().len() - 1], outer.as_bytes(), b"e trailing"].concat();
        Metainfo::parse(&bytes).unwrap()
    };
    let torrent = with("8:announce9: udp://a 13:announce-listll5:udp:/i5eelel0:ei7ee");
    assert_eq!(torrent.trackers(), [["udp:/"]]);
    assert_eq!(with("8:announce9: udp://a 13:announce-listllee").trackers(), [["udp://a"]]);
    assert_eq!(with("8:url-list4:http").web_seeds(), ["http"]);
    assert_eq!(with("8:url-listl1:x0:i1e1:ye").web_seeds(), ["x", "y"]);
    assert_eq!(with("9:httpseedsl1:x1:ye").http_seeds(), ["x", "y"]);
    assert_eq!(with("9:httpseeds1:x").http_seeds(), ["x"]);
    let torrent = with("7:comment1:x13:comment.utf-82:é10:created by1:p13:creation datei5e");
    assert_eq!(
        (torrent.comment(), torrent.created_by(), torrent.creation_date()),
        (Some("é"), Some("p"), Some(5))
    );
    assert_eq!(with("7:commenti1e13:creation date1:x8:url-listi1e").comment(), None);
    assert_eq!(with("5:nodesll1:hi6881eel1:hi-1eei5ee").dht_nodes(), [("h".to_owned(), 6881)]);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(error(b"<html>"), MetainfoError::Bencode(BencodeError::Syntax(0)));
    assert_eq!(error(b"le"), MetainfoError::Bencode(BencodeError::NotADictionary));
    assert_eq!(error(b"de"), MetainfoError::Missing("info"));
    assert_eq!(error(b"d4:infoi1ee"), MetainfoError::Missing("info"));
    let cases = [
        ("6:pieces", "6:piecez", "info.pieces"),
        ("4:name", "4:nome", "info.name"),
        ("12:piece length", "12:piece langth", "info.piece length"),
        ("6:length", "6:langth", "info.length"),
    ];
    let text = String::from_utf8(single()).unwrap();
    for (key, other, name) in cases {
        assert_eq!(error(text.replace(key, other).as_bytes()), MetainfoError::Missing(name));
    }
    let files = [
        ("li1ee", "info.files[]"),
        ("ldee", "info.files[].length"),
        ("ld6:lengthi1eee", "info.files[].path"),
    ];
    for (files, name) in files {
        assert_eq!(error(&torrent(&format!("5:files{files}"), "")), MetainfoError::Missing(name));
    }
    let v2 = text.replace("6:pieces60:", "9:file tree0:6:piecez60:");
    assert_eq!(error(v2.as_bytes()), MetainfoError::V2Only);
}

#[test]
fn sizes_that_disagree_are_refused() {
    let count = MetainfoError::HashCount { found: 60, expected: 80 };
    assert_eq!(error(&torrent("6:lengthi60000e", "")), count);
    assert_eq!(error(&torrent("6:lengthi0e", "")), MetainfoError::Empty);
    let negative = MetainfoError::Invalid { key: "info.length", value: -1 };
    assert_eq!(error(&torrent("6:lengthi-1e", "")), negative);
    let text = String::from_utf8(single()).unwrap();
    let with_piece_length = |length: i64| error(text.replace("i16384e", &format!("i{length}e")).as_bytes());
    assert_eq!(with_piece_length(0), MetainfoError::PieceLength(0));
    assert_eq!(with_piece_length((512 << 20) + 1), MetainfoError::PieceLength((512 << 20) + 1));
    assert_eq!(with_piece_length(-1), MetainfoError::Invalid { key: "info.piece length", value: -1 });
    let huge = "5:filesld6:lengthi9223372036854775807e4:pathl1:aeed6:lengthi1e4:pathl1:beee";
    assert_eq!(error(&torrent(huge, "")), MetainfoError::TooLarge);
}

#[test]
fn paths_that_lead_elsewhere_or_clash_are_refused() {
    let with = |paths: [&str; 2]| {
        let [a, b] = paths.map(|path| format!("d6:lengthi20000e4:pathl{path}ee"));
        Metainfo::parse(&torrent(&format!("5:filesl{a}{b}e"), "")).map(|_| ())
    };
    assert!(with(["1:a", "1:b"]).is_ok());
    for wrong in ["2:..", "1:a2:..1:c", "0:", "4:/etc", "1:.", "2:a\0"] {
        let refused = with(["1:b", wrong]).unwrap_err();
        assert!(matches!(refused, MetainfoError::UnsafePath { .. }), "{wrong:?}: {refused}");
        assert_eq!(refused.to_string().lines().count(), 1);
    }
    assert_eq!(with(["1:a", "1:a"]), Err(MetainfoError::DuplicatePath("root/a".into())));
    assert_eq!(with(["1:a1:b", "1:a"]), Err(MetainfoError::FileIsFolder("root/a".into())));
    let dots = String::from_utf8(single()).unwrap().replace("4:root", "2:..");
    assert!(matches!(error(dots.as_bytes()), MetainfoError::UnsafePath { .. }));
}

#[test]
fn a_hostile_file_is_refused_at_once() {
    let deep = [b"d4:info".repeat(10_000_000), b"e".repeat(10_000_000)].concat();
    assert_eq!(error(&deep), MetainfoError::Bencode(BencodeError::TooDeep(100)));
    let wide = [&b"d4:infol"[..], &b"le".repeat(3_000_000), b"ee"].concat();
    assert_eq!(error(&wide), MetainfoError::Bencode(BencodeError::TooManyItems(3_000_000)));
}

#[test]
fn errors_can_be_printed_whatever_the_torrent_holds() {
    let text = String::from_utf8(single()).unwrap();
    let long = format!("\u{1b}[31m/\n{}", "x".repeat(1_000_000));
    let long = error(text.replace("4:root", &format!("{}:{long}", long.len())).as_bytes()).to_string();
    let twice = "5:filesld6:lengthi20000e4:pathl2:\u{1b}\need6:lengthi20000e4:pathl2:\u{1b}\neee";
    let twice = error(&torrent(twice, "")).to_string();
    for message in [long, twice] {
        assert!(message.len() < 300 && !message.contains(char::is_control), "{message:?}");
    }
}

proptest! {
    #[test]
    fn a_damaged_torrent_is_refused_or_sound(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let files = "5:filesld6:lengthi20000e4:pathl1:a1:beed6:lengthi20000e4:pathl1:ceee";
        let mut bytes = torrent(files, "");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(torrent) = Metainfo::parse(bytes) {
                prop_assert_eq!(torrent.layout().geometry().num_pieces() as usize, torrent.hashes().len());
            }
        }
    }
}
