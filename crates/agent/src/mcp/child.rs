//! A server as a program: its processes, its pipes, and what it says beside the protocol.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::Program;
use crate::tools::{MARK, Tree, passed_variables};

/// Bytes of one message of a server. One that says more is ended: it cannot be skipped unread.
const LINE_MAX: usize = 4 * 1024 * 1024;
/// Bytes of what a server says on its standard error that are logged.
const SAID_MAX: usize = 64 * 1024;
/// Bytes of one line there.
const SAID_LINE_MAX: usize = 500;
/// A configured value this short is no secret, and is found everywhere.
const SECRET_MIN: usize = 4;

/// A program that was started. Dropped, it is ended with everything that it started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) pipes: Option<(ChildStdout, ChildStdin)>,
    _tree: Tree,
    _said: Option<AbortOnDropHandle<()>>,
}

impl Started {
    pub(super) fn new(server: &str, config: &Program, marks: &str) -> io::Result<Self> {
        let mark = format!("{marks}/{}", uuid::Uuid::new_v4().simple());
        let mut child = Command::new(&config.command)
            .args(&config.args)
            .env_clear()
            .envs(passed_variables())
            .env(
                "PATH",
                std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned()),
            )
            .envs(config.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .current_dir(&config.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let tree = Tree::new(child.id(), MARK, mark);
        let secrets: Vec<String> = config
            .env
            .iter()
            .map(|(_, value)| value.clone())
            .chain(config.args.iter().cloned())
            .filter(|value| value.len() >= SECRET_MIN)
            .collect();
        let name = server.to_owned();
        let said = child.stderr.take();
        let said = said.map(|said| AbortOnDropHandle::new(tokio::spawn(log(name, said, secrets))));
        let pipes = child.stdout.take().zip(child.stdin.take());
        Ok(Self {
            child,
            pipes,
            _tree: tree,
            _said: said,
        })
    }
}

/// Logs the first of what a server says, without what it was given, and reads the rest away.
async fn log(server: String, mut said: ChildStderr, secrets: Vec<String>) {
    let (mut line, mut chunk, mut logged) = (Vec::new(), [0; 4_096], 0);
    while let Ok(read) = said.read(&mut chunk).await
        && read > 0
    {
        for byte in &chunk[..read] {
            if *byte != b'\n' {
                // Whole lines, so that a secret is found: one that is too long is not shown.
                if line.len() <= 16 * SAID_LINE_MAX {
                    line.push(*byte);
                }
                continue;
            }
            if logged < SAID_MAX && line.len() <= 16 * SAID_LINE_MAX {
                let mut text = String::from_utf8_lossy(&line).into_owned();
                for secret in &secrets {
                    text = text.replace(secret.as_str(), "***");
                }
                let text = super::list::cut(&text, SAID_LINE_MAX);
                logged += text.len() + 1;
                tracing::info!(server, said = text, "a tool server says");
            }
            line.clear();
        }
    }
}

/// A stream of lines, none of which is endless.
#[derive(Debug)]
pub(super) struct Lines<R> {
    inner: R,
    length: usize,
}

impl<R> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, length: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.length > LINE_MAX {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let new = &buffer.filled()[before..];
        match new.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => self.length = new.len() - at - 1,
            None => self.length += new.len(),
        }
        read
    }
}
