//! Files of address data, operators and groups: every reader is total, and what it reads can be compiled and asked.

use cordon::jurisdiction::{Data, Format, Groups, Label, Operators, Source};

pub(crate) fn run(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    let format = match kind % 9 {
        0 => Some(Format::Location),
        1 => Some(Format::Registration),
        2 => Some(Format::Origin),
        3 => Some(Format::Iptoasn),
        4 => Some(Format::Anycast),
        5 => Some(Format::Geofeed),
        6 => None,
        7 => return text(bytes),
        _ => return sealed(bytes),
    };
    let label = Label {
        name: "fuzz".into(),
        licence: String::new(),
        attribution: String::new(),
        built: 1_781_654_400,
    };
    if let Ok(source) = Source::read(&[bytes], format, &label) {
        ask(source);
    }
}

/// Files of operators and groups.
fn text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Operators::read(&[("operators.toml", text)]);
        let _ = Groups::read(&[("groups.toml", text)]);
    }
}

/// A compact file whose digest is right, so that the bytes behind it are reached.
fn sealed(bytes: &[u8]) {
    let mut file = b"CORDONDB\x01".to_vec();
    file.extend(cordon::jurisdiction::sha256(bytes));
    file.extend(bytes);
    if let Ok(source) = Source::read_compact(&file) {
        ask(source);
    }
}

fn ask(source: Source) {
    // Names are unpacked when they are asked for, so damage in them shows only here.
    let Ok(compact) = source.write_compact(1) else {
        return;
    };
    let again = Source::read_compact(&compact).expect("what was written can be read");
    assert_eq!(again.facts(), source.facts());
    let Ok(data) = Data::compile(vec![source], Operators::default()) else {
        return;
    };
    for address in [
        "0.0.0.1",
        "9.9.9.9",
        "255.255.255.255",
        "2a00::1",
        "2001:0:102:408:0:ffff:f7f7:f7f7",
    ] {
        let facts = data.lookup(address.parse().expect("an address"));
        assert!(facts.special.is_none() || facts.countries().is_empty());
        data.answers(facts.looked_up_as);
    }
}
