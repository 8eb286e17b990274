//! Writing an export: one consistent view of the database, table by table, as fast as it is read.
//!
//! The view holds one of the few connections for long reading until the last line is taken, and keeps
//! the database's log from being folded back: there are few exports at a time, and none for long.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sqlx::QueryBuilder;
use tokio::sync::{Mutex, mpsc};

use super::{FORMAT, Header, Scope, Seal, check_of};
use crate::api::App;
use crate::instant::Stamp;
use crate::store::tables::TABLES;
use crate::store::{StoreError, View, feed, installation};

/// Bytes that are sent together.
const PIECE: usize = 64 * 1024;
/// A reader that takes no piece for this long keeps the database's log from being folded back.
const PATIENCE: Duration = Duration::from_secs(60);
/// So does one that takes every piece late.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Exports at a time; gateways that start need the other connections for their snapshots.
const MOST: usize = 2;

/// The exports that are being read, by organization. An entry is alive as long as its export.
#[derive(Default)]
pub(crate) struct Exports(Mutex<HashMap<Option<String>, Weak<()>>>);

impl Exports {
    /// Room for one, as long as what is returned lives: one at a time of each organization, or of
    /// everything, and [`MOST`] in all.
    pub(crate) async fn enter(&self, org_id: Option<&str>) -> Option<Arc<()>> {
        let mut exports = self.0.lock().await;
        exports.retain(|_, export| export.strong_count() > 0);
        let org_id = org_id.map(str::to_owned);
        if exports.len() >= MOST || exports.contains_key(&org_id) {
            return None;
        }
        let room = Arc::new(());
        exports.insert(org_id, Arc::downgrade(&room));
        Some(room)
    }
}

/// The lines of an export, of one organization or of everything. An error cuts them off, and
/// without its last line no export is imported. It takes the `room` that it was given.
pub(crate) async fn body(
    app: &App,
    org_id: Option<String>,
    room: Arc<()>,
) -> Result<Body, StoreError> {
    let mut view = app.store.long_view().await?;
    let header = header(app, &mut view, org_id).await?;
    let (pieces, taken) = mpsc::channel(4);
    tokio::spawn(in_time(pieces.clone(), async move {
        let _room = room;
        let mut writer = Writer { pieces, text: String::new(), seal: Seal::default() };
        write(&mut writer, view, &header).await
    }));
    let pieces = stream::unfold(taken, |mut taken| async { Some((taken.recv().await?, taken)) });
    Ok(Body::from_stream(pieces))
}

/// Writes for as long as an export may take, and tells the reader if that was not enough.
async fn in_time(
    pieces: mpsc::Sender<io::Result<Bytes>>,
    writing: impl Future<Output = io::Result<()>>,
) {
    let too_long = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took half an hour"));
    let written = tokio::time::timeout(LONGEST, writing).await.unwrap_or_else(too_long);
    if let Err(error) = written {
        tracing::warn!(%error, "an export was cut off");
        let _ = pieces.send(Err(error)).await;
    }
}

async fn header(app: &App, view: &mut View, org_id: Option<String>) -> Result<Header, StoreError> {
    let position = feed::find_head(view.conn()).await?.position;
    let mut peppers = BTreeMap::new();
    for version in installation::list_peppers(view.conn()).await? {
        let version = u32::try_from(version).map_err(|_| StoreError::Broken("pepper"))?;
        let pepper = app.peppers.find(version).ok_or(StoreError::Broken("pepper"))?;
        peppers.insert(version, check_of(pepper));
    }
    let (scope, cluster) = match &org_id {
        Some(_) => (Scope::Organization, None),
        None => {
            let cluster = installation::find_setting(view.conn(), installation::CLUSTER).await?;
            (Scope::Installation, cluster)
        }
    };
    Ok(Header {
        format: FORMAT,
        scope,
        org_id,
        cluster,
        epoch: position.epoch,
        seq: position.seq,
        at: Stamp(app.now()).to_string(),
        peppers,
    })
}

struct Writer {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    text: String,
    seal: Seal,
}

impl Writer {
    async fn line(&mut self, name: &str, value: &Value, row: Option<Value>) -> io::Result<()> {
        let row = row.map(|row| format!(",\"row\":{row}")).unwrap_or_default();
        let line = self.seal.seal(&format!("{{\"{name}\":{value}{row}"));
        self.text.push_str(&line);
        if self.text.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        let sent = tokio::time::timeout(PATIENCE, self.pieces.send(Ok(piece))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it was read too slowly")),
        }
    }
}

async fn write(writer: &mut Writer, mut view: View, header: &Header) -> io::Result<()> {
    writer.line("export", &json!(header), None).await?;
    let mut count: u64 = 0;
    for table in TABLES.iter().filter(|table| header.org_id.is_none() || table.has_org()) {
        let mut query = QueryBuilder::new("");
        let mut rows = table.rows(view.conn(), &mut query, header.org_id.as_deref());
        while let Some(row) = rows.next().await {
            let row = row.map_err(io::Error::other)?;
            writer.line("table", &json!(table.name), Some(Value::Object(row))).await?;
            count += 1;
        }
    }
    writer.line("end", &json!({"rows": count}), None).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::ErrorKind;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::{LONGEST, in_time};

    #[tokio::test(start_paused = true)]
    async fn an_export_that_is_read_for_too_long_is_cut_off_with_an_error() {
        let (pieces, mut taken) = mpsc::channel(1);
        let mut export = pin!(in_time(pieces, pending()));
        timeout(LONGEST - Duration::from_secs(1), &mut export).await.expect_err("not before");
        export.await;
        let end = taken.recv().await.expect("the reader is told");
        assert_eq!(end.expect_err("not that it is complete").kind(), ErrorKind::TimedOut);
    }
}
