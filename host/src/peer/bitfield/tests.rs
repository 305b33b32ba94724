use proptest::prelude::*;

use super::*;

#[test]
fn the_first_piece_is_the_highest_bit() {
    let mut bits = Bitfield::new(10);
    assert!(bits.set(0) && bits.set(9) && !bits.set(9));
    assert_eq!(bits.as_bytes(), [0x80, 0x40]);
    assert!(bits.clear(0) && !bits.clear(0));
    assert_eq!(bits.as_bytes(), [0x00, 0x40]);
}

#[test]
fn a_payload_of_the_wrong_length_is_refused_and_spare_bits_are_cleared() {
    assert_eq!(Bitfield::from_wire(&[0xff], 9), None);
    assert_eq!(Bitfield::from_wire(&[0xff; 3], 9), None);
    let bits = Bitfield::from_wire(&[0xff, 0xff], 9).unwrap();
    assert_eq!((bits.as_bytes(), bits.count(), bits.is_full()), (&[0xff, 0x80][..], 9, true));
    assert_eq!(bits, Bitfield::full(9));
}

#[test]
fn what_came_before_the_metadata_fits_once_the_size_is_known() {
    let mut bits = Bitfield::from_wire_unsized(&[0xff, 0xf0]);
    assert_eq!((bits.len(), bits.count()), (16, 12));
    bits.resize(12);
    assert!(bits.is_full());
    bits.resize(200);
    assert_eq!((bits.count(), bits.is_full()), (12, false));
}

#[test]
fn out_of_range_is_zero_and_stays_so() {
    let mut bits = Bitfield::full(64);
    assert!(!bits.get(64) && !bits.set(64) && !bits.clear(u32::MAX));
    assert_eq!(bits.count(), 64);
    let mut nothing = Bitfield::new(0);
    assert!(!nothing.set(0) && nothing.is_empty() && !nothing.is_full() && nothing.as_bytes().is_empty());
    nothing.resize(1);
    assert!(nothing.set(0) && nothing.is_full());
}

proptest! {
    #[test]
    fn it_behaves_like_a_list_of_flags(
        start in proptest::collection::vec(any::<bool>(), 0..300),
        steps in proptest::collection::vec((0_u8..3, 0_u32..320), 0..60),
    ) {
        let mut model = start;
        let mut bits = Bitfield::new(model.len() as u32);
        for (index, _) in model.iter().enumerate().filter(|(_, one)| **one) {
            bits.set(index as u32);
        }
        for (step, at) in steps {
            match (step, model.get_mut(at as usize)) {
                (0, Some(flag)) => prop_assert_eq!(bits.set(at), !std::mem::replace(flag, true)),
                (1, Some(flag)) => prop_assert_eq!(bits.clear(at), std::mem::replace(flag, false)),
                (2, _) => {
                    model.resize(at as usize, false);
                    bits.resize(at);
                }
                _ => prop_assert!(!bits.set(at) && !bits.clear(at)),
            }
        }
        let ones: Vec<u32> = (0..model.len() as u32).filter(|&index| model[index as usize]).collect();
        prop_assert_eq!(bits.count() as usize, ones.len());
        prop_assert_eq!(bits.iter_ones().collect::<Vec<_>>(), ones);
        let wire = Bitfield::from_wire(bits.as_bytes(), bits.len()).unwrap();
        prop_assert_eq!(wire, bits);
    }

    #[test]
    fn intersects_looks_at_every_bit(len in 1_u32..300, a in 0_u32..300, b in 0_u32..300) {
        let (mut one, mut other) = (Bitfield::new(len), Bitfield::new(300));
        one.set(a);
        other.set(b);
        prop_assert_eq!(one.intersects(&other), a == b && a < len);
    }
}
