//! Writing an export: one consistent view of the database, table by table, as fast as it is read.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sqlx::QueryBuilder;
use tokio::sync::mpsc;

use super::{FORMAT, Header, Scope, Seal, check_of};
use crate::api::App;
use crate::instant::Stamp;
use crate::store::tables::TABLES;
use crate::store::{StoreError, View, feed, installation};

/// Bytes that are sent together.
const PIECE: usize = 64 * 1024;
/// A reader that takes no piece for this long keeps the database's log from being folded back.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lines of an export, of one organization or of everything. An error cuts them off, and
/// without its last line no export is imported.
pub(crate) async fn body(app: &App, org_id: Option<String>) -> Result<Body, StoreError> {
    let mut view = app.store.view().await?;
    let header = header(app, &mut view, org_id).await?;
    let (pieces, taken) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut writer = Writer { pieces, text: String::new(), seal: Seal::default() };
        if let Err(error) = write(&mut writer, view, &header).await {
            tracing::warn!(%error, "an export was cut off");
            let _ = writer.pieces.send(Err(error)).await;
        }
    });
    let pieces = stream::unfold(taken, |mut taken| async { Some((taken.recv().await?, taken)) });
    Ok(Body::from_stream(pieces))
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
