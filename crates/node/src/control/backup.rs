//! A backup on request, sent while it is made.
//!
//! What fails before its first byte is answered as any failure; later the connection breaks, and what was sent opens as nothing.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc;

use super::Control;
use super::api::NewBackup;
use super::routes::{Failed, parse};
use crate::backup::{self, BackupError, Scope};

/// Pieces of up to 64 KiB that wait for the one who asked.
const WAITING: usize = 4;

pub(super) async fn make(State(control): State<Control>, body: Bytes) -> Result<Response, Failed> {
    let NewBackup { authority, passphrase } = parse(&body)?;
    let scope = if authority { Scope::Authority } else { Scope::Node };
    let (pieces, mut made) = mpsc::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces(pieces);
        let written = backup::write(&control.store, scope, &passphrase, &mut out);
        if let Err(error) = &written {
            tracing::warn!(%error, "no backup was made");
            // Breaks the connection where some of it was sent.
            let _ = out.0.blocking_send(Err(io::Error::other("the backup failed")));
        }
        written
    });
    match made.recv().await {
        Some(Ok(first)) => {
            let rest = stream::unfold(made, async |mut made| made.recv().await.map(|piece| (piece, made)));
            let all = stream::StreamExt::chain(stream::iter([Ok(first)]), rest);
            Ok((StatusCode::OK, Body::from_stream(all)).into_response())
        }
        Some(Err(_)) | None => match writing.await {
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) | Err(_) => Err(Failed {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                error: "the node failed to do it".to_owned(),
                hint: "look at the node's log",
            }),
        },
    }
}

/// Hands over what is written; who asked may have gone.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Failed {
        let status = match &error {
            BackupError::Identity(_) => StatusCode::BAD_REQUEST,
            BackupError::NoAuthority | BackupError::NoNode => StatusCode::CONFLICT,
            BackupError::Store(_)
            | BackupError::Enrol(_)
            | BackupError::Member(_)
            | BackupError::Randomness(_)
            | BackupError::Output(_)
            | BackupError::Input(_)
            | BackupError::Damaged { .. }
            | BackupError::Unknown { .. }
            | BackupError::Taken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, hint: error.hint(), error: error.to_string() }
    }
}
