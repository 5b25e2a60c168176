//! What a look-up of all facts costs, beside what `maxminddb` takes to decode the country alone, borrowed, from an mmdb
//! file of the same locations; and what loading the embedded data takes. Addresses are random ones of ranges that some
//! source knows, one an iteration.
//!
//! At the end stands how much memory a process takes that loads the embedded data and does nothing else: the most that
//! was resident at any time (`VmHWM`), the pages of the program that it read among them, and the same of a process
//! that loads nothing. The limits: 25 ns for IPv4, 80 ns for IPv6, 100 ms and 16 MB for loading.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot set up must stop"
)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "memory is that of a process of its own, and told by the kernel in a file"
)]

use cordon::jurisdiction::{Data, write_mmdb};
use divan::{Bencher, black_box};
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::OnceLock;

fn main() {
    match std::env::var(CHILD).as_deref() {
        Ok(LOADS) => {
            black_box(&data());
            println!("{}", most_resident());
        }
        Ok(_) => println!("{}", most_resident()),
        Err(_) => {
            divan::main();
            for what in [LOADS, "nothing"] {
                println!("VmHWM of a process that loads {what}: {}", child(what));
            }
        }
    }
}

/// Set in processes that only measure their own memory.
const CHILD: &str = "CORDON_BENCH_CHILD";

const LOADS: &str = "the embedded data";

/// What a process of its own prints.
fn child(what: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .env(CHILD, what)
        .output();
    String::from_utf8(output.unwrap().stdout)
        .unwrap()
        .trim()
        .into()
}

/// The most memory of this process that was resident at any time.
fn most_resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap().trim().into()
}

/// A sample takes each once, so that what a look-up reads has been read before, if not of late.
const ADDRESSES: u32 = 10_000;

fn data() -> &'static Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    DATA.get_or_init(|| Data::embedded().unwrap())
}

/// An mmdb file with the same locations.
fn mmdb() -> &'static maxminddb::Reader<Vec<u8>> {
    static MMDB: OnceLock<maxminddb::Reader<Vec<u8>>> = OnceLock::new();
    MMDB.get_or_init(|| {
        let sources = Data::embedded_sources().unwrap();
        maxminddb::Reader::from_source(write_mmdb(&sources[0]).unwrap()).unwrap()
    })
}

/// xorshift64*: the same addresses in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn known(address: &IpAddr) -> bool {
    data().lookup(*address).country.is_some() && mmdb().lookup(*address).unwrap().has_data()
}

fn random_v4() -> Vec<IpAddr> {
    let mut random = Random(88_172_645_463_325_252);
    let any = std::iter::repeat_with(|| IpAddr::V4(((random.next() >> 32) as u32).into()));
    any.filter(known).take(ADDRESSES as usize).collect()
}

/// Random IPv6 addresses would hardly ever be in use, so they are drawn from the known networks, each equally often.
fn random_v6() -> Vec<IpAddr> {
    let mut networks = Vec::new();
    for found in mmdb()
        .networks(maxminddb::WithinOptions::default())
        .unwrap()
    {
        let network = found.unwrap().network().unwrap();
        if let IpAddr::V6(address) = network.ip() {
            networks.push((address.to_bits(), network.prefix()));
        }
    }
    let mut random = Random(362_436_069_881_234_567);
    let any = std::iter::repeat_with(|| {
        let (base, length) = networks[random.next() as usize % networks.len()];
        let host =
            (u128::from(random.next()) << 64 | u128::from(random.next())) >> (length.min(127));
        IpAddr::V6((base | host).into())
    });
    any.filter(known).take(ADDRESSES as usize).collect()
}

/// Addresses of which few are asked for often, as traffic does.
fn zipf(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut sum = 0.0;
    let weights: Vec<f64> = (1..=addresses.len())
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut random = Random(521_288_629_546_311);
    let mut draw = || {
        let at = (random.next() >> 11) as f64 / (1u64 << 53) as f64 * sum;
        addresses[weights
            .partition_point(|weight| *weight < at)
            .min(addresses.len() - 1)]
    };
    (0..ADDRESSES).map(|_| draw()).collect()
}

/// One address an iteration, in the order of the list, again and again. The whole answer is made in memory, but not
/// moved once more for the bench.
fn each<T>(bencher: Bencher<'_, '_>, addresses: &[IpAddr], answer: impl Fn(IpAddr) -> T) {
    let next = Cell::new(0);
    bencher.bench_local(|| {
        let at = next.get();
        next.set(if at + 1 < addresses.len() { at + 1 } else { 0 });
        black_box(&answer(*black_box(&addresses[at])));
    });
}

fn lookups(bencher: Bencher<'_, '_>, addresses: &[IpAddr]) {
    let data = data();
    each(bencher, addresses, |address| data.lookup(address));
}

#[derive(serde::Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Country<'a>,
}

#[derive(serde::Deserialize)]
struct Country<'a> {
    iso_code: &'a str,
}

fn decodes(bencher: Bencher<'_, '_>, addresses: &[IpAddr]) {
    let mmdb = mmdb();
    each(bencher, addresses, |address| {
        let record: Option<Record<'_>> = mmdb.lookup(address).unwrap().decode().unwrap();
        record.map(|record| record.country.iso_code)
    });
}

#[divan::bench(sample_size = ADDRESSES)]
fn lookup_v4_random(bencher: Bencher<'_, '_>) {
    lookups(bencher, &random_v4());
}

#[divan::bench(sample_size = ADDRESSES)]
fn lookup_v4_zipf(bencher: Bencher<'_, '_>) {
    lookups(bencher, &zipf(&random_v4()));
}

#[divan::bench(sample_size = ADDRESSES)]
fn lookup_v6_random(bencher: Bencher<'_, '_>) {
    lookups(bencher, &random_v6());
}

#[divan::bench(sample_size = ADDRESSES)]
fn lookup_v6_zipf(bencher: Bencher<'_, '_>) {
    lookups(bencher, &zipf(&random_v6()));
}

#[divan::bench(sample_size = ADDRESSES)]
fn maxminddb_v4_random(bencher: Bencher<'_, '_>) {
    decodes(bencher, &random_v4());
}

#[divan::bench(sample_size = ADDRESSES)]
fn maxminddb_v6_random(bencher: Bencher<'_, '_>) {
    decodes(bencher, &random_v6());
}

#[divan::bench]
fn operator_of_name(bencher: Bencher<'_, '_>) {
    let names = [
        "r1.edge.agora.io",
        "www.example.org",
        "a.b.c.d.e.f.example.net",
        "alb.aliyuncs.com",
    ];
    let (data, next) = (data(), Cell::new(0));
    bencher.bench_local(|| {
        next.set((next.get() + 1) % names.len());
        data.operator_of_name(black_box(names[next.get()]))
    });
}

#[divan::bench(sample_count = 20)]
fn load_embedded() -> Data {
    Data::embedded().unwrap()
}
