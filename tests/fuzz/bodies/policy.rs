//! The bytes are a policy and, after NUL bytes, the files that it names. Whatever they are, loading is total, and every
//! error has a place; a policy that loads prints as one that is the same, judges every flow, and explains each verdict
//! as it gives it.
use cordon::jurisdiction::{Data, Groups, Operators};
use cordon::policy::{Evidence, Facts, Files, Name, Opening, Policy, Source, Surroundings};
use std::net::SocketAddr;
use std::sync::LazyLock;

static DATA: LazyLock<Data> =
    LazyLock::new(|| Data::compile(Vec::new(), Operators::embedded().unwrap()).unwrap());
static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().unwrap());

/// Every name is that of one of the files, whichever.
#[derive(Debug)]
struct Parts(Vec<String>);

impl Files for Parts {
    fn read(&self, path: &str) -> Result<String, String> {
        let place = path.len() % self.0.len().max(1);
        self.0
            .get(place)
            .cloned()
            .ok_or_else(|| "no such file".into())
    }
}

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0').map(str::to_owned);
    let policy = parts.next().unwrap_or_default();
    let files = Parts(parts.collect());
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    let policy = match Policy::load_with("fuzz.toml", &policy, &around, &files) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                assert!(problem.place.line >= 1 && problem.place.column >= 1);
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
            }
            return;
        }
    };
    policy.lint();
    policy.run_tests(&DATA);
    judge(&policy);
    let printed = policy.to_string();
    let again = Policy::load_with("fuzz.toml", &printed, &around, &files);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.to_string(), printed);
    judge(&again);
}

fn judge(policy: &Policy) {
    let names = [
        Name {
            name: "ap1.agora.io",
            evidence: Evidence::Dns { age: 1 },
        },
        Name {
            name: "www.example",
            evidence: Evidence::Sni,
        },
    ];
    for destination in ["8.8.8.8:53", "10.0.0.1:443", "[64:ff9b::1.2.4.8]:80"] {
        let destination: SocketAddr = destination.parse().unwrap();
        for protocol in [1, 6, 17] {
            for names in [&names[..0], &names[..1], &names[..]] {
                let facts = Facts {
                    source: Source {
                        address: "192.168.7.20".parse().unwrap(),
                        mac: None,
                        peer: Some("alice"),
                    },
                    protocol,
                    destination,
                    address: DATA.lookup(destination.ip()),
                    names,
                    opening: Opening::default(),
                    data: &DATA,
                    wall: Some(1_800_000_000),
                };
                assert_eq!(policy.decide(&facts), policy.explain(&facts).decision);
                policy.active(&facts);
            }
        }
    }
}
