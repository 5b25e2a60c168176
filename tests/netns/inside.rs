//! A program shut in.
use crate::harness::{cordon, here, in_lab, turn_round, wait_until};
use cordon::kernel::namespace::{Held, Inside};
use cordon::kernel::netlink::Netlink;
use cordon::link::Tun;
use cordon::packet::offload;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::{fs, thread};

fn inside() -> Inside {
    Inside::new("cordon0", 9000)
        .address("10.77.0.2/24".parse().unwrap())
        .address("fd00:77::2/64".parse().unwrap())
        .resolver("10.77.0.1".parse().unwrap())
        .resolver("fd00:77::1".parse().unwrap())
        .helper(cordon())
}

/// Holds `bash -c script`.
fn hold(inside: &Inside, script: &str) -> anyhow::Result<Held> {
    inside.start(
        OsStr::new("/bin/bash"),
        &[OsString::from("-c"), OsString::from(script)],
    )
}

/// Runs a script to its end; returns what it wrote to the file `$out` and its exit status.
fn run(inside: &Inside, script: &str) -> (String, u8) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let script = format!("exec >{}; {script}", out.path().display());
    let (running, _way_out) = hold(inside, &script).unwrap().go().unwrap();
    let code = running.wait().unwrap();
    (fs::read_to_string(out.path()).unwrap(), code)
}

fn empty_mount(on: &str) {
    mount(
        Some("test"),
        on,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
}

#[test]
fn what_the_program_sends_comes_out_of_the_tun_and_the_answer_goes_in() {
    in_lab(|_| {
        let script =
            "exec 3<>/dev/udp/192.0.2.7/4242; echo hello >&3; [ \"$(head -c 6 <&3)\" = hello ]";
        let (running, queues) = hold(&inside(), script).unwrap().go().unwrap();
        let program = thread::spawn(move || running.wait());
        let mut datagrams = 0;
        let mut buf = vec![0; Tun::BUFFER];
        wait_until("the program ends", || {
            while let Some(len) = queues[0].recv(&mut buf).unwrap() {
                let packet = &mut buf[offload::LEN..len];
                if packet[0] >> 4 == 4 && packet[9] == 17 {
                    assert_eq!(packet[16..20], [192, 0, 2, 7]);
                    turn_round(packet);
                    queues[0].send(&buf[..len]).unwrap();
                    datagrams += 1;
                }
            }
            program.is_finished()
        });
        assert_eq!((program.join().unwrap().unwrap(), datagrams), (0, 1));
    });
}

#[test]
fn several_queues_are_handed_out() {
    in_lab(|_| {
        let held = hold(&inside().queues(3), "exit 0").unwrap();
        assert_eq!(held.queues.len(), 3);
        assert!(held.queues.iter().all(|queue| queue.name() == "cordon0"));
    });
}

#[test]
fn the_program_finds_its_own_network_and_nothing_of_ours() {
    in_lab(|_| {
        let (said, code) = run(
            &inside(),
            "cd /sys/class/net 2>/dev/null; grep -c : /proc/net/dev; cat /proc/net/route | wc -l; id -u; ls /proc/self/fd | wc -l; \
             grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status",
        );
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(code, 0);
        assert_eq!(
            lines[..4],
            ["2", "3", "0", "4"],
            "links, routes, user, descriptors"
        );
        assert_eq!(lines[4], "NoNewPrivs:\t1");
        let bounding = u64::from_str_radix(lines[5].rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(
            bounding & (1 << 12 | 1 << 21),
            0,
            "CAP_NET_ADMIN, CAP_SYS_ADMIN"
        );
    });
}

#[test]
fn names_are_looked_up_by_our_resolver_and_by_nobody_else() {
    in_lab(|_| {
        // A machine with systemd's resolver, a name service cache and a system bus.
        empty_mount("/run");
        empty_mount("/etc");
        for directory in ["systemd/resolve", "nscd", "dbus", "other"] {
            fs::create_dir_all(Path::new("/run").join(directory)).unwrap();
        }
        let sockets = [
            "/run/systemd/resolve/io.systemd.Resolve",
            "/run/nscd/socket",
            "/run/dbus/system_bus_socket",
            "/run/other/socket",
        ]
        .map(|path| UnixListener::bind(path).unwrap());
        fs::write(
            "/run/systemd/resolve/stub-resolv.conf",
            "nameserver 127.0.0.53\n",
        )
        .unwrap();
        std::os::unix::fs::symlink(
            "../run/systemd/resolve/stub-resolv.conf",
            "/etc/resolv.conf",
        )
        .unwrap();
        let look = "cat /etc/resolv.conf; find /run -type s; find /run -type f | sort";
        let (said, code) = run(&inside(), look);
        assert_eq!(code, 0);
        assert_eq!(
            said,
            "nameserver 10.77.0.1\nnameserver fd00:77::1\n/run/other/socket\n\
             /run/dbus/system_bus_socket\n/run/systemd/resolve/stub-resolv.conf\n"
        );
        assert_eq!(
            fs::read_to_string("/etc/resolv.conf").unwrap(),
            "nameserver 127.0.0.53\n",
            "outside everything is as it was"
        );
        drop(sockets);
        // The same where the file is a plain one.
        fs::remove_file("/etc/resolv.conf").unwrap();
        fs::write("/etc/resolv.conf", "nameserver 9.9.9.9\n").unwrap();
        let (said, _) = run(&inside(), "cat /etc/resolv.conf; ls /tmp/resolv.conf 2>&1");
        assert!(
            said.starts_with("nameserver 10.77.0.1\nnameserver fd00:77::1\n"),
            "{said}"
        );
        assert!(said.contains("No such file"), "{said}");
    });
}

#[test]
fn the_program_keeps_its_user_and_files_keep_their_owners() {
    here(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let user = nix::unistd::geteuid();
        if user.is_root() {
            std::os::unix::fs::chown(file.path(), Some(1234), Some(1234)).unwrap();
        }
        let owner = fs::metadata(file.path()).unwrap().uid();
        let script = format!("stat -c %u {}; id -u", file.path().display());
        assert_eq!(run(&inside(), &script), (format!("{owner}\n{user}\n"), 0));
        if !user.is_root() {
            let (said, _) = run(&inside(), "grep CapEff /proc/self/status");
            assert_eq!(said, "CapEff:\t0000000000000000\n");
        }
    });
}

#[test]
fn the_exit_status_is_the_programs_own() {
    in_lab(|_| {
        assert_eq!(run(&inside(), "exit 7").1, 7);
        assert_eq!(run(&inside(), "kill -KILL $$").1, 128 + 9);
        let held = inside().start(OsStr::new("/no/such/program"), &[]).unwrap();
        let error = held.go().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot run /no/such/program: No such file or directory"
        );
    });
}

#[test]
fn signals_sent_to_us_reach_the_program() {
    in_lab(|_| {
        let ready = tempfile::NamedTempFile::new().unwrap();
        let script = format!(
            "trap 'exit 5' TERM; echo ready >{}; while :; do read -t 1 <> <(:); done",
            ready.path().display()
        );
        let (running, _way_out) = hold(&inside(), &script).unwrap().go().unwrap();
        wait_until("the program has set its trap", || {
            fs::read_to_string(ready.path()).unwrap() == "ready\n"
        });
        kill(getpid(), Signal::SIGTERM).unwrap();
        assert_eq!(running.wait().unwrap(), 5);
    });
}

#[test]
fn standard_input_is_handed_on() {
    in_lab(|_| {
        let input = tempfile::NamedTempFile::new().unwrap();
        fs::write(input.path(), "from outside\n").unwrap();
        nix::unistd::dup2_stdin(fs::File::open(input.path()).unwrap()).unwrap();
        assert_eq!(run(&inside(), "cat"), ("from outside\n".to_owned(), 0));
    });
}

#[test]
fn a_program_that_is_not_let_go_never_runs_and_leaves_nothing() {
    in_lab(|_| {
        let mark = tempfile::tempdir().unwrap();
        let file = mark.path().join("ran");
        let links = || Netlink::open().unwrap().links().unwrap();
        let before = links();
        let held = hold(&inside(), &format!("touch {}", file.display())).unwrap();
        drop(held);
        assert!(!file.exists());
        assert_eq!(links(), before);
        let error = nix::sys::wait::wait().unwrap_err();
        assert_eq!(error, nix::errno::Errno::ECHILD, "no child is left");
    });
}

#[test]
fn without_us_the_program_ends() {
    in_lab(|_| {
        // The thread that has started the program stands for the process that did: the kernel looks at the thread.
        let (running, _way_out) =
            thread::spawn(|| hold(&inside(), "exec sleep 60").unwrap().go().unwrap())
                .join()
                .unwrap();
        assert_eq!(running.wait().unwrap(), 128 + 15);
    });
}

#[test]
fn what_the_system_forbids_is_said_in_one_sentence_with_the_remedy() {
    in_lab(|_| {
        let refused = || {
            let error = hold(&inside(), "true").unwrap_err();
            let sentence = format!("{error:#}");
            assert!(!sentence.contains('\n'), "{sentence}");
            sentence
        };
        fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
        assert_eq!(
            refused(),
            "cannot make a user namespace: user.max_user_namespaces is 0 on this system; \
             `sysctl -w user.max_user_namespaces=10000` allows them: No space left on device (os error 28)"
        );
        fs::write("/proc/sys/user/max_user_namespaces", "100").unwrap();
        empty_mount("/dev/net");
        assert_eq!(
            refused(),
            "cannot open /dev/net/tun: No such file or directory: load the driver (modprobe tun), \
             or give the container the device (--device /dev/net/tun)"
        );
    });
}
