use super::*;

fn family(value: &str, kind: Kind) -> BTreeMap<Vec<u8>, Form> {
    let secret = Secret::new("x", value, kind).unwrap();
    let mut family = Family::default();
    family.add(0, &secret);
    family.forms
}

#[test]
fn a_number_is_searched_as_text_and_as_integers() {
    let forms = family("305419896", Kind::Guess); // 0x12345678
    for (pattern, encoding) in [
        (&b"305419896"[..], "plain"),
        (&[0x12, 0x34, 0x56, 0x78], "u32 big-endian"),
        (&[0x78, 0x56, 0x34, 0x12], "u32 little-endian"),
        (&[0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78], "u64 big-endian"),
        (&[0xf8, 0xac, 0xd1, 0x91, 0x01], "varint"),
        (&[0x30, 0x54, 0x19, 0x89], "BCD"),
        (&[0x50, 0x14, 0x89, 0x69], "swapped BCD"),
        (b"333035343139383936", "hex"),
        (b"33:30:35:34:31:39:38:39:36", "hex"),
        (b"MzA1NDE5ODk2", "base64"),
        (b"3\x000\x005\x004\x001\x009\x008\x009\x006\x00", "UTF-16LE"),
    ] {
        assert_eq!(
            forms.get(pattern).map(|form| form.encoding),
            Some(encoding),
            "{pattern:x?}"
        );
    }
}

#[test]
fn short_binary_patterns_are_marked_and_small_integers_left_out() {
    let forms = family("305419896", Kind::Guess);
    assert!(forms[&[0x12, 0x34, 0x56, 0x78][..]].fragile);
    assert!(!forms[&b"305419896"[..]].fragile);
    let small = family("65536", Kind::Guess);
    assert!(!small.contains_key(&[0, 1, 0, 0][..]));
    assert!(small.keys().all(|pattern| pattern.len() >= SHORTEST));
}

#[test]
fn base64_is_found_at_all_three_alignments() {
    let value = b"alice@example.com";
    for before in 0..6 {
        for after in 0..4 {
            let mut text = vec![b'#'; before];
            text.extend(value);
            text.extend(vec![b'?'; after]);
            let encoded = BASE64.encode(&text);
            let pattern = aligned_base64(value, before % 3, &BASE64);
            assert!(pattern.len() >= 21);
            let at = encoded
                .as_bytes()
                .windows(pattern.len())
                .any(|window| window == pattern);
            assert!(at, "{before} before, {after} after");
        }
    }
}

#[test]
fn a_hardware_address_is_searched_raw_reversed_expanded_and_dotted() {
    let forms = family("3C-22-FB-00-00-01", Kind::Guess);
    for pattern in [
        &[0x3c, 0x22, 0xfb, 0, 0, 1][..],
        &[1, 0, 0, 0xfb, 0x22, 0x3c],
        &[0x3e, 0x22, 0xfb, 0xff, 0xfe, 0, 0, 1],
        b"3c:22:fb:00:00:01",
        b"3C-22-FB-00-00-01",
        b"3c22fb000001",
        b"3c22.fb00.0001",
    ] {
        assert!(forms.contains_key(pattern), "{pattern:x?}");
    }
}

#[test]
fn a_telephone_number_is_found_without_its_country_code() {
    let forms = family("+49 170 1234567", Kind::Guess);
    for pattern in [
        "491701234567",
        "1701234567",
        "+49 170 1234567",
        "%2B49%20170%201234567",
    ] {
        assert!(forms.contains_key(pattern.as_bytes()), "{pattern}");
    }
}

#[test]
fn a_uuid_is_searched_raw_in_both_byte_orders() {
    let forms = family("00112233-4455-6677-8899-aabbccddeeff", Kind::Guess);
    let raw: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
    assert_eq!(forms[&raw].encoding, "raw bytes");
    assert!(forms.contains_key(&b"00112233445566778899AABBCCDDEEFF"[..]));
    let guid = [&[0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66], &raw[8..]].concat();
    assert_eq!(forms[&guid].encoding, "raw GUID");
}

#[test]
fn digests_of_the_value_and_of_its_lower_case_are_searched() {
    let forms = family("Alice", Kind::Guess);
    // As md5sum, sha1sum and sha256sum print them for `alice`.
    for pattern in [
        "6384e2b2184bcbf58eccf10ca7a6563c",
        "522b276a356bdf39013dfabea2cd43e141ecc9e8",
        "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90",
        "2BD806C97F0E00AF1A1FC3328FA763A9269723C8DB8FAC4F93AF71DB186D6E90",
    ] {
        assert_eq!(
            forms.get(pattern.as_bytes()).map(|form| form.certainty),
            Some(Certainty::Certain),
            "{pattern}"
        );
    }
    assert_eq!(
        forms[&b"6384e2b2184bcbf5"[..]].certainty,
        Certainty::Suspected
    );
}

#[test]
fn text_is_escaped_the_usual_ways() {
    let forms = family("Zoë=1 a/b", Kind::Text);
    for pattern in [
        &b"Zo%C3%AB%3D1%20a%2Fb"[..],
        b"Zo%c3%ab%3d1%20a%2fb",
        b"Zo%25C3%25AB%253D1%2520a%252Fb",
        b"Zo=C3=AB=3D1 a/b",
        "ZOË=1 A/B".as_bytes(),
    ] {
        assert!(
            forms.contains_key(pattern),
            "{}",
            String::from_utf8_lossy(pattern)
        );
    }
}
