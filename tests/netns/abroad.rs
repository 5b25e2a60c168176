//! A machine, proxies abroad that others wrote, and the servers behind them.

use crate::harness::{cordon, peer};
use crate::servers;
use cordon::kernel::namespace::lab::{Frame, Host, Lab, Observer};
use cordon::kernel::netlink::{Family, Netlink, Route, Rule, Target};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

pub(crate) const US: &str = "198.41.0.4";
pub(crate) const US6: &str = "2001:503:ba3e::2:30";
pub(crate) const CN: &str = "1.2.4.8";
pub(crate) const DE: &str = "5.9.0.1";
pub(crate) const DE6: &str = "2a01:4f8::1";
pub(crate) const NL: &str = "193.0.0.1";

/// A machine, and what lies behind its only link: two hosts for proxies, and one for the servers of the world.
pub(crate) struct Abroad {
    pub(crate) machine: Host,
    pub(crate) net: Host,
    pub(crate) german: Host,
    pub(crate) dutch: Host,
    pub(crate) world: Host,
}

impl Abroad {
    pub(crate) fn in_lab(lab: &Lab) -> Self {
        let [machine, net, german, dutch, world] =
            ["machine", "net", "german", "dutch", "world"].map(|name| lab.host(name).unwrap());
        for (host, link, own, gateway) in [
            (&machine, "m", "203.0.113.1", "203.0.113.2"),
            (&german, "de", DE, "5.9.0.254"),
            (&dutch, "nl", NL, "193.0.0.254"),
            (&world, "w", US, "198.41.0.254"),
        ] {
            lab.wire((host, "eth0"), (&net, link)).unwrap();
            host.address("eth0", &format!("{own}/24")).unwrap();
            net.address(link, &format!("{gateway}/24")).unwrap();
            host.default_route("eth0", gateway).unwrap();
        }
        for (host, link, own, gateway) in [
            (&machine, "m", "fd77::1", "fd77::2"),
            (&german, "de", DE6, "2a01:4f8::fe"),
            (&world, "w", US6, "2001:503:ba3e::fe"),
        ] {
            host.address("eth0", &format!("{own}/64")).unwrap();
            net.address(link, &format!("{gateway}/64")).unwrap();
            host.default_route("eth0", gateway).unwrap();
        }
        world.address("eth0", &format!("{CN}/32")).unwrap();
        net.route(&format!("{CN}/32"), "w", Some(US)).unwrap();
        net.forward().unwrap();
        world
            .run(|| {
                for at in [format!("{US}:9"), format!("[{US6}]:9")] {
                    servers::bulk(&at);
                    servers::echo(&at);
                }
                servers::who_am_i(&format!("{US}:80"));
                // Whoever comes here went past the policy.
                servers::bulk(&format!("{CN}:1080"));
                Ok(())
            })
            .unwrap();
        Self {
            machine,
            net,
            german,
            dutch,
            world,
        }
    }

    /// Names that the machine's own lookups know.
    pub(crate) fn hosts(&self, lines: &str) {
        let file = env::temp_dir().join(format!("hosts.{}", std::process::id()));
        fs::write(&file, lines).unwrap();
        for target in ["/etc/hosts", "/etc/resolv.conf"] {
            let nothing = None::<&str>;
            mount(Some(&file), target, nothing, MsFlags::MS_BIND, nothing).unwrap();
        }
    }

    /// A policy, and a configuration with passwords of alice, as options of `cordon exec`.
    pub(crate) fn options(
        &self,
        directory: &Path,
        policy: &str,
        passwords: &[(&str, &str)],
    ) -> Options {
        let config: String = passwords
            .iter()
            .map(|(name, password)| {
                format!("[exits.{name}]\nuser = \"alice\"\npassword = \"{password}\"\n")
            })
            .collect();
        Options::write(directory, policy, &config)
    }

    /// Gives the machine another address.
    pub(crate) fn own_address(&self, address: &str) {
        self.machine.address("eth0", address).unwrap();
    }

    /// Takes the machine's first address away from it.
    pub(crate) fn drop_address(&self) {
        let gone = "203.0.113.1/24".parse().unwrap();
        self.machine
            .setting("ipv4/conf/all/promote_secondaries", "1")
            .unwrap();
        self.machine
            .run(|| Netlink::open()?.remove_address("eth0", gone))
            .unwrap();
    }

    /// Has the machine find a way to a place only for what bears a mark.
    pub(crate) fn way_for_mark(&self, to: &str, mark: u32) {
        const TABLE: u32 = 77;
        let to: ipnet::IpNet = format!("{to}/32").parse().unwrap();
        let main = Route::main(to, "eth0", Some("203.0.113.2".parse().unwrap()));
        let nowhere = Route {
            target: Target::Unreachable,
            ..main
        };
        let marked = Route {
            table: TABLE,
            ..main
        };
        let rule = Rule {
            mark: Some((mark, u32::MAX)),
            ..Rule::new(Family::V4, 100, TABLE)
        };
        let put = || {
            let mut netlink = Netlink::open()?;
            netlink.add_route(&nowhere)?;
            netlink.add_route(&marked)?;
            netlink.add_rule(&rule)
        };
        self.machine.run(put).unwrap();
    }

    /// Has the link to the servers of the world take no longer packets than this.
    pub(crate) fn narrow(&self, mtu: u32) {
        for (host, link) in [(&self.net, "w"), (&self.world, "eth0")] {
            host.run(|| Netlink::open()?.set_mtu(link, mtu)).unwrap();
        }
    }

    /// Has answers to a network that lies behind the German host find their way.
    pub(crate) fn route_back(&self, to: &str, via: &str) {
        self.net.route(to, "de", Some(via)).unwrap();
    }

    fn command(&self, options: &[&str], program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(cordon());
        let command_line = command.arg("exec").args(options).arg("--");
        command_line.arg(program).args(arguments);
        command
    }

    /// Runs a program behind the gate, on the machine.
    pub(crate) fn exec(&self, options: &[&str], program: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command(options, program, arguments);
        self.machine.run(|| Ok(command.output()?)).unwrap()
    }

    /// The same, and it must end with 0.
    pub(crate) fn succeed(&self, options: &[&str], arguments: &[&str]) -> Output {
        let output = self.exec(options, &peer(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    }

    /// The same, to be listened to while it runs.
    pub(crate) fn begin(&self, options: &[&str], arguments: &[&str]) -> Client {
        let mut command = self.command(options, &peer(), arguments);
        command.stdout(Stdio::piped());
        let mut child = self.machine.run(|| Ok(command.spawn()?)).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Client { child, lines }
    }

    /// Watches what the machine sends.
    pub(crate) fn watch(&self, allowed: &[&str]) -> Watch {
        let allowed: Vec<IpAddr> = allowed.iter().map(|ip| ip.parse().unwrap()).collect();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let past = move |frame: &Frame| {
            let Some(to) = destination(frame).filter(|_| !frame.outgoing) else {
                return false;
            };
            count.fetch_add(1, Ordering::Relaxed);
            !to.is_multicast() && !allowed.contains(&to)
        };
        // Addresses and ports are all that is looked at.
        let past = Observer::of_headers(&self.net, "m", 64, past).unwrap();
        Watch { past, sent }
    }
}

/// Where a packet that is not of the link itself goes.
pub(crate) fn destination(frame: &Frame) -> Option<IpAddr> {
    let bytes = &frame.bytes;
    match frame.ethertype {
        0x0800 => Some(IpAddr::from(*bytes.get(16..)?.first_chunk::<4>()?)),
        // ICMPv6: neighbour discovery.
        0x86dd if bytes.get(6) != Some(&58) => {
            Some(IpAddr::from(*bytes.get(24..)?.first_chunk::<16>()?))
        }
        _ => None,
    }
}

/// Sees what leaves the machine.
pub(crate) struct Watch {
    past: Observer,
    sent: Arc<AtomicUsize>,
}

impl Watch {
    /// How many packets left the machine.
    pub(crate) fn packets(self) -> usize {
        assert_eq!(self.past.finish().unwrap().missed, 0);
        self.sent.load(Ordering::Relaxed)
    }

    /// Fails the test if anything went anywhere but to the exits.
    pub(crate) fn nothing_else(self) {
        let past = self.past.finish().unwrap();
        let places: Vec<_> = past.kept.iter().filter_map(destination).collect();
        assert_eq!((places, past.missed), (Vec::new(), 0));
        let sent = self.sent.load(Ordering::Relaxed);
        println!("{sent} packets left, all to the exits");
    }
}

/// Options of `cordon exec`, and their files.
pub(crate) struct Options([String; 3]);

impl Options {
    /// Writes a policy and a configuration.
    pub(crate) fn write(directory: &Path, policy: &str, config: &str) -> Self {
        let options = Self(["policy.toml", "cordon.toml", "events.jsonl"].map(|name| {
            let path = directory.join(name);
            path.display().to_string()
        }));
        let [policy_file, config_file, _] = &options.0;
        fs::write(
            policy_file,
            format!("version = 1\nname = \"test\"\n{policy}"),
        )
        .unwrap();
        fs::write(config_file, config).unwrap();
        fs::set_permissions(config_file, Permissions::from_mode(0o600)).unwrap();
        options
    }

    pub(crate) fn each(&self) -> Vec<&str> {
        let [policy, config, events] = &self.0;
        ["--policy", policy, "--config", config, "--events", events].to_vec()
    }

    pub(crate) fn events(&self) -> &str {
        let [.., events] = &self.0;
        events
    }
}

/// A program behind the gate.
pub(crate) struct Client {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Client {
    /// Waits for a line that begins so; what follows.
    pub(crate) fn says(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("it said {line:?}, not {beginning}"))
            .to_owned()
    }

    pub(crate) fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A program of others, with all its processes.
pub(crate) struct Proxy(Child);

impl Proxy {
    /// A SOCKS5 proxy for streams.
    pub(crate) fn microsocks(host: &Host, at: &str, user: Option<(&str, &str)>) -> Option<Self> {
        Self::microsocks_from(host, at, None, user)
    }

    /// The same, with another address for what it sends on.
    pub(crate) fn microsocks_from(
        host: &Host,
        at: &str,
        from: Option<&str>,
        user: Option<(&str, &str)>,
    ) -> Option<Self> {
        let mut command = Command::new(program("microsocks")?);
        // All addresses: it lets nobody choose both families.
        command.args(["-i", at, "-p", "1080"]);
        if let Some(from) = from {
            command.args(["-b", from]);
        }
        if let Some((user, password)) = user {
            command.args(["-u", user, "-P", password]);
        }
        Some(Self::start(host, command, &[&format!("{at}:1080")]))
    }

    /// A SOCKS5 proxy for streams and datagrams.
    pub(crate) fn dante(host: &Host, at: &[&str], directory: &Path) -> Option<Self> {
        let program = program("danted")?;
        let internal: String = at
            .iter()
            .map(|at| format!("internal: {at} port = 1080\n"))
            .collect();
        let config = directory.join(format!("danted.{}.conf", at.join("-").replace(':', "_")));
        let text = format!(
            "errorlog: stderr\n{internal}external: eth0\nsocksmethod: none\nclientmethod: none\n\
             user.privileged: root\nuser.unprivileged: root\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\nclient pass {{ from: ::/0 to: ::/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\nsocks pass {{ from: ::/0 to: ::/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: ::/0 }}\nsocks pass {{ from: ::/0 to: 0.0.0.0/0 }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-f").arg(&config).arg("-p");
        command.arg(config.with_extension("pid"));
        let at: Vec<String> = at
            .iter()
            .map(|at| match at.contains(':') {
                true => format!("[{at}]:1080"),
                false => format!("{at}:1080"),
            })
            .collect();
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        Some(Self::start(host, command, &at))
    }

    /// An HTTP proxy.
    pub(crate) fn tinyproxy(
        host: &Host,
        at: &str,
        directory: &Path,
        (user, password): (&str, &str),
    ) -> Option<Self> {
        let program = program("tinyproxy")?;
        let config = directory.join("tinyproxy.conf");
        let text = format!(
            "Port 3128\nListen {at}\nTimeout 60\nMaxClients 4000\nConnectPort 9\n\
             BasicAuth {user} {password}\nLogLevel Critical\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-d").arg("-c").arg(&config);
        Some(Self::start(host, command, &[&format!("{at}:3128")]))
    }

    /// What takes TLS in front of a proxy, and its certificate.
    pub(crate) fn stunnel(host: &Host, at: &str, directory: &Path) -> Option<(Self, PathBuf)> {
        let program = program("stunnel")?;
        let made = rcgen::generate_simple_self_signed([at.to_owned()]).unwrap();
        let [certificate, key, config] =
            ["proxy.pem", "proxy.key", "stunnel.conf"].map(|name| directory.join(name));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "foreground = quiet\npid =\n[proxy]\naccept = {at}:3129\nconnect = {at}:3128\n\
             cert = {}\nkey = {}\n",
            certificate.display(),
            key.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg(&config).stderr(Stdio::null());
        let started = Self::start(host, command, &[&format!("{at}:3129")]);
        Some((started, certificate))
    }

    /// Has it do nothing any more, without telling anybody.
    pub(crate) fn freeze(&self) {
        killpg(self.group(), Signal::SIGSTOP).unwrap();
    }

    /// Has it go on.
    pub(crate) fn thaw(&self) {
        killpg(self.group(), Signal::SIGCONT).unwrap();
    }

    /// Starts it and waits until it listens at all these places.
    pub(crate) fn start(host: &Host, mut command: Command, at: &[&str]) -> Self {
        command.process_group(0).stdout(Stdio::null());
        let started = host.run(|| Ok(command.spawn()?)).unwrap();
        let proxy = Self(started);
        for at in at {
            let listens = || host.run(|| Ok(TcpStream::connect(at).is_ok())).unwrap();
            crate::harness::wait_until("the proxy listens", listens);
        }
        proxy
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        killpg(self.group(), Signal::SIGKILL).unwrap();
        self.0.wait().unwrap();
    }
}

/// Where a program of others is; says so if it is nowhere.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let found = places.map(|place| Path::new(place).join(name));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        let required = env::var_os("CORDON_PEERS").is_some_and(|value| value == "required");
        assert!(!required, "{name} is not installed");
        let test = thread::current();
        let test = test.name().unwrap_or_default().to_owned();
        eprintln!("skipped, NOT TESTED: {test}: {name} is not installed on this machine");
    }
    found
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}
