#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use super::super::column::put_varint;
use super::super::rows::Step;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Steps of a chunk, at most.
const CHUNK: usize = 1 << 15;

/// Joins columns, each of which has steps of IPv4 and of IPv6.
pub(in super::super) fn join(columns: &[[Vec<Step>; 2]]) -> Joined {
    let mut known = HashMap::new();
    let mut stream = |family: usize| {
        let columns: Vec<&[Step]> = columns.iter().map(|column| &*column[family]).collect();
        Packed::pack_small(&stream(&columns, &mut known), 22, WINDOW_BITS).unwrap()
    };
    Joined {
        v4: stream(0),
        v6: stream(1),
    }
}

fn stream(columns: &[&[Step]], known: &mut HashMap<Vec<u32>, usize>) -> Vec<u8> {
    let steps = together(columns);
    let mut raw = u32::try_from(steps.len()).unwrap().to_le_bytes().to_vec();
    raw.push(u8::try_from(columns.len()).unwrap());
    let mut before = 0;
    for chunk in steps.chunks(CHUNK) {
        let mut zeros = Vec::new();
        let mut parts = vec![Vec::new(); PARTS + columns.len()];
        for (start, values) in chunk {
            let distance = start - before;
            let shift = distance
                .checked_ilog2()
                .map_or(0, |_| distance.trailing_zeros());
            before = *start;
            zeros.push(u8::try_from(shift).unwrap());
            put_varint(&mut parts[0], distance >> shift);
            if let Some(number) = known.get(values) {
                put_varint(&mut parts[1], *number as u128 + 1);
                continue;
            }
            known.insert(values.clone(), known.len());
            put_varint(&mut parts[1], 0);
            for (part, value) in parts[PARTS..].iter_mut().zip(values) {
                put_varint(part, (*value).into());
            }
        }
        for length in std::iter::once(zeros.len()).chain(parts.iter().map(Vec::len)) {
            raw.extend(u32::try_from(length).unwrap().to_le_bytes());
        }
        raw.extend(zeros);
        raw.extend(parts.concat());
    }
    raw
}

/// What all columns say, from every start of any.
fn together(columns: &[&[Step]]) -> Vec<(u128, Vec<u32>)> {
    let mut starts: Vec<u128> = columns
        .iter()
        .flat_map(|steps| steps.iter().map(|step| step.start))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let mut rest = columns.to_vec();
    let mut now = vec![0; columns.len()];
    let at = |start| {
        for (now, steps) in now.iter_mut().zip(&mut rest) {
            if let Some((step, behind)) =
                steps.split_first().filter(|(step, _)| step.start == start)
            {
                (*now, *steps) = (step.value, behind);
            }
        }
        (start, now.clone())
    };
    starts.into_iter().map(at).collect()
}

proptest! {
    #[test]
    fn each_column_comes_out_as_it_went_in(
        rows in proptest::collection::vec((0usize..3, any::<bool>(), any::<u32>(), 0u8..90, 0u32..4), 0..60)
    ) {
        let mut columns: [[Steps; 2]; 3] = Default::default();
        let mut rows = rows;
        let place = |row: &(usize, bool, u32, u8, u32)| if row.1 { u128::from(row.2) << row.3 } else { row.2.into() };
        rows.sort_by_key(place);
        for row in &rows {
            columns[row.0][usize::from(row.1)].push(place(row), row.4);
        }
        let columns = columns.map(|column| column.map(|steps| steps.0));
        let joined = Arc::new(join(&columns));
        for (number, column) in columns.iter().enumerate() {
            let part = Part { joined: Arc::clone(&joined), column: number, steps: 0 };
            for (family, told) in [Family::V4, Family::V6].into_iter().zip(column) {
                // Silence at the beginning is told by the first step of another column.
                let mut expected = Steps::default();
                if joined.steps(family).unwrap().advance().unwrap() {
                    let first = columns.iter().filter_map(|column| column[usize::from(family == Family::V6)].first());
                    expected.push(first.map(|step| step.start).min().unwrap(), 0);
                }
                told.iter().for_each(|step| expected.push(step.start, step.value));
                prop_assert_eq!(part.alone(family).unwrap(), encode(&expected.0));
            }
        }
    }

    #[test]
    fn damaged_streams_never_panic_and_never_leave_the_family(raw in proptest::collection::vec(any::<u8>(), 0..300), lengths in proptest::collection::vec(0u32..40, 6)) {
        let mut framed = lengths.iter().take(1).flat_map(|steps| steps.to_le_bytes()).collect::<Vec<u8>>();
        framed.push(3);
        framed.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
        framed.extend(&raw);
        for raw in [raw, framed] {
            let packed = Packed::pack_small(&raw, 1, WINDOW_BITS).unwrap();
            let joined = Joined { v4: packed.clone(), v6: packed };
            let Ok(mut steps) = joined.steps(Family::V4) else { continue };
            while let Ok(true) = steps.advance() {
                prop_assert!(steps.start() <= u32::MAX.into());
            }
        }
    }
}
