use proptest::prelude::*;

use super::*;

const ROOT: EntryId = EntryTree::ROOT;
const BOGUS: EntryId = EntryId(u32::MAX);

fn sample() -> EntryTree {
    let mut tree = EntryTree::new();
    let messages = tree.dict(ROOT, b"m").unwrap();
    tree.insert_int(messages, b"ut_pex", 1).unwrap();
    tree.insert_bytes(ROOT, b"v", b"Pilotfish").unwrap();
    let list = tree.list(ROOT, b"l").unwrap();
    tree.push_int(list, -5).unwrap();
    tree.push_bytes(list, b"x").unwrap();
    let inner = tree.push_dict(list).unwrap();
    tree.insert_int(inner, b"k", 2).unwrap();
    tree.push_list(list).unwrap();
    tree
}

#[test]
fn a_tree_is_encoded_with_its_keys_in_order() {
    let expected = b"d1:lli-5e1:xd1:ki2eelee1:md6:ut_pexi1ee1:v9:Pilotfishe";
    assert_eq!(sample().encode(ROOT).unwrap(), expected);
    let copy = EntryTree::from_bencode(expected).unwrap();
    assert_eq!(copy.encode(ROOT).unwrap(), expected);
    assert_eq!(
        copy.to_string(),
        "{ 'l': [ -5, 'x', { 'k': 2 }, [  ] ], 'm': { 'ut_pex': 1 }, 'v': 'Pilotfish' }"
    );
}

#[test]
fn writing_to_a_key_keeps_its_id() {
    let mut tree = sample();
    let version = tree.get(ROOT, b"v").unwrap();
    tree.insert_int(ROOT, b"v", 7).unwrap();
    assert_eq!(
        (tree.get(ROOT, b"v"), tree.int(version), tree.bytes(version)),
        (Some(version), Some(7), None)
    );
    let messages = tree.get(ROOT, b"m").unwrap();
    assert_eq!(tree.dict(ROOT, b"m"), Ok(messages));
    assert_eq!((tree.len(messages), tree.kind(messages)), (Some(1), Some(EntryKind::Dict)));
    assert_eq!(tree.list(ROOT, b"m"), Ok(messages));
    assert_eq!((tree.len(messages), tree.kind(messages)), (Some(0), Some(EntryKind::List)));
}

#[test]
fn what_was_removed_leads_nowhere() {
    let mut tree = sample();
    let messages = tree.get(ROOT, b"m").unwrap();
    assert_eq!(tree.remove(ROOT, b"m"), Ok(true));
    assert_eq!(tree.remove(ROOT, b"m"), Ok(false));
    tree.insert_int(messages, b"late", 1).unwrap();
    let keys: Vec<_> = tree.keys(ROOT).unwrap().collect();
    assert_eq!(keys, [b"l", b"v"]);
    tree.clear(ROOT).unwrap();
    assert_eq!(tree.encode(ROOT).unwrap(), b"de");
}

#[test]
fn ids_that_were_made_up_are_answered() {
    let mut tree = sample();
    let before = tree.encode(ROOT);
    assert_eq!(tree.insert_int(BOGUS, b"k", 1), Err(EntryError::NoSuchEntry));
    assert_eq!(tree.push_raw(BOGUS, b"i1e"), Err(EntryError::NoSuchEntry));
    assert_eq!(tree.remove(BOGUS, b"k"), Err(EntryError::NoSuchEntry));
    assert_eq!(tree.clear(BOGUS), Err(EntryError::NoSuchEntry));
    assert_eq!((tree.get(BOGUS, b"k"), tree.kind(BOGUS), tree.encode(BOGUS)), (None, None, None));
    let (list, version) = (tree.get(ROOT, b"l").unwrap(), tree.get(ROOT, b"v").unwrap());
    assert_eq!(tree.insert_int(list, b"k", 1), Err(EntryError::NotADictionary));
    assert_eq!(tree.dict(version, b"k"), Err(EntryError::NotADictionary));
    assert_eq!(tree.push_int(ROOT, 1), Err(EntryError::NotAList));
    assert_eq!(tree.remove(list, b"k"), Err(EntryError::NotADictionary));
    assert_eq!((tree.at(list, 4), tree.at(ROOT, 0), tree.keys(list).is_none()), (None, None, true));
    assert_eq!(tree.encode(ROOT), before);
}

#[test]
fn bencoded_parts_are_checked_and_put_in_order() {
    let mut tree = EntryTree::new();
    tree.insert_raw(ROOT, b"r", b"d1:bi01e1:alee").unwrap();
    let list = tree.list(ROOT, b"s").unwrap();
    tree.push_raw(list, b"4:spam").unwrap();
    assert_eq!(tree.encode(ROOT).unwrap(), b"d1:rd1:ale1:bi1ee1:sl4:spamee");
    let part = tree.get(ROOT, b"r").unwrap();
    assert_eq!(tree.get(part, b"b").and_then(|id| tree.int(id)), Some(1));

    let before = (tree.encode(ROOT), tree.entries.len());
    for wrong in [&b"d1:a"[..], b"i1ei2e", b"", b"d1:ai1e1:ai2ee", b"li1ei18446744073709551615ee"] {
        assert!(tree.insert_raw(ROOT, b"r", wrong).is_err() && tree.push_raw(list, wrong).is_err());
    }
    assert_eq!((tree.encode(ROOT), tree.entries.len()), before);
}

#[test]
fn nesting_is_bounded_however_it_is_made() {
    let mut tree = EntryTree::new();
    let mut innermost = ROOT;
    let levels = (1..100).find(|_| match tree.dict(innermost, b"d") {
        Ok(inner) => {
            innermost = inner;
            false
        }
        Err(error) => {
            assert_eq!(error, EntryError::TooDeep);
            true
        }
    });
    assert_eq!(levels, Some(LIMITS.depth()));
    assert!(tree.insert_raw(innermost, b"d", b"le").is_err());
    assert!(tree.insert_raw(innermost, b"d", b"i1e").is_ok());
    assert!(EntryTree::from_bencode(&tree.encode(ROOT).unwrap()).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_done_the_tree_stays_encodable(
        steps in prop::collection::vec((0_u8..12, 0_u32..20, prop::sample::select(vec!["a", "b", "c"])), 0..80),
    ) {
        let mut tree = EntryTree::new();
        for (step, id, key) in steps {
            let (id, key) = (EntryId(id), key.as_bytes());
            let _ = match step {
                0 => tree.insert_int(id, key, 1).is_ok(),
                1 => tree.insert_bytes(id, key, b"x").is_ok(),
                2 => tree.insert_raw(id, key, b"d1:xl1:yee").is_ok(),
                3 | 4 => tree.dict(id, key).is_ok(),
                5 | 6 => tree.list(id, key).is_ok(),
                7 => tree.push_dict(id).is_ok(),
                8 => tree.push_list(id).is_ok(),
                9 => tree.push_raw(id, b"lleld1:xi1eee").is_ok(),
                10 => tree.remove(id, key).is_ok(),
                _ => tree.clear(id).is_ok(),
            };
        }
        let encoded = tree.encode(ROOT).unwrap();
        let copy = EntryTree::from_bencode(&encoded).unwrap();
        prop_assert_eq!(copy.value(ROOT), tree.value(ROOT));
    }
}
