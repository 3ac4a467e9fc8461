//! What `/healthz` answers.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog_watch::CatalogTrouble;
use crate::process::EncoderState;
use crate::segment::Storage;
use crate::segment::folders::Absent;
use crate::{disks, ingest, recovery};

use super::STANDSTILL;

/// 200 while files are recorded and entered, 503 with the reason when not (also while an ingest core stands still: its publishers are not received); the state of
/// each disk either way. With one of several disks in trouble recording goes on: "degraded", and 200.
pub(super) fn health_answer(
    catalog: Catalog,
    encoder: EncoderState,
    storage: Arc<Storage>,
    ingest: Arc<ingest::Shared>,
    (absent, waiting, trouble): (Vec<Absent>, Arc<recovery::Waiting>, CatalogTrouble),
) -> Box<dyn Fn() -> Result<String, String> + Send + Sync> {
    Box::new(move || {
        let catalog = catalog.last_file_id().err().map(|error| error.to_string());
        let (disks, disks_are_well, records) = disks::describe(&storage, &absent);
        let still: Vec<String> = ingest.standing_still(STANDSTILL).map(|core| core.to_string()).collect();
        let works = catalog.is_none() && records && still.is_empty();
        // Recording goes on, and what is recorded is found at the next start.
        let trouble = trouble.get();
        let well = works && disks_are_well && waiting.counts().is_none() && trouble.is_none();
        // Recording goes on without an encoder: what is missing is said, and all is well.
        let encoder = match &*encoder.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Ok(version) => serde_json::json!({ "encoder": version }),
            Err(sentence) => serde_json::json!({ "error": sentence }),
        };
        let mut answer = serde_json::json!({"status": if well { "ok" } else { "degraded" }, "disks": disks, "processing": encoder});
        if let Some((recordings, arenas)) = waiting.counts() {
            // What an earlier run had received, and a disk does not take.
            answer["recovery"] = serde_json::json!({"waiting_recordings": recordings, "waiting_arenas": arenas});
        }
        if !still.is_empty() {
            answer["ingest"] = format!("ingest core {} stands still: publishers on it are not received", still.join(" and ")).into();
        }
        if let Some(error) = catalog.or(trouble) {
            answer["catalog"] = error.into();
        }
        if works { Ok(answer.to_string()) } else { Err(answer.to_string()) }
    })
}
