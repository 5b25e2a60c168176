//! The daemon's side: takes requests from clients, a few at a time, and hands their answers out. Runs beside everything
//! else that the daemon attends to; a client that is slow, silent or hostile costs its own connection.

use super::{LONGEST_REQUEST, Refusal, Request};
use nix::unistd::geteuid;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Clients that are served at once; others wait.
const CLIENTS: usize = 8;
/// How long a client may take for its request, …
const ASKING: Duration = Duration::from_secs(2);
/// … and to take the answer.
const TAKING: Duration = Duration::from_secs(5);
/// How long no client is taken where the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(200);

/// Takes the answer to a request: JSON Lines.
pub type Reply = oneshot::Sender<String>;

/// Serves clients for ever, and hands what they ask to whoever receives `requests`.
pub async fn serve(listener: UnixListener, requests: mpsc::Sender<(Request, Reply)>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    attend(stream, &requests).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no client can be taken at the control socket");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Serves one client.
async fn attend(mut stream: UnixStream, requests: &mpsc::Sender<(Request, Reply)>) {
    let answer = match read(&mut stream).await {
        Ok(request) => answer(request, requests).await,
        Err(refusal) => Err(refusal),
    };
    let lines = answer.unwrap_or_else(|refusal| line(&refusal));
    // A client that does not take its answer does without.
    let _ = timeout(TAKING, stream.write_all(lines.as_bytes())).await;
}

async fn read(stream: &mut UnixStream) -> Result<Request, Refusal> {
    let asks = stream.peer_cred().map(|peer| peer.uid());
    if !asks.is_ok_and(|uid| may_ask(uid, geteuid().as_raw())) {
        return Err(refused("only root and the daemon's own user may ask it"));
    }
    match timeout(ASKING, read_line(stream)).await {
        Ok(Ok(line)) => Request::parse(&line),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(refused("no request came in time")),
    }
}

async fn answer(
    request: Request,
    requests: &mpsc::Sender<(Request, Reply)>,
) -> Result<String, Refusal> {
    let ending = || refused("the daemon is ending");
    let (reply, answer) = oneshot::channel();
    let asked = requests.send((request, reply)).await;
    asked.map_err(|_| ending())?;
    answer.await.map_err(|_| ending())
}

/// The first line of what a client sends, or all of it if it ends without one.
async fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>, Refusal> {
    let (mut line, mut room) = (Vec::new(), [0; 256]);
    loop {
        let read = stream.read(&mut room).await;
        let read = read.map_err(|error| refused(&error.to_string()))?;
        let part = room.get(..read).unwrap_or_default();
        let end = part.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(part.get(..end.unwrap_or(read)).unwrap_or_default());
        if line.len() > LONGEST_REQUEST {
            return Err(refused(&format!(
                "a request has at most {LONGEST_REQUEST} bytes"
            )));
        }
        if end.is_some() || read == 0 {
            return Ok(line);
        }
    }
}

/// Whether a process of this user may ask a daemon of that one.
fn may_ask(client: u32, daemon: u32) -> bool {
    client == daemon || client == 0
}

fn refused(error: &str) -> Refusal {
    Refusal {
        error: error.to_owned(),
    }
}

/// An object as a line.
fn line(refusal: &Refusal) -> String {
    let mut line = serde_json::to_string(refusal).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client that sends this hears from a daemon that answers every request with `fine`.
    async fn heard(sent: &[u8], ends: bool) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (requests, mut asked) = mpsc::channel::<(Request, Reply)>(1);
        let daemon = async move {
            while let Some((_, reply)) = asked.recv().await {
                let _ = reply.send("fine\n".into());
            }
        };
        let client = async move {
            let _ = client.write_all(sent).await;
            if ends {
                client.shutdown().await.unwrap();
            }
            let mut heard = Vec::new();
            // Behind the answer the connection is reset if not all was read of what was sent.
            let _ = client.read_to_end(&mut heard).await;
            String::from_utf8(heard).unwrap()
        };
        let served = async move { attend(server, &requests).await };
        let (heard, (), ()) = tokio::join!(client, served, daemon);
        heard
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn a_request_is_answered_whether_its_line_ends_or_only_its_bytes_do() {
        block_on(async {
            assert_eq!(heard(b"{\"ask\":\"status\"}\n", false).await, "fine\n");
            assert_eq!(heard(b"{\"ask\":\"status\"}", true).await, "fine\n");
            let more = b"{\"ask\":\"status\"}\n{\"ask\":\"reload\"}\n";
            assert_eq!(heard(more, false).await, "fine\n", "one of each client");
        });
    }

    #[test]
    fn what_is_too_long_nonsense_or_never_comes_is_refused_in_one_line() {
        block_on(async {
            for (sent, why) in [
                (vec![b'x'; 1 << 20], "at most 1024 bytes"),
                (vec![b'{'; LONGEST_REQUEST], "in time"),
                (b"\xff\xfe\n".to_vec(), "no request"),
                (b"\n".to_vec(), "no request"),
                (Vec::new(), "in time"),
            ] {
                let heard = heard(&sent, false).await;
                let refusal: Refusal = serde_json::from_str(&heard).unwrap();
                assert!(refusal.error.contains(why), "{heard}");
            }
        });
    }

    #[test]
    fn only_the_daemons_own_user_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000) && may_ask(0, 0));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0) && !may_ask(65_534, 0));
    }
}
