//! Who is told of a stream and its recordings: from what happened to messages in the outbox.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::callback::{EVENT_RECORD, EVENT_RECORD_EXCEPTION, callback_of};
use crate::domain::event::ExceptionLevel;
use crate::domain::{CallbackAddress, CallbackTemplate, LiveEvent, LiveEventKind, RecordingIdentity};
use crate::units::{StreamKey, TemplateId, WallTime};

use super::outbox::{self, MessageSign, NewMessage};
use super::{Catalog, CatalogError, MediaRow, templates, unstored};

/// What a callback tells.
pub enum Callback<'a> {
    Live(&'a LiveEvent),
    /// A file is ready.
    Recorded(&'a MediaRow),
    /// A file lies elsewhere than its template says; why, in words.
    Misplaced {
        file: &'a RecordingIdentity,
        time: WallTime,
        why: &'a str,
    },
}

/// Writes the body of a callback without its signature: a JSON object.
pub type CallbackWriter = Arc<dyn Fn(&Callback<'_>) -> String + Send + Sync>;

impl Catalog {
    /// Sets how callbacks are written. Without it nobody is called.
    pub fn set_callback_writer(&self, writer: CallbackWriter) {
        // The second call does nothing: the callbacks of one run look alike.
        let _ = self.inner.callback_writer.set(writer);
    }

    pub(super) fn callback_writer(&self) -> Option<CallbackWriter> {
        self.inner.callback_writer.get().cloned()
    }
}

/// The template of the rule that names the stream most exactly: domain and app, then the domain alone; its own domain first, then its other one.
fn template_for(connection: &Connection, key: &StreamKey, alias_domain: &str) -> Result<Option<CallbackTemplate>, CatalogError> {
    // That of the application goes before that of the whole domain.
    let mut statement = connection.prepare_cached("SELECT template_id FROM callback_rule WHERE domain = ?1 AND app = ?2 AND stream = ''")?;
    for domain in [&*key.domain, alias_domain].into_iter().filter(|domain| !domain.is_empty()) {
        for app in [&*key.app, ""] {
            let found: Option<i64> = statement.query_row(params![domain.to_ascii_lowercase(), app], |row| row.get(0)).optional()?;
            if let Some(id) = found {
                return templates::one(connection, TemplateId(unstored(id))).map(Some);
            }
        }
    }
    Ok(None)
}

/// Puts what happened to a stream into the outbox, if somebody wants to know. True: it is there.
pub(super) fn enter_live(connection: &Connection, writer: &CallbackWriter, event: &LiveEvent, now: WallTime) -> Result<bool, CatalogError> {
    let Some((number, address)) = callback_of(&event.kind) else { return Ok(false) };
    let publisher = &event.publisher;
    let Some(template) = template_for(connection, &publisher.key, &publisher.alias_domain)? else { return Ok(false) };
    if let LiveEventKind::RecordException { level, .. } = event.kind
        && !template.tells(level)
    {
        return Ok(false);
    }
    post(connection, &template, address, number, &publisher.key, now, || writer(&Callback::Live(event)))
}

/// As [`enter_live`], of a file that entered the catalog.
pub(super) fn enter_recorded(
    connection: &Connection,
    writer: &CallbackWriter,
    file: &RecordingIdentity,
    row: impl FnOnce() -> Result<MediaRow, CatalogError>,
    now: WallTime,
) -> Result<bool, CatalogError> {
    let Some(template) = template_for(connection, &file.key, &file.alias_domain)? else { return Ok(false) };
    if template.address(CallbackAddress::Record).is_empty() {
        return Ok(false);
    }
    let row = row()?;
    post(connection, &template, CallbackAddress::Record, EVENT_RECORD, &file.key, now, || writer(&Callback::Recorded(&row)))
}

/// As [`enter_live`], of a file that was saved elsewhere than its template says: a warning.
pub(super) fn enter_misplaced(
    connection: &Connection,
    writer: &CallbackWriter,
    file: &RecordingIdentity,
    why: &str,
    now: WallTime,
) -> Result<bool, CatalogError> {
    let Some(template) = template_for(connection, &file.key, &file.alias_domain)? else { return Ok(false) };
    if !template.tells(ExceptionLevel::Warning) {
        return Ok(false);
    }
    let body = || writer(&Callback::Misplaced { file, time: now, why });
    post(connection, &template, CallbackAddress::RecordException, EVENT_RECORD_EXCEPTION, &file.key, now, body)
}

fn post(
    connection: &Connection,
    template: &CallbackTemplate,
    address: CallbackAddress,
    number: u32,
    key: &StreamKey,
    now: WallTime,
    body: impl FnOnce() -> String,
) -> Result<bool, CatalogError> {
    let url = template.address(address);
    if url.is_empty() {
        return Ok(false);
    }
    let (stream, event, body) = (key.to_string(), number.to_string(), body());
    let message = NewMessage { url, stream: &stream, event: &event, sign: MessageSign::Live, key: &template.key, body: &body };
    outbox::enter(connection, &message, now).map(|()| true)
}
