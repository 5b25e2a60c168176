//! Reading and editing one packet.
use crate::samples;
use cordon::packet::edit::{self, Segmenting};
use cordon::packet::{Checksum, Parsed, Tcp};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn read(bencher: Bencher<'_, '_>, packet: &[u8], checksum: Checksum) {
    assert!(Parsed::read(packet, checksum).is_ok());
    bencher
        .counter(BytesCount::of_slice(packet))
        .bench(|| Parsed::read(black_box(packet), black_box(checksum)));
}

#[divan::bench(args = [false, true])]
fn read_udp_trusted(bencher: Bencher<'_, '_>, v6: bool) {
    read(bencher, &samples::udp(v6, &[7; 1200]), Checksum::Trust);
}

#[divan::bench(args = [false, true])]
fn read_udp_verified_100_bytes(bencher: Bencher<'_, '_>, v6: bool) {
    read(bencher, &samples::udp(v6, &[7; 100]), Checksum::Verify);
}

#[divan::bench(args = [false, true])]
fn read_tcp_verified_1460_bytes(bencher: Bencher<'_, '_>, v6: bool) {
    let packet = samples::tcp(v6, Tcp::ACK, &[], &[7; 1460]);
    read(bencher, &packet, Checksum::Verify);
}

#[divan::bench(args = [false, true])]
fn read_tcp_verified_64_kib(bencher: Bencher<'_, '_>, v6: bool) {
    let packet = samples::tcp(v6, Tcp::ACK, &[], &vec![7; 65_000]);
    read(bencher, &packet, Checksum::Verify);
}

#[divan::bench]
fn read_extension_headers(bencher: Bencher<'_, '_>) {
    let pad: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    let packet = samples::with_extensions(&samples::udp(true, &[7; 100]), &[(0, pad), (60, pad)]);
    read(bencher, &packet, Checksum::Trust);
}

/// With offload and without; a segment of the link's size without, a super-segment with.
#[divan::bench(args = [true, false])]
fn finish_segment(bencher: Bencher<'_, '_>, offload: bool) {
    let how = Segmenting {
        link_mtu: 1500,
        flow_mss: 1460,
        offload,
    };
    let data = if offload { 58_400 } else { 1460 };
    let mut packet = samples::tcp(false, Tcp::ACK, &[], &vec![7; data]);
    bencher
        .counter(BytesCount::of_slice(&packet))
        .bench_local(|| edit::finish_segment(black_box(&mut packet), black_box(&how)));
}

#[divan::bench(args = [false, true])]
fn restore_hop_limit(bencher: Bencher<'_, '_>, v6: bool) {
    let packet = samples::udp(v6, &[7; 20]);
    bencher.bench_local(|| {
        let mut header = *packet.first_chunk::<48>().unwrap_or(&[0; 48]);
        edit::restore_hop_limit(black_box(&mut header));
        header
    });
}
