//! What every test here needs.
use cordon::kernel::namespace::lab::Lab;
use cordon::link::tun;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::{env, fs, thread};

/// Skips these tests, on machines that cannot run them.
const SKIP: &str = "CORDON_SKIP_NETNS";
const HINT: &str = " (set CORDON_SKIP_NETNS=1 to skip the tests that need namespaces and TUN)";

/// The program whose `main` knows how to be a helper.
pub(crate) fn cordon() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_cordon"))
}

/// The client of the end-to-end tests: an example of this package, which `cargo test` builds.
pub(crate) fn peer() -> PathBuf {
    let peer = cordon().with_file_name("examples").join("peer");
    assert!(
        peer.exists(),
        "{} is not built: cargo build --example peer",
        peer.display()
    );
    peer
}

/// Runs the body of the test that calls this in a lab of its own: the test's program starts again in there, for this
/// test only.
pub(crate) fn in_lab(body: impl FnOnce(&Lab)) {
    if let Some(lab) = Lab::here() {
        return body(&lab);
    }
    here(|| match run(&test_name()) {
        Ok(0) => {}
        Ok(code) => panic!("the test failed in its lab (exit status {code}); see above"),
        Err(error) => panic!("{error:#}{HINT}"),
    });
}

/// Runs the body of a test that makes namespaces by itself.
pub(crate) fn here(body: impl FnOnce()) {
    if env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("skipped: {SKIP} is set");
        return;
    }
    if let Err(error) = tun::available() {
        panic!("{error:#}{HINT}");
    }
    body();
}

fn run(test: &str) -> anyhow::Result<u8> {
    // What the test says in there is shown here: so the harness keeps it back unless the test fails.
    let said = tempfile::NamedTempFile::new()?;
    let own = env::current_exe()?;
    let arguments = [
        OsStr::new("-c"),
        OsStr::new(r#"out=$1; shift; exec "$0" "$@" >"$out" 2>&1"#),
        own.as_os_str(),
        said.path().as_os_str(),
        OsStr::new("--exact"),
        OsStr::new(test),
        OsStr::new("--nocapture"),
        // Whoever asked for it by its name meant it.
        OsStr::new("--include-ignored"),
    ];
    let code = Lab::run(
        &cordon(),
        OsStr::new("/bin/sh"),
        &arguments.map(OsString::from),
    );
    println!("{}", fs::read_to_string(said.path())?);
    code
}

/// The test harness names each test's thread by the test.
fn test_name() -> String {
    let thread = thread::current();
    let name = thread.name().expect("the thread of a test has a name");
    assert_ne!(name, "main", "run these tests by `cargo test`");
    name.to_owned()
}

/// Polls until `ready` holds; fails the test if it does not within ten seconds.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if ready() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited ten seconds in vain until {what}");
}

/// Turns an IPv4 datagram (or super-datagram) round: addresses and ports swapped, which leaves every checksum right.
pub(crate) fn turn_round(packet: &mut [u8]) {
    for at in 0..4 {
        packet.swap(12 + at, 16 + at);
    }
    packet.swap(20, 22);
    packet.swap(21, 23);
}
