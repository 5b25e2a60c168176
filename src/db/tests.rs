#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::redundant_clone,
    reason = "helpers of tests, and lists of cases, of which the last needs no copy"
)]
use super::*;
use crate::jurisdiction::{Country, Draft, Meta, Ranges, sha256, write_mmdb};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// 2026-06-17.
const BUILT: u64 = 1_781_654_400;

fn source(text: &str, built: u64) -> Source {
    let mut draft = Draft::default();
    draft.ranges(text.as_bytes(), Ranges::Location).unwrap();
    let meta = Meta {
        name: "s".into(),
        licence: "CC0-1.0".into(),
        attribution: "me".into(),
        built,
    };
    draft.finish(meta).unwrap()
}

fn settings(directory: &TempDir, more: &str) -> Settings {
    let directory = directory.path().display();
    toml::from_str(&format!(
        "directory = \"{directory}/db\"\nembedded = false\n{more}"
    ))
    .unwrap()
}

fn country(data: &Data, address: &str) -> Option<Country> {
    data.lookup(address.parse().unwrap()).country
}

fn code(text: &str) -> Option<Country> {
    Some(Country::parse(text).unwrap())
}

/// An HTTPS server on loopback whose files can be changed.
struct Server {
    port: u16,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Server {
    /// Serves `connections` requests and writes its certificate to `ca.pem`.
    fn start(directory: &TempDir, connections: usize) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(directory.path().join("ca.pem"), key.cert.pem()).unwrap();
        let private =
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        let served = Arc::clone(&files);
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = stream.unwrap();
                // A client that refuses the certificate ends the connection: no fault of the server.
                drop(serve(
                    &mut rustls::Stream::new(&mut connection, &mut stream),
                    &served,
                ));
            }
        });
        Self { port, files }
    }

    fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.files
            .lock()
            .unwrap()
            .insert(format!("/{name}"), bytes.into());
    }

    fn url(&self, name: &str) -> String {
        format!("https://localhost:{}/{name}", self.port)
    }
}

fn serve(
    stream: &mut (impl Read + Write),
    files: &Mutex<HashMap<String, Vec<u8>>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let file = files.lock().unwrap().get(path).cloned();
    let (status, body) = file.map_or(("404 Not Found", Vec::new()), |file| ("200 OK", file));
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.flush()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Fetches the one configured source.
fn try_update(settings: &Settings, force: bool) -> Result<Outcome> {
    let client = Client::new(settings)?;
    let sources = settings.sources()?;
    update(
        settings,
        &sources[0],
        &client,
        Time::from_secs(BUILT + 86_400),
        Rules { force },
    )
}

fn error(settings: &Settings) -> String {
    format!("{:#}", try_update(settings, false).unwrap_err())
}

fn in_use(settings: &Settings) -> Option<Country> {
    country(
        &load(settings, Time::from_secs(BUILT)).unwrap().data,
        "9.0.0.1",
    )
}

#[test]
fn an_update_is_fetched_checked_and_taken_and_can_be_taken_back() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory, 3);
    let ca = directory.path().join("ca.pem");
    let more = format!(
        "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{}\"]\nlicence = \"CC0-1.0\"\n\
         canary = [{{ ip = \"11.0.0.1\", country = \"NL\" }}]\n",
        ca.display(),
        server.url("m.gz")
    );
    let settings = settings(&directory, &more);
    let before = load(&settings, Time::from_secs(BUILT)).unwrap();
    assert!(
        before.warnings[0].contains("never fetched"),
        "{:?}",
        before.warnings
    );

    server.put(
        "m.gz",
        gzip(&write_mmdb(&source("9.0.0.0/8,DE\n11.0.0.0/8,NL\n", BUILT)).unwrap()),
    );
    assert!(try_update(&settings, false).unwrap().changed);
    assert_eq!(in_use(&settings), code("DE"));
    assert!(
        !try_update(&settings, false).unwrap().changed,
        "the same file again"
    );

    server.put(
        "m.gz",
        write_mmdb(&source("9.0.0.0/8,FR\n11.0.0.0/8,NL\n", BUILT + 60)).unwrap(),
    );
    let outcome = try_update(&settings, false).unwrap();
    assert_eq!(
        (outcome.changed, outcome.source.meta().licence.as_str()),
        (true, "CC0-1.0")
    );
    assert_eq!(in_use(&settings), code("FR"));

    rollback(&settings.directory, "mine").unwrap();
    assert_eq!(in_use(&settings), code("DE"));
    rollback(&settings.directory, "mine").unwrap();
    assert_eq!(in_use(&settings), code("FR"), "and forward again");
    assert!(
        format!("{:#}", rollback(&settings.directory, "other").unwrap_err())
            .contains("nothing to go back to")
    );
}

#[test]
fn whatever_is_wrong_with_a_fetched_file_the_one_in_use_stays() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory, 14);
    let good = source("9.0.0.0/8,DE\n11.0.0.0/8,NL\n", BUILT)
        .write_compact(1)
        .unwrap();
    let ca = directory.path().join("ca.pem");
    let with = |more: &str| {
        let url = server.url("m");
        settings(
            &directory,
            &format!(
                "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{url}\"]\n{more}",
                ca.display()
            ),
        )
    };
    let plain = with("canary = [{ ip = \"11.0.0.1\", country = \"NL\" }]\n");
    server.put("m", good.clone());
    try_update(&plain, false).unwrap();

    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = |bytes: Vec<u8>, settings: &Settings, why: &str| {
        server.put("m", bytes);
        let error = error(settings);
        assert!(error.contains(why), "{error}");
        assert_eq!(in_use(settings), code("DE"), "{why}");
    };
    refused(damaged, &plain, "damaged");
    refused(good[..good.len() / 2].to_vec(), &plain, "damaged");
    refused(
        b"<html>Sign in to the network</html>, and more of the kind, to be long enough".to_vec(),
        &plain,
        "neither",
    );
    let swapped = source("9.0.0.0/8,NL\n11.0.0.0/8,DE\n", BUILT)
        .write_compact(1)
        .unwrap();
    refused(swapped, &plain, "does not place 11.0.0.1 in NL");
    let older = source("9.0.0.0/8,FR\n11.0.0.0/8,NL\n", BUILT - 9)
        .write_compact(1)
        .unwrap();
    refused(older, &plain, "before the one in use");
    let smaller = source("0.0.0.0/0,NL\n", BUILT + 9)
        .write_compact(1)
        .unwrap();
    refused(smaller, &plain, "1 ranges where the one in use has 5");
    refused(
        good.clone(),
        &with("max-bytes = 100\n"),
        "larger than the 100 bytes",
    );
    refused(
        gzip(&vec![0; 1 << 20]),
        &with("max-bytes = 5000\n"),
        "unpacks to more than",
    );
    refused(
        good.clone(),
        &with("min-bytes = 100000\n"),
        "less than the 100000",
    );
    refused(
        good.clone(),
        &with("sha256 = \"00\"\n"),
        "not 00 as it should be",
    );
    server.files.lock().unwrap().clear();
    assert!(error(&plain).contains("status 404"), "{}", error(&plain));
    assert_eq!(in_use(&plain), code("DE"));
}

#[test]
fn no_corrupted_database_takes_the_place_of_the_one_in_use() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mmdb/bad-data");
    let bad: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(bad.len() > 20);
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory, 1 + bad.len());
    let settings = settings(
        &directory,
        &format!(
            "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{}\"]\n",
            directory.path().join("ca.pem").display(),
            server.url("m")
        ),
    );
    let good = write_mmdb(&source("9.0.0.0/8,DE\n", BUILT)).unwrap();
    server.put("m", good);
    try_update(&settings, false).unwrap();
    for path in bad {
        server.put("m", std::fs::read(&path).unwrap());
        // Even where the user insists.
        assert!(try_update(&settings, true).is_err(), "{}", path.display());
        assert_eq!(in_use(&settings), code("DE"), "{}", path.display());
    }
}

#[test]
fn a_digest_that_fits_a_token_and_force_let_a_file_in() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory, 3);
    let file = source("9.0.0.0/8,DE\n", BUILT).write_compact(1).unwrap();
    let digest = data_encoding::HEXUPPER.encode(&sha256(&file));
    std::fs::write(directory.path().join("token"), "geheim\n").unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let settings = settings(
        &directory,
        &format!(
            "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{}?key={{token}}\"]\nsha256-url = \"{}\"\ntoken-file = \"{}\"\n",
            at("ca.pem"),
            server.url("m"),
            server.url("m.sha256"),
            at("token")
        ),
    );
    server.put("m", file);
    server.put("m.sha256", format!("{digest}  m\n"));
    assert!(try_update(&settings, true).unwrap().changed);
    server.files.lock().unwrap().clear();
    let error = error(&settings);
    assert!(!error.contains("geheim"), "a token is not shown: {error}");
}

#[test]
fn a_server_with_the_wrong_certificate_is_not_believed() {
    let directory = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let server = Server::start(&directory, 1);
    Server::start(&other, 0);
    let ca = other.path().join("ca.pem");
    let more = format!(
        "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{}\"]\n",
        ca.display(),
        server.url("m")
    );
    server.put(
        "m",
        source("9.0.0.0/8,DE\n", BUILT).write_compact(1).unwrap(),
    );
    let settings = settings(&directory, &more);
    assert!(
        error(&settings).contains("cannot be fetched"),
        "{}",
        error(&settings)
    );
}

#[test]
fn a_broken_file_in_use_is_told_with_the_way_out_and_an_update_repairs_it() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory, 1);
    let ca = directory.path().join("ca.pem");
    let more = format!(
        "ca = \"{}\"\n[[source]]\nname = \"mine\"\nurl = [\"{}\"]\n",
        ca.display(),
        server.url("m")
    );
    let settings = settings(&directory, &more);
    std::fs::create_dir_all(&settings.directory).unwrap();
    let file = source("9.0.0.0/8,DE\n", BUILT).write_compact(1).unwrap();
    std::fs::write(settings.directory.join("mine.cdb"), &file[..40]).unwrap();
    let error = format!("{:#}", load(&settings, Time::from_secs(BUILT)).unwrap_err());
    assert!(
        error.contains("mine.cdb") && error.contains("cordon db update mine"),
        "{error}"
    );
    server.put("m", file);
    try_update(&settings, false).unwrap();
    assert_eq!(in_use(&settings), code("DE"));
}

#[test]
fn files_of_the_user_are_asked_before_the_embedded_tables() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("feed.csv"), "8.8.8.0/24,IS,,,\n").unwrap();
    std::fs::write(
        path("a.mmdb"),
        write_mmdb(&source("8.8.8.0/24,IS\n", BUILT)).unwrap(),
    )
    .unwrap();
    std::fs::write(
        path("ops.toml"),
        "[[operator]]\nid = \"mine\"\nname = \"M\"\nseat = \"IS\"\nprefix = [\"8.8.8.0/24\"]\nsource = \"me\"\nas_of = \"2026-01-01\"\n",
    )
    .unwrap();
    let text = format!(
        "directory = \"{}\"\noperators = [\"{}\"]\n[[source]]\nname = \"feed\"\nkind = \"geofeed\"\npath = [\"{}\"]\n\
         [[source]]\nname = \"a\"\npath = [\"{}\"]\n",
        path("db"),
        path("ops.toml"),
        path("feed.csv"),
        path("a.mmdb")
    );
    let settings: Settings = toml::from_str(&text).unwrap();
    let loaded = load(&settings, now()).unwrap();
    let facts = loaded.data.lookup("8.8.8.8".parse().unwrap());
    assert_eq!(facts.country, code("IS"));
    assert_eq!(
        facts.located.len(),
        2,
        "what the embedded table says is kept"
    );
    assert_eq!(facts.operator, loaded.data.operator_by_id("mine"));
    assert_eq!(facts.confidence, crate::jurisdiction::Confidence::Contested);
    assert_eq!(loaded.data.sources()[0].v4, 3);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("geo-whois, rir, asn was built on 2026-06-17"))
    );
    std::fs::write(path("a.mmdb"), b"broken").unwrap();
    let error = format!("{:#}", load(&settings, now()).unwrap_err());
    assert!(
        error.contains("a.mmdb") && error.contains("neither an mmdb"),
        "{error}"
    );
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    let refused = |more: &str| {
        let settings: Settings = toml::from_str(more).unwrap();
        settings.sources().unwrap_err().to_string()
    };
    assert!(refused("[[source]]\npath = [\"x\"]\n").contains("needs a `name`"));
    assert!(refused("[[source]]\nname = \"../x\"\npath = [\"x\"]\n").contains("may have only"));
    assert!(refused("[[source]]\nname = \"x\"\n").contains("`path` or a `url`"));
    assert!(refused("[[source]]\nname = \"x\"\nurl = [\"http://x\"]\n").contains("not https"));
    assert!(refused("[[source]]\npreset = \"nobody\"\n").contains("no preset"));
    let twice = "[[source]]\nname = \"x\"\npath = [\"x\"]\n";
    assert!(refused(&format!("{twice}{twice}")).contains("twice"));
    assert!(toml::from_str::<Settings>("[[source]]\nnmae = \"x\"\n").is_err());
}

#[test]
fn no_preset_is_used_without_being_asked_for() {
    assert!(Settings::default().sources().unwrap().is_empty());
    let presets = presets().unwrap();
    assert!(presets.len() >= 8);
    for preset in &presets {
        assert!(
            !preset.licence.is_empty() && !preset.attribution.is_empty() && !preset.note.is_empty()
        );
        let text = format!("[[source]]\npreset = \"{}\"\n", preset.name);
        let settings: Settings = toml::from_str(&text).unwrap();
        assert_eq!(settings.sources().unwrap()[0].url, preset.url);
    }
}

#[test]
fn old_data_warns_and_older_data_warns_loudly() {
    let sources = vec![
        source("9.0.0.0/8,DE\n", BUILT),
        source("9.0.0.0/8,DE\n", BUILT).named("t"),
    ];
    let data = Data::compile(sources, Operators::default()).unwrap();
    let at = |days: u64| age_warnings(data.sources(), Time::from_secs(BUILT + days * 86_400));
    assert!(at(30).is_empty());
    assert!(
        at(31)[0].starts_with("s, t was built on 2026-06-17, 31 days ago"),
        "{:?}",
        at(31)
    );
    assert!(at(90)[0].contains("changed hands") && at(91)[0].contains("OUT OF DATE"));
    assert_eq!(at(91).len(), 1);
}

#[test]
fn mistakes_in_files_of_operators_and_groups_are_told_with_file_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.toml");
    std::fs::write(&path, "[[operator]]\nid = 1\n[[group]]\nnmae = \"x\"\n").unwrap();
    let error = |key: &str| {
        let text = format!("embedded = false\n{key} = [\"{}\"]\n", path.display());
        let settings: Settings = toml::from_str(&text).unwrap();
        format!("{:#}", load(&settings, Time::from_secs(BUILT)).unwrap_err())
    };
    let operators = error("operators");
    for told in [
        "2:6: expected a string, found a whole number",
        "1:1: `seat` is missing",
        "3:3: unknown key `group`",
    ] {
        assert!(
            operators.contains(&format!("{}:{told}", path.display())),
            "{operators}"
        );
    }
    let groups = error("groups");
    for told in [
        "4:1: unknown key `nmae`; did you mean `name`?",
        "1:3: unknown key `operator`; possible are group",
    ] {
        assert!(
            groups.contains(&format!("{}:{told}", path.display())),
            "{groups}"
        );
    }
}

#[test]
fn data_dated_in_the_future_is_doubted_and_so_is_the_clock() {
    let sources = vec![source("9.0.0.0/8,DE\n", BUILT)];
    let data = Data::compile(sources, Operators::default()).unwrap();
    let at = |seconds: u64| age_warnings(data.sources(), Time::from_secs(seconds));
    assert!(at(BUILT - 86_399).is_empty(), "clocks differ by hours");
    assert_eq!(
        at(BUILT - 86_400),
        [
            "s is dated 2026-06-17, 1 day in the future: is this machine's clock right? If it is, the date is wrong, and how \
             old the data is cannot be told"
        ]
    );
    assert!(at(BUILT - 10 * 86_400)[0].contains(", 10 days in the future"));
    assert!(!is_stale(data.sources(), Time::from_secs(0)));
}

#[test]
fn an_operator_file_dated_in_the_future_is_doubted_too() {
    let own = "[[operator]]\nid = \"a\"\nname = \"A\"\nseat = \"CN\"\nsource = \"s\"\nas_of = \"2026-06-20\"\nanycast = [\"9.9.9.0/24\"]\n";
    let operators = Operators::read(&[("o.toml", own)]).unwrap();
    let data = Data::compile(vec![source("9.0.0.0/8,DE\n", BUILT)], operators).unwrap();
    let warnings = age_warnings(data.sources(), Time::from_secs(BUILT));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("operators is dated 2026-06-20, 3 days in the future"));
}
