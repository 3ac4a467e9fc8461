//! The schema and its history. A migration that has been released is never edited: a change is another one at the end.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::{CatalogError, reindex};

/// How long a statement waits for a lock that another process (a shell, a backup) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Times are microseconds since the Unix epoch. Unsigned 64-bit ids are stored as the signed number of the same bits.
const MIGRATIONS: &[M<'_>] = &[
    M::up(
        "
    -- AUTOINCREMENT: an id is never used again. They count from 1001.
    CREATE TABLE template (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT;
    INSERT INTO sqlite_sequence (name, seq) VALUES ('template', 1000);

    -- The id is the order of creation.
    CREATE TABLE rule (
        id INTEGER PRIMARY KEY,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        template_id INTEGER NOT NULL REFERENCES template (id),
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        UNIQUE (domain, app, stream)
    ) STRICT;
    CREATE INDEX rule_by_template ON rule (template_id);

    -- A task that was stopped and then deleted stays, hidden, until it is purged: an ingest core that never saw it stopped would otherwise go on
    -- recording to the end of its window.
    CREATE TABLE task (
        id TEXT PRIMARY KEY,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        start_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL,
        template_id INTEGER NOT NULL,
        stream_type INTEGER NOT NULL,
        extension TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        stopped INTEGER,
        deleted INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX task_by_start ON task (start_time, id);
    CREATE INDEX task_by_end ON task (end_time);

    -- What a search looks at, in narrow rows. The entry is the create time, made unique by counting up: the order of the table is the order of
    -- answers, and a range of create times is a range of keys.
    CREATE TABLE media (
        entry INTEGER PRIMARY KEY,
        file_id INTEGER NOT NULL UNIQUE,
        sub_app_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        format TEXT NOT NULL,
        category TEXT NOT NULL,
        storage_class TEXT NOT NULL,
        class_id INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        expire_time INTEGER
    ) STRICT;
    CREATE INDEX media_by_app ON media (sub_app_id, entry, expire_time);
    CREATE INDEX media_by_expiry ON media (sub_app_id, expire_time, entry) WHERE expire_time IS NOT NULL;

    -- The whole finished file as JSON: read for the rows of a page only.
    CREATE TABLE media_file (entry INTEGER PRIMARY KEY REFERENCES media (entry), file TEXT NOT NULL) STRICT;

    -- Inverted index; the rowid is the entry. Its tokens are made by `index.rs`, so the tokenizer has nothing to do but to cut at spaces.
    CREATE VIRTUAL TABLE media_index USING fts5 (tokens, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');
    ",
    ),
    M::up(
        "
    -- Domains that were added, with their push keys, as JSON: the quota is a few thousand and they are all read together.
    CREATE TABLE live_domain (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;

    CREATE TABLE forbidden_stream (
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        resume_time INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (domain, app, stream)
    ) STRICT;

    -- Publications, running ones too (their end is the largest number), and refused attempts. The id is the order of entry.
    CREATE TABLE stream_event (
        id INTEGER PRIMARY KEY,
        publication INTEGER NOT NULL UNIQUE,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        begin_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        reason TEXT NOT NULL,
        client TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX stream_event_by_end ON stream_event (end_time, id);
    CREATE INDEX stream_event_by_kind ON stream_event (refused, id);
     ",
    ),
    M::up(
        "
    -- The format that a task of the older calls carries, as JSON; NULL: a task of CreateRecordTask, its template says.
    ALTER TABLE task ADD COLUMN own TEXT;
    -- Numbers of those tasks, never used again, and how many were made in the last day.
    CREATE TABLE older_task (number INTEGER PRIMARY KEY AUTOINCREMENT, create_time INTEGER NOT NULL) STRICT;
    ",
    ),
    M::up(
        "
    -- Numbers that only grow: the greatest file id there ever was (a deleted file's is not used again), the version of the index's tokens, and how far
    -- a new version of them has come.
    CREATE TABLE high_water (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO high_water (name, value) SELECT 'file_id', coalesce(max(file_id), 0) FROM media;
    INSERT INTO high_water (name, value) VALUES ('index_version', 1);

    -- Application 0 is the main one. AUTOINCREMENT: ids count from 1500000001 and are never used again.
    CREATE TABLE sub_app (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT;
    INSERT INTO sub_app (id, body) VALUES (0, json_object('name', 'Main', 'create_time', unixepoch() * 1000000));
    UPDATE sqlite_sequence SET seq = 1500000000 WHERE name = 'sub_app';

    -- Classes never move, so the level and the way to the top are fixed. A parent of -1 is the top.
    CREATE TABLE class (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sub_app_id INTEGER NOT NULL,
        parent_id INTEGER NOT NULL,
        level INTEGER NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (sub_app_id, parent_id, name)
    ) STRICT;
    -- There were no classes, whatever templates said.
    UPDATE media SET class_id = 0 WHERE class_id <> 0;

    -- Tags as a JSON list; the rest of what users add to a file is read for the rows of a page only.
    ALTER TABLE media ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE media_file ADD COLUMN extras TEXT NOT NULL DEFAULT '{}';

    -- Files whose rows were deleted and whose bytes have to follow; `done` when they did. A row stays for a while: a finished file's note that comes
    -- back after a crash must not bring its entry back.
    CREATE TABLE removal (
        id INTEGER PRIMARY KEY,
        file_id INTEGER NOT NULL,
        folder TEXT NOT NULL,
        entry TEXT NOT NULL,
        whole INTEGER NOT NULL,
        done INTEGER
    ) STRICT;
    CREATE INDEX removal_by_file ON removal (file_id);
    CREATE INDEX removal_by_done ON removal (done);

    -- Events of applications that fetch them. `visible` is when an event may be handed out (again); AUTOINCREMENT: a handle never means another event.
    CREATE TABLE event_config (sub_app_id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE catalog_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sub_app_id INTEGER NOT NULL,
        create_time INTEGER NOT NULL,
        visible INTEGER NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX catalog_event_by_visible ON catalog_event (sub_app_id, visible, id);
    CREATE INDEX catalog_event_by_time ON catalog_event (create_time);
    ",
    ),
    M::up(
        "
    -- Work on files that was asked for (EditMedia, task flows), for as long as it can be asked about. `work` is what its worker needs, `object` what is
    -- shown and sent, both JSON. `finish_time` is NULL until it is over.
    CREATE TABLE vod_task (
        id TEXT PRIMARY KEY,
        sub_app_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        file_id INTEGER,
        priority INTEGER NOT NULL,
        create_time INTEGER NOT NULL,
        begin_time INTEGER,
        finish_time INTEGER,
        session_id TEXT NOT NULL,
        session_context TEXT NOT NULL,
        work TEXT NOT NULL,
        object TEXT NOT NULL
    ) STRICT;
    CREATE INDEX vod_task_by_create ON vod_task (sub_app_id, create_time, id);
    CREATE INDEX vod_task_by_finish ON vod_task (sub_app_id, finish_time, id) WHERE finish_time IS NOT NULL;
    CREATE INDEX vod_task_open ON vod_task (kind, priority, create_time) WHERE finish_time IS NULL;
    CREATE INDEX vod_task_by_session ON vod_task (sub_app_id, session_id) WHERE session_id <> '';
    ",
    ),
    M::up(
        "
    -- Custom definitions of renditions and pictures, as JSON. AUTOINCREMENT: they count from 1400001 and are never used again.
    CREATE TABLE definition (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sub_app_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL
    ) STRICT;
    INSERT INTO sqlite_sequence (name, seq) VALUES ('definition', 1400000);
    CREATE INDEX definition_by_kind ON definition (sub_app_id, kind, id);

    -- Task flows and players.
    CREATE TABLE named_definition (
        sub_app_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        PRIMARY KEY (sub_app_id, kind, name)
    ) STRICT;
    ",
    ),
    M::up(
        "
    -- Callback templates and rules, as record templates and rules; a callback rule names no stream.
    CREATE TABLE callback_template (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT;
    INSERT INTO sqlite_sequence (name, seq) VALUES ('callback_template', 1000);
    CREATE TABLE callback_rule (
        id INTEGER PRIMARY KEY,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        template_id INTEGER NOT NULL REFERENCES callback_template (id),
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        UNIQUE (domain, app, stream)
    ) STRICT;
    CREATE INDEX callback_rule_by_template ON callback_rule (template_id);

    -- What the end of a publication is told with when the appliance was killed meanwhile.
    ALTER TABLE stream_event ADD COLUMN stream_param TEXT NOT NULL DEFAULT '';
    ALTER TABLE stream_event ADD COLUMN alias_domain TEXT NOT NULL DEFAULT '';

    -- Messages to receivers. state: 0 waits, 1 was taken, 2 was given up. Of those that wait, the messages about one stream go to one address in the
    -- order of their ids; `due` is when the first of them is tried (again), and NULL for those behind it. AUTOINCREMENT: receivers tell repeats by the id.
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        url TEXT NOT NULL,
        stream TEXT NOT NULL,
        event TEXT NOT NULL,
        sign INTEGER NOT NULL,
        key TEXT NOT NULL,
        body TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        state INTEGER NOT NULL,
        due INTEGER,
        attempts INTEGER NOT NULL,
        last_time INTEGER NOT NULL,
        last_answer TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outbox_due ON outbox (url, due) WHERE due IS NOT NULL;
    CREATE INDEX outbox_waiting ON outbox (url, stream, id) WHERE state = 0;
    CREATE INDEX outbox_ended ON outbox (state, last_time) WHERE state <> 0;

    -- How many messages wait for each address.
    CREATE TABLE outbox_address (url TEXT PRIMARY KEY, waiting INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TRIGGER outbox_enters AFTER INSERT ON outbox WHEN new.state = 0 BEGIN
        INSERT INTO outbox_address (url, waiting) VALUES (new.url, 1) ON CONFLICT (url) DO UPDATE SET waiting = waiting + 1;
    END;
    CREATE TRIGGER outbox_enters_again AFTER UPDATE OF state ON outbox WHEN new.state = 0 AND old.state <> 0 BEGIN
        INSERT INTO outbox_address (url, waiting) VALUES (new.url, 1) ON CONFLICT (url) DO UPDATE SET waiting = waiting + 1;
    END;
    CREATE TRIGGER outbox_ends AFTER UPDATE OF state ON outbox WHEN new.state <> 0 AND old.state = 0 BEGIN
        UPDATE outbox_address SET waiting = waiting - 1 WHERE url = new.url;
        DELETE FROM outbox_address WHERE url = new.url AND waiting = 0;
    END;
    ",
    ),
    M::up(
        "
    -- Names of files to be removed, as a JSON list, where it is neither the folder nor the original.
    ALTER TABLE removal ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';
    ",
    ),
    M::up(
        "
    -- The data folder of a file, by the begin of its place (labels have nine letters): which files make room on a disk that is nearly full. Taken out of the
    -- text as it is written, because rows that are no JSON are to be had too.
    CREATE INDEX media_file_by_folder ON media_file (
        CASE substr(file, instr(file, '\"folder\":\"') + 10, 6) WHEN 'media/' THEN 'media' ELSE substr(file, instr(file, '\"folder\":\"') + 10, 9) END
    );
    ",
    ),
    M::up(
        "
    -- Recordings whose begin was told and whose end was not yet: what is told of them when the appliance was killed meanwhile.
    CREATE TABLE running_recording (
        session INTEGER NOT NULL,
        format TEXT NOT NULL,
        publication INTEGER NOT NULL,
        domain TEXT NOT NULL,
        app TEXT NOT NULL,
        stream TEXT NOT NULL,
        alias_domain TEXT NOT NULL,
        source TEXT NOT NULL,
        PRIMARY KEY (session, format)
    ) STRICT, WITHOUT ROWID;
    ",
    ),
];

/// Opens the writer's connection and brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, CatalogError> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let describe = |error: rusqlite::Error| CatalogError::from(error).within(path);
    connection.pragma_update(None, "journal_mode", "WAL").map_err(describe)?;
    // Committed means on the disk: the caller tells the world about it next.
    connection.pragma_update(None, "synchronous", "FULL").map_err(describe)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(describe)?;
    // After a burst the write-ahead log shrinks again.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(describe)?;
    Migrations::from_slice(MIGRATIONS).to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => CatalogError::from(err).within(path),
        error => CatalogError::Storage(format!("{}: bringing the schema up to date: {error}", path.display())),
    })?;
    reindex::bring_up_to_date(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that refuses to write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, CatalogError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    // 8 MiB each: the inner pages of the indexes of a large catalog.
    connection.pragma_update(None, "cache_size", -8192)?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, CatalogError> {
    let connection =
        Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|error| CatalogError::from(error).within(path))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_are_sound() {
        assert_eq!(Migrations::from_slice(MIGRATIONS).validate(), Ok(()));
    }
}
