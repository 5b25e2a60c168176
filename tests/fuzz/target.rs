//! Every fuzz target: the binary's name chooses the body.
#![no_main]

mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (name, body) in bodies::targets() {
        if *name == env!("CARGO_BIN_NAME") {
            body(data);
        }
    }
});
