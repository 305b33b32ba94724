use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

fn repaired(bytes: &[u8]) -> Result<Vec<u8>, BencodeError> {
    canonical(bytes, Limits::MESSAGE).map(|(value, _)| value.into_owned())
}

#[test]
fn canonical_input_is_borrowed() {
    let (value, length) = canonical(b"d1:ai-1e1:bl0:ee and more", Limits::MESSAGE).unwrap();
    assert!(matches!(value, Cow::Borrowed(b"d1:ai-1e1:bl0:ee")));
    assert_eq!(length, 16);
}

#[test]
fn what_has_only_one_meaning_is_repaired() {
    assert_eq!(repaired(b"d1:bi1e1:ai2ee").unwrap(), b"d1:ai2e1:bi1ee");
    assert_eq!(repaired(b"li007ei-0ei00ei-05ee").unwrap(), b"li7ei0ei0ei-5ee");
    assert_eq!(repaired(b"003:abc").unwrap(), b"3:abc");
    assert_eq!(repaired(b"ld1:bd1:yle1:xdee1:a0:ee").unwrap(), b"ld1:a0:1:bd1:xde1:yleeee");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let twice = BencodeError::DuplicateKey("a".into());
    assert_eq!(repaired(b"d1:ai1e1:ai2ee"), Err(twice.clone()));
    assert_eq!(repaired(b"d1:ai1e1:b0:1:ai2ee"), Err(twice));
    for bytes in [&b""[..], b"i1", b"5:abc", b"99999999999999999999999:a", b"d", b"l", b"d1:a", b"i", b"12"] {
        assert_eq!(repaired(bytes), Err(BencodeError::Truncated), "{:?}", String::from_utf8_lossy(bytes));
    }
    let wrong =
        [("x", 0), ("e", 0), ("ie", 1), ("i-e", 2), ("i+1e", 1), ("i1x", 2), ("di1ei1ee", 1), ("d1:ae", 4)];
    for (bytes, offset) in wrong {
        assert_eq!(repaired(bytes.as_bytes()), Err(BencodeError::Syntax(offset)), "{bytes}");
    }
    assert_eq!(repaired(b"-1:a"), Err(BencodeError::Syntax(0)));
}

#[test]
fn structure_is_bounded() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert!(canonical(&nested(5), Limits::new(5, 100)).is_ok());
    assert_eq!(canonical(&nested(6), Limits::new(5, 100)), Err(BencodeError::TooDeep(5)));
    assert_eq!(canonical(&vec![b'd'; 100_000_000], Limits::TORRENT), Err(BencodeError::Syntax(1)));
    assert_eq!(canonical(&vec![b'l'; 100_000_000], Limits::TORRENT), Err(BencodeError::TooDeep(100)));
    assert_eq!(
        canonical(&nested(100_000), Limits::new(1_000_000, 1_000_000)),
        Err(BencodeError::TooDeep(256))
    );
    let wide = [&b"l"[..], &b"0:".repeat(99), b"e"].concat();
    assert!(canonical(&wide, Limits::new(5, 100)).is_ok());
    assert_eq!(canonical(&wide, Limits::new(5, 99)), Err(BencodeError::TooManyItems(99)));
}

#[test]
fn a_document_keeps_the_bytes_it_came_from() {
    let bytes = b"d4:spam1:x4:infod1:bi01e1:ai2eeetrailer";
    let document = Document::parse(bytes, Limits::TORRENT).unwrap();
    assert_eq!(document.raw(b"info"), Some(&b"d1:bi01e1:ai2ee"[..]));
    assert_eq!(document.raw(b"a"), None);
    assert_eq!(document.rest(), b"trailer");
    let dict = document.dict().unwrap();
    let info = dict.dict(b"info").unwrap();
    assert_eq!((info.int(b"a"), info.int(b"b"), info.int(b"c")), (Some(2), Some(1), None));
    assert_eq!((dict.str(b"spam"), dict.int(b"spam"), dict.list(b"spam")), (Some("x"), None, None));
}

#[test]
fn numbers_may_be_larger_than_ours() {
    let value =
        |bytes: &[u8]| Document::parse(bytes, Limits::MESSAGE).unwrap().value().map(|value| value.int());
    assert_eq!(value(b"i-9223372036854775808e"), Ok(Some(i64::MIN)));
    assert_eq!(value(b"i18446744073709551615e"), Ok(None));
    let digits = "9".repeat(40);
    assert_eq!(value(format!("i{digits}e").as_bytes()), Err(BencodeError::IntegerTooLarge(40)));
}

#[test]
fn only_a_dictionary_is_a_dictionary() {
    let document = Document::parse(b"le", Limits::MESSAGE).unwrap();
    assert_eq!(document.dict(), Err(BencodeError::NotADictionary));
}

#[test]
fn values_print_as_libtorrent_prints_entries() {
    let bytes = b"d1:ai1e1:bl1:x2:\x00\x01e1:cd1:d0:ee";
    let document = Document::parse(bytes, Limits::MESSAGE).unwrap();
    let value = document.value().unwrap();
    assert_eq!(value.to_string(), "{ 'a': 1, 'b': [ 'x', '0001' ], 'c': { 'd': '' } }");
    let lines = "{\n 'a': 1,\n 'b': [\n   'x',\n   '0001' ],\n 'c': {\n   'd': '' } }";
    assert_eq!(format!("{value:#}"), lines);
}

#[test]
fn of_a_key_given_twice_the_last_value_counts() {
    let pairs =
        [(&b"b"[..], Value::from(1)), (b"a", Value::from("x")), (b"b", Value::from(2)), (b"b", 3.into())];
    assert_eq!(Value::Dict(pairs.into_iter().collect()).encode(), b"d1:a1:x1:bi3ee");
}

/// A tree that owns its strings, to borrow [`Value`]s from.
#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Dict(Vec<(Vec<u8>, Self)>),
}

impl Tree {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(int) => Value::from(*int),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::List(list) => Value::List(list.iter().map(Self::value).collect()),
            Self::Dict(pairs) => {
                Value::Dict(pairs.iter().map(|(key, tree)| (&key[..], tree.value())).collect())
            }
        }
    }

    /// Encodes with keys as they stand and every number padded: valid for everybody but bendy.
    fn sloppy(&self, out: &mut Vec<u8>) {
        let string = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend(format!("0{}:", bytes.len()).bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Int(int) if *int < 0 => out.extend(format!("i-00{}e", int.unsigned_abs()).bytes()),
            Self::Int(int) => out.extend(format!("i00{int}e").bytes()),
            Self::Bytes(bytes) => string(out, bytes),
            Self::List(list) => {
                out.push(b'l');
                list.iter().for_each(|tree| tree.sloppy(out));
                out.push(b'e');
            }
            Self::Dict(pairs) => {
                out.push(b'd');
                for (key, tree) in pairs {
                    string(out, key);
                    tree.sloppy(out);
                }
                out.push(b'e');
            }
        }
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..6);
    let leaf = prop_oneof![any::<i64>().prop_map(Tree::Int), bytes().prop_map(Tree::Bytes)];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let pairs = prop::collection::hash_map(bytes(), inner.clone(), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Tree::List),
            pairs.prop_map(|pairs| Tree::Dict(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_round_trip(tree in any_tree()) {
        let value = tree.value();
        let encoded = value.encode();
        let document = Document::parse(&encoded, Limits::MESSAGE).unwrap();
        prop_assert!(matches!(document.canonical, Cow::Borrowed(_)));
        prop_assert_eq!(document.value().unwrap(), value);
    }

    #[test]
    fn sloppy_encodings_mean_the_same(tree in any_tree()) {
        let mut sloppy = Vec::new();
        tree.sloppy(&mut sloppy);
        prop_assert_eq!(repaired(&sloppy).unwrap(), tree.value().encode());
    }

    #[test]
    fn whatever_is_accepted_can_be_decoded(tree in any_tree(), flips in prop::collection::vec(any::<(usize, u8)>(), 0..4)) {
        let mut bytes = tree.value().encode();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(document) = Document::parse(&bytes, Limits::MESSAGE) {
            match document.value() {
                Ok(value) => prop_assert_eq!(value.encode(), document.canonical.into_owned()),
                Err(error) => prop_assert!(matches!(error, BencodeError::IntegerTooLarge(_)), "{}", error),
            }
        }
    }

    #[test]
    fn a_cut_document_is_refused(tree in any_tree(), cut: prop::sample::Index) {
        let bytes = tree.value().encode();
        prop_assert_eq!(repaired(&bytes[..cut.index(bytes.len())]), Err(BencodeError::Truncated));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(prop::sample::select(&b"dlie0123:-x"[..]), 0..60)) {
        if let Ok(document) = Document::parse(&bytes, Limits::MESSAGE) {
            let _ = document.value();
            let _ = document.raw(b"x");
        }
    }
}
