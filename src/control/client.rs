//! The asking side.

use super::socket::SYSTEM;
use super::{Request, default_path};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long an answer may take: a reload reads all data anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Unanswered {
    /// Nobody listens there.
    #[error("no daemon answers at {}: start it with `cordon run`, or say where it is with --socket", .0.display())]
    Nobody(PathBuf),
    /// It is somebody else's.
    #[error("the daemon at {} may only be asked by root and by its own user", .0.display())]
    Forbidden(PathBuf),
    /// It did not take the request, or cannot answer it.
    #[error("the daemon does not answer: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("the daemon at {} does not answer: {}", .0.display(), .1)]
    Broken(PathBuf, io::Error),
}

/// Asks the daemon at a socket; without one, that of this user, and if there is none, that of the system. The answer is
/// JSON Lines.
///
/// # Errors
/// [`Unanswered`] says why there is none.
pub fn ask(socket: Option<&Path>, request: &Request) -> Result<String, Unanswered> {
    let Some(socket) = socket else {
        let own = default_path();
        return match ask_at(&own, request) {
            Err(Unanswered::Nobody(_)) if own != Path::new(SYSTEM) => {
                ask_at(Path::new(SYSTEM), request)
            }
            answer => answer,
        };
    };
    ask_at(socket, request)
}

fn ask_at(path: &Path, request: &Request) -> Result<String, Unanswered> {
    use ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
    let broken = |error| Unanswered::Broken(path.to_owned(), error);
    let stream = connect(path).map_err(|error| {
        let kind = error.kind();
        if matches!(kind, NotFound | ConnectionRefused | NotADirectory) {
            Unanswered::Nobody(path.to_owned())
        } else if kind == PermissionDenied {
            Unanswered::Forbidden(path.to_owned())
        } else {
            broken(error)
        }
    })?;
    let answer = talk(stream, request).map_err(broken)?;
    if answer.is_empty() {
        return Err(Unanswered::Refused("it is ending".into()));
    }
    match refusal(&answer) {
        Some(why) => Err(Unanswered::Refused(why)),
        None => Ok(answer),
    }
}

/// Also where many clients wait, this one waits only so long.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// Why there is no other answer than this.
fn refusal(answer: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(answer).ok()?;
    if object.get("type")? != "error" {
        return None;
    }
    Some(object.get("error")?.as_str()?.to_owned())
}

fn talk(mut stream: UnixStream, request: &Request) -> io::Result<String> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // Whom it does not listen to it may have told so already.
    let asked = stream.write_all(&line);
    let mut answer = Vec::new();
    let ended = match stream.take(LONGEST).read_to_end(&mut answer) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => Ok(0),
        ended => ended,
    };
    if answer.is_empty() {
        asked?;
    }
    ended?;
    String::from_utf8(answer).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn where_nobody_listens_the_error_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        for left_behind in [false, true] {
            if left_behind {
                drop(UnixListener::bind(&path).unwrap());
            }
            let error = ask(Some(&path), &Request::Status {}).unwrap_err();
            assert!(matches!(error, Unanswered::Nobody(_)), "{error:?}");
            assert!(error.to_string().contains("`cordon run`"), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_an_answer_is_not() {
        for (says, refused) in [
            ("{\"type\":\"error\",\"error\":\"not now\"}\n", true),
            ("{\"type\":\"flows\",\"flows\":0}\n", false),
            ("{\"type\":\"reload\",\"error\":\"p.toml:1:1\"}\n", false),
            ("", true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("control.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let daemon = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 17];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(says.as_bytes()).unwrap();
                request
            });
            let answer = ask(Some(&path), &Request::Status {});
            assert_eq!(answer.is_err(), refused, "{answer:?}");
            assert_eq!(&daemon.join().unwrap(), b"{\"ask\":\"status\"}\n");
        }
    }
}
