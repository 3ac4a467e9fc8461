//! Who may import whom, and what pure rooms must not touch.
//!
//! Reads every file under `src`, finds the paths in it (`use` trees and paths in code, comments and strings left out) and compares them with
//! [`ROOMS`], [`CRATES`] and [`PURE_BANS`]. A new room has to be entered in the table before anything may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// Every room may use these; among themselves they go by [`ROOMS`].
const COMMON: &[&str] = &["units", "limits", "wire", "metrics"];

/// A room and what it may use besides [`COMMON`] and itself. `room::Name` allows that one path, `*` everything.
const ROOMS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("limits", &["units"]),
    ("wire", &["units", "limits"]),
    ("metrics", &["units", "limits", "wire"]),
    ("config", &[]),
    // What a finished file holds is a plain value; the catalog's row needs it.
    ("domain", &["container::MediaSummary"]),
    // The bytes of a message where they lie: a plain value that chunks produce and frames carry. RTMP knows no codecs.
    ("rtmp", &["domain", "media::payload", "media::Payload"]),
    ("codec", &["domain"]),
    ("media", &["domain", "rtmp", "codec"]),
    ("container", &["domain", "codec", "media"]),
    ("recorder", &["domain", "codec", "media", "container"]),
    ("segment", &["domain", "container"]),
    ("ingest", &["config", "domain", "rtmp", "media", "recorder", "segment", "container"]),
    ("catalog", &["domain", "container::MediaSummary", "container::TrackSummary"]),
    // Its addresses are answered on the control port too.
    ("control", &["config", "domain", "catalog", "delivery", "clips"]),
    // Makes files of recordings, as `delivery` finds them.
    ("clips", &["domain", "catalog", "container", "media", "segment", "delivery"]),
    // Reads what `segment` wrote, knows it by the catalog, and packages it with the containers' writers.
    ("delivery", &["domain", "catalog", "container", "codec", "media", "segment"]),
    ("notify", &["domain", "catalog"]),
    ("process", &["domain", "catalog"]),
    // Deletes what has expired and removes the bytes of what was deleted.
    ("retention", &["domain", "catalog", "segment"]),
    // Parts of the start, for `app` alone.
    ("logging", &["config"]),
    ("preflight", &["config", "segment"]),
    ("supervise", &[]),
    // Commands of their own.
    ("inspect", &["domain", "codec", "media", "container", "segment", "logging"]),
    // What a killed process left, through a recorder.
    ("replay", &["recorder", "segment"]),
    // The data folders and their threads, for `app` alone.
    ("disks", &["config", "domain", "segment", "replay"]),
    ("recovery", &["segment", "disks"]),
    // Calls a running appliance; signs as the control plane checks.
    ("client", &["config", "logging", "control::auth::sign_tc3", "control::protocol::Version"]),
    // What `app` starts with, and a command of its own.
    ("catalog_watch", &["rescue", "catalog"]),
    ("rescue", &["config", "domain", "catalog", "segment", "preflight", "logging"]),
    ("app", &["*"]),
    ("main", &["*"]),
    // The module list only.
    ("lib", &[]),
];

/// Rooms below `config`, `domain` and the rest: they do not even get all of [`COMMON`].
const GROUND: &[&str] = &["units", "limits", "wire", "metrics"];

/// A crate and a place (a file, or a folder ending in `/`) that may name it.
const CRATES: &[(&str, &str)] = &[
    ("glommio", "src/ingest/"),
    ("tiny_http", "src/control/server.rs"),
    ("rusqlite", "src/catalog/"),
    ("rusqlite_migration", "src/catalog/"),
    ("memmap2", "src/segment/"),
    ("io_uring", "src/segment/ring.rs"),
    ("libc", "src/segment/huge.rs"),
];

/// The files with `unsafe` blocks: the arena's mapping, its pages, and the writes that the kernel carries out from it.
const UNSAFE_FILES: &[&str] = &["src/segment/arena.rs", "src/segment/huge.rs", "src/segment/ring.rs"];

/// Sans-IO rooms: time is an argument, bytes come in and go out. This is what keeps an hour of stream replayable in seconds.
const PURE: &[&str] = &["rtmp", "codec", "media", "container", "recorder", "domain"];

/// Modules that [`PURE`] rooms must not name outside `#[cfg(test)]`.
const PURE_BANS: &[&[&str]] =
    &[&["std", "fs"], &["std", "net"], &["std", "thread"], &["rustix"], &["socket2"], &["crossbeam"], &["tracing_subscriber"]];

/// Types whose `now` reads a clock.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "Timestamp", "Zoned"];

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Breach {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    /// `::`
    PathSep,
    Punct(char),
}

impl Token {
    fn word(&self) -> Option<&str> {
        match self {
            Token::Word(text) => Some(text),
            _ => None,
        }
    }
}

/// Words and punctuation with their lines; comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<(Token, usize)> {
    let bytes: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let get = |index: usize| bytes.get(index).copied().unwrap_or('\0');
    while at < bytes.len() {
        let start = at;
        let first = bytes[at];
        if first == '/' && get(at + 1) == '/' {
            while at < bytes.len() && bytes[at] != '\n' {
                at += 1;
            }
        } else if first == '/' && get(at + 1) == '*' {
            let mut depth = 0;
            loop {
                match (get(at), get(at + 1)) {
                    ('/', '*') => (depth, at) = (depth + 1, at + 2),
                    ('*', '/') => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 || at >= bytes.len() {
                    break;
                }
            }
        } else if let Some((open, hashes)) = string_start(&bytes, at) {
            at = string_end(&bytes, open, hashes);
        } else if first == '\'' {
            // A character ends with a quote one (or an escape) later; anything else is a lifetime.
            if get(at + 1) == '\\' {
                at += 3;
                while at < bytes.len() && bytes[at] != '\'' {
                    at += 1;
                }
                at += 1;
            } else if get(at + 2) == '\'' {
                at += 3;
            } else {
                at += 1;
                while get(at).is_alphanumeric() || get(at) == '_' {
                    at += 1;
                }
            }
        } else if first.is_alphanumeric() || first == '_' {
            while get(at).is_alphanumeric() || get(at) == '_' {
                at += 1;
            }
            tokens.push((Token::Word(bytes[start..at].iter().collect()), line));
        } else if first == ':' && get(at + 1) == ':' {
            tokens.push((Token::PathSep, line));
            at += 2;
        } else {
            if !first.is_whitespace() {
                tokens.push((Token::Punct(first), line));
            }
            at += 1;
        }
        at = at.min(bytes.len());
        line += bytes[start..at].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// The index behind the opening quote and the number of `#` (`None` for a string with escapes), if a string starts here.
fn string_start(bytes: &[char], at: usize) -> Option<(usize, Option<usize>)> {
    let mut index = at;
    while index - at < 2 && matches!(bytes.get(index), Some('b' | 'c' | 'r')) {
        index += 1;
    }
    let raw = index > at && bytes[index - 1] == 'r';
    let quote = index;
    if raw {
        while bytes.get(index) == Some(&'#') {
            index += 1;
        }
    }
    (bytes.get(index) == Some(&'"')).then_some((index + 1, raw.then_some(index - quote)))
}

fn string_end(bytes: &[char], mut at: usize, hashes: Option<usize>) -> usize {
    while at < bytes.len() {
        match (bytes[at], hashes) {
            ('\\', None) => at += 1,
            ('"', None) => return at + 1,
            ('"', Some(count)) if bytes[at + 1..].iter().take(count).filter(|&&c| c == '#').count() == count => return at + 1 + count,
            _ => {}
        }
        at += 1;
    }
    at
}

/// One path as written and where; `in_test`: inside `#[cfg(test)]`.
#[derive(Debug)]
struct Named {
    path: Vec<String>,
    line: usize,
    in_test: bool,
}

#[derive(Debug, Default)]
struct Found {
    /// Paths from the crate root (first element `crate`) or from an extern crate.
    paths: Vec<Named>,
    unsafe_lines: Vec<usize>,
    /// Modules declared as `#[cfg(test)] mod name;`: their file is test code.
    test_modules: Vec<Vec<String>>,
}

/// Paths in `source`, whose module is `module` (`["rtmp", "chunk"]` for src/rtmp/chunk.rs).
fn find(source: &str, module: &[String]) -> Found {
    let tokens = tokens(source);
    let mut found = Found::default();
    // Open inline modules: name, brace depth inside, whether test code.
    let mut inline: Vec<(String, usize, bool)> = Vec::new();
    let (mut at, mut depth) = (0, 0);
    let mut test_attribute = false;
    while at < tokens.len() {
        let (token, line) = &tokens[at];
        let in_test = inline.iter().any(|(_, _, test)| *test);
        let here: Vec<String> = module.iter().cloned().chain(inline.iter().map(|(name, _, _)| name.clone())).collect();
        match token {
            Token::Punct('#') => {
                let end = skip_attribute(&tokens, at);
                let words: Vec<&str> = tokens[at..end].iter().filter_map(|(token, _)| token.word()).collect();
                if words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not") {
                    test_attribute = true;
                }
                at = end;
                continue;
            }
            Token::Punct('{') => depth += 1,
            Token::Punct('}') => {
                depth -= 1;
                while inline.last().is_some_and(|(_, inside, _)| *inside > depth) {
                    inline.pop();
                }
            }
            Token::Word(word) if word == "mod" => {
                if let (Some((Token::Word(name), _)), Some((next, _))) = (tokens.get(at + 1), tokens.get(at + 2)) {
                    if *next == Token::Punct('{') {
                        inline.push((name.clone(), depth + 1, test_attribute));
                    } else if test_attribute {
                        found.test_modules.push(here.iter().chain([name]).cloned().collect());
                    }
                    test_attribute = false;
                    at += 2;
                    continue;
                }
            }
            Token::Word(word) if word == "unsafe" => found.unsafe_lines.push(*line),
            // `use<'a>` in a type is no import.
            Token::Word(word) if word == "use" && tokens.get(at + 1).is_some_and(|(next, _)| *next != Token::Punct('<')) => {
                let mut paths = Vec::new();
                at = use_tree(&tokens, at + 1, &[], &mut paths);
                for (path, line) in paths.into_iter().filter(|(path, _)| !path.is_empty()) {
                    found.paths.push(Named { path: absolute(path, &here), line, in_test: in_test || test_attribute });
                }
                test_attribute = false;
                continue;
            }
            Token::Word(_) if starts_path(&tokens, at) => {
                let (path, end) = plain_path(&tokens, at);
                if path.len() > 1 {
                    found.paths.push(Named { path: absolute(path, &here), line: *line, in_test });
                    at = end;
                    continue;
                }
            }
            Token::Punct(';') => test_attribute = false,
            _ => {}
        }
        at += 1;
    }
    found
}

fn skip_attribute(tokens: &[(Token, usize)], mut at: usize) -> usize {
    at += 1;
    if tokens.get(at).is_some_and(|(token, _)| *token == Token::Punct('!')) {
        at += 1;
    }
    if tokens.get(at).is_none_or(|(token, _)| *token != Token::Punct('[')) {
        return at;
    }
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].0 {
            Token::Punct('[') => depth += 1,
            Token::Punct(']') => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Reads one use tree from `at`; every leaf becomes a path. Returns the index behind it.
fn use_tree(tokens: &[(Token, usize)], mut at: usize, prefix: &[String], leaves: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(_, line)| *line);
    loop {
        match tokens.get(at).map(|(token, _)| token) {
            Some(Token::PathSep) => at += 1,
            Some(Token::Word(word)) if word == "as" => at += 2,
            Some(Token::Word(word)) => {
                path.push(word.clone());
                at += 1;
            }
            Some(Token::Punct('*')) => {
                path.push("*".to_owned());
                at += 1;
            }
            Some(Token::Punct('{')) => {
                at += 1;
                loop {
                    match tokens.get(at).map(|(token, _)| token) {
                        Some(Token::Punct('}')) => return at + 1,
                        Some(Token::Punct(',')) => at += 1,
                        Some(_) => {
                            let before = at;
                            at = use_tree(tokens, at, &path, leaves);
                            if at == before {
                                at += 1;
                            }
                        }
                        None => return at,
                    }
                }
            }
            _ => {
                leaves.push((path, line));
                return at;
            }
        }
    }
}

/// Not the tail of `path::<T>::tail` or `<T as Trait>::tail`; a leading `::` belongs to the path.
fn starts_path(tokens: &[(Token, usize)], at: usize) -> bool {
    let before = |steps: usize| at.checked_sub(steps).map(|index| &tokens[index].0);
    before(1) != Some(&Token::PathSep) || !matches!(before(2), Some(Token::Word(_) | Token::Punct('>' | ')' | ']')))
}

fn plain_path(tokens: &[(Token, usize)], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(Token::Word(word)) = tokens.get(at).map(|(token, _)| token) {
        path.push(word.clone());
        at += 1;
        if tokens.get(at).is_some_and(|(token, _)| *token == Token::PathSep) && tokens.get(at + 1).is_some_and(|(next, _)| next.word().is_some()) {
            at += 1;
        } else {
            break;
        }
    }
    (path, at)
}

/// Turns `self::`, `super::` and the library's own name into a path from `crate`.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base: Vec<String> = module.to_vec();
    let mut rest = &path[..];
    match rest.first().map(String::as_str) {
        Some("capstan") => base.clear(),
        Some("self") => {}
        Some("super") => {
            base.pop();
        }
        _ => return path,
    }
    rest = &rest[1..];
    while rest.first().is_some_and(|word| word == "super") {
        base.pop();
        rest = &rest[1..];
    }
    std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
}

/// `src/rtmp/chunk.rs` -> `["rtmp", "chunk"]`, `src/rtmp/mod.rs` -> `["rtmp"]`, `src/lib.rs` -> `[]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") || matches!(module[..], [ref only] if only == "lib" || only == "main") {
        module.pop();
    }
    module
}

fn room_of(file: &str) -> String {
    let inner = file.trim_start_matches("src/");
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs").to_owned()
}

fn may_use(room: &str, path: &[String]) -> bool {
    let target = path[0].as_str();
    if target == room {
        return true;
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else { return false };
    if COMMON.contains(&target) && !GROUND.contains(&room) {
        return true;
    }
    allowed.iter().any(|entry| {
        let parts: Vec<&str> = entry.split("::").collect();
        *entry == "*" || (parts.len() <= path.len() && parts.iter().zip(path).all(|(part, word)| part == word))
    })
}

/// Checks `(file, source)` pairs; files are named from the repository's root.
fn breaches(files: &[(String, String)]) -> Vec<Breach> {
    let rooms: BTreeSet<String> = files.iter().map(|(file, _)| room_of(file)).chain(ROOMS.iter().map(|(room, _)| (*room).to_owned())).collect();
    let found: BTreeMap<&str, Found> = files.iter().map(|(file, source)| (file.as_str(), find(source, &module_of(file)))).collect();
    let test_modules: BTreeSet<Vec<String>> = found.values().flat_map(|found| found.test_modules.iter().cloned()).collect();
    let mut breaches = BTreeSet::new();
    for (file, found) in &found {
        let room = room_of(file);
        let module = module_of(file);
        let test_file = (0..=module.len()).any(|length| test_modules.contains(&module[..length]));
        let mut report = |line: usize, what: String| {
            breaches.insert(Breach { file: (*file).to_owned(), line, what });
        };
        if !ROOMS.iter().any(|(name, _)| *name == room) {
            report(1, format!("the room {room} is not in the table of tests/tidy.rs"));
        }
        for line in &found.unsafe_lines {
            if !UNSAFE_FILES.contains(file) {
                report(*line, format!("unsafe outside {}", UNSAFE_FILES.join(" and ")));
            }
        }
        for Named { path, line, in_test } in &found.paths {
            let in_test = *in_test || test_file;
            let written = path.join("::");
            let first = path[0].as_str();
            // main.rs and lib.rs are roots: a bare room name there is a path, too.
            let from_root = first == "crate" || (module.is_empty() && rooms.contains(first) && first != "main" && first != "lib");
            if from_root {
                let inner = if first == "crate" { &path[1..] } else { &path[..] };
                match inner.first() {
                    None => {}
                    Some(target) if target == "*" => report(*line, format!("{written}: names the whole crate")),
                    Some(target) if rooms.contains(target) && !may_use(&room, inner) => report(*line, format!("{room} may not use {written}")),
                    Some(_) => {}
                }
            }
            let places: Vec<&str> = CRATES.iter().filter(|(name, _)| first == *name).map(|(_, place)| *place).collect();
            let is_place = |place: &str| if place.ends_with('/') { file.starts_with(place) } else { *file == place };
            if !places.is_empty() && !places.iter().any(|place| is_place(place)) {
                report(*line, format!("{first} is for {} only", places.join(" and ")));
            }
            if PURE.contains(&room.as_str()) && !in_test {
                for ban in PURE_BANS {
                    if path.len() >= ban.len() && ban.iter().zip(path).all(|(banned, word)| banned == word) {
                        report(*line, format!("{written} in {room}, which does no input or output"));
                    }
                }
                if path.iter().map(String::as_str).take(2).eq(["std", "*"]) {
                    report(*line, format!("{written}: names all of std"));
                }
                if path.windows(2).any(|pair| CLOCKS.contains(&pair[0].as_str()) && pair[1] == "now") {
                    report(*line, format!("{written} in {room}: time is an argument there"));
                }
            }
        }
    }
    breaches.into_iter().collect()
}

fn sources(folder: &Path, root: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("reading a source folder").map(|entry| entry.expect("a folder entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push((name, fs::read_to_string(&path).expect("reading a source file")));
        }
    }
}

#[test]
fn every_room_keeps_to_its_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), root, &mut files);
    assert!(files.len() > 10, "found the sources");
    let breaches = breaches(&files);
    let list: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", list.len(), list.join("\n"));
}

/// The table itself: no room uses, over others, one that uses it. `container::MediaSummary` and `media::payload` are values and exempt.
#[test]
fn the_table_has_no_circle() {
    let mut order: Vec<&str> = Vec::new();
    while order.len() < ROOMS.len() {
        let before = order.len();
        for (room, allowed) in ROOMS {
            let ready = allowed.iter().filter(|entry| !entry.contains("::")).all(|entry| *entry == "*" || order.contains(entry));
            if ready && !order.contains(room) {
                order.push(room);
            }
        }
        assert!(order.len() > before, "a circle among the rooms other than {order:?}");
    }
}

/// A file, its source, and what must be found in it (empty: nothing).
const CASES: &[(&str, &str, &str, &[&str])] = &[
    ("a plain import", "src/rtmp/chunk.rs", "use crate::limits::MESSAGE_BYTES_MAX;", &[]),
    ("upwards", "src/rtmp/chunk.rs", "use crate::recorder::Recorder;", &["rtmp may not use crate::recorder::Recorder"]),
    ("codec from rtmp", "src/rtmp/session.rs", "fn f() { crate::codec::avc::parse(); }", &["rtmp may not use crate::codec::avc::parse"]),
    ("payload from rtmp", "src/rtmp/chunk.rs", "use crate::media::payload::{Payload, Span};", &[]),
    (
        "a leaf of a tree",
        "src/rtmp/chunk.rs",
        "use crate::{limits, media::{payload::Span, frame::Frame}};",
        &["rtmp may not use crate::media::frame::Frame"],
    ),
    ("super out of the room", "src/codec/aac.rs", "use super::super::media::Frame;", &["codec may not use crate::media::Frame"]),
    ("super in the room", "src/codec/aac.rs", "use super::avc::Sps;", &[]),
    ("super in an inline module", "src/codec/aac.rs", "mod inner { use super::super::super::control::X; }", &["codec may not use crate::control::X"]),
    ("renamed", "src/codec/aac.rs", "use crate::media as m;", &["codec may not use crate::media"]),
    ("re-exported", "src/codec/aac.rs", "pub(crate) use crate::media::Frame;", &["codec may not use crate::media::Frame"]),
    ("the crate's own name", "src/codec/aac.rs", "use capstan::media::Frame;", &["codec may not use crate::media::Frame"]),
    ("a glob of the crate", "src/codec/aac.rs", "use crate::*;", &["crate::*: names the whole crate"]),
    ("in a test module", "src/codec/aac.rs", "#[cfg(test)] mod tests { use crate::media::Frame; }", &["codec may not use crate::media::Frame"]),
    (
        "in comments and strings",
        "src/rtmp/mod.rs",
        "// use crate::app;\n/* crate::app::run /* */ */ const A: &str = \"crate::app::x\"; const B: &str = r#\"unsafe \" std::fs::read\"#;",
        &[],
    ),
    (
        "characters and lifetimes",
        "src/rtmp/mod.rs",
        "fn f<'a>(x: &'a str) { let q = '\"'; let e = '\\''; std::fs::read(x); }",
        &["std::fs::read in rtmp, which does no input or output"],
    ),
    ("summary from domain", "src/domain/file.rs", "use crate::container::MediaSummary;", &[]),
    (
        "more of container from domain",
        "src/domain/file.rs",
        "use crate::container::mp4::Writer;",
        &["domain may not use crate::container::mp4::Writer"],
    ),
    ("ingest and control", "src/ingest/core.rs", "use crate::control::ControlContext;", &["ingest may not use crate::control::ControlContext"]),
    ("segment and catalog", "src/segment/finish/mod.rs", "use crate::catalog::Catalog;", &["segment may not use crate::catalog::Catalog"]),
    ("app uses all", "src/app.rs", "use crate::{catalog, control, ingest, segment};", &[]),
    ("nobody uses app", "src/control/mod.rs", "use crate::app::run;", &["control may not use crate::app::run"]),
    ("units stand alone", "src/units.rs", "use crate::limits::X;", &["units may not use crate::limits::X"]),
    ("lib lists modules", "src/lib.rs", "pub mod app; pub use app::run;", &["lib may not use app::run"]),
    ("glommio outside", "src/app.rs", "use glommio::LocalExecutor;", &["glommio is for src/ingest/ only"]),
    ("glommio inside", "src/ingest/core.rs", "use glommio::LocalExecutor;", &[]),
    ("glommio in code", "src/app.rs", "fn f() { ::glommio::spawn_local(async {}); }", &["glommio is for src/ingest/ only"]),
    ("tiny_http beside the server", "src/control/actions/live.rs", "use tiny_http::Request;", &["tiny_http is for src/control/server.rs only"]),
    ("rusqlite outside", "src/control/mod.rs", "use rusqlite::Connection;", &["rusqlite is for src/catalog/ only"]),
    ("migrations outside", "src/app.rs", "use rusqlite_migration::M;", &["rusqlite_migration is for src/catalog/ only"]),
    (
        "unsafe outside",
        "src/segment/disk/mod.rs",
        "fn f() { unsafe { g() } }",
        &["unsafe outside src/segment/arena.rs and src/segment/huge.rs and src/segment/ring.rs"],
    ),
    ("unsafe inside", "src/segment/arena.rs", "fn f() { unsafe { g() } }", &[]),
    ("clock", "src/media/timeline.rs", "use std::time::Instant; fn f() { Instant::now(); }", &["Instant::now in media: time is an argument there"]),
    (
        "clock, whole path",
        "src/recorder/mod.rs",
        "fn f() { std::time::SystemTime::now(); }",
        &["std::time::SystemTime::now in recorder: time is an argument there"],
    ),
    ("clock outside", "src/app.rs", "fn f() { std::time::Instant::now(); }", &[]),
    ("files in a tree", "src/container/flv.rs", "use std::{fmt, fs, io};", &["std::fs in container, which does no input or output"]),
    (
        "threads and sockets",
        "src/domain/live.rs",
        "use std::thread;\nuse std::net::IpAddr;",
        &["std::thread in domain, which does no input or output", "std::net::IpAddr in domain, which does no input or output"],
    ),
    ("files in a test module", "src/container/flv.rs", "#[cfg(test)]\nmod tests { use std::fs; mod deep { fn f() { std::fs::read(); } } }", &[]),
    (
        "files behind a test module",
        "src/container/flv.rs",
        "#[cfg(test)] mod tests { }\nuse std::fs;",
        &["std::fs in container, which does no input or output"],
    ),
    (
        "files, test import",
        "src/container/flv.rs",
        "#[cfg(test)]\nuse std::fs;\nuse std::thread;",
        &["std::thread in container, which does no input or output"],
    ),
    ("not a test", "src/container/flv.rs", "#[cfg(not(test))] mod real { use std::fs; }", &["std::fs in container, which does no input or output"]),
    ("a room nobody entered", "src/playback/mod.rs", "", &["the room playback is not in the table of tests/tidy.rs"]),
];

#[test]
fn breaches_are_found_and_nothing_else() {
    for (name, file, source, expected) in CASES {
        let found = breaches(&[((*file).to_owned(), (*source).to_owned())]);
        let mut what: Vec<&str> = found.iter().map(|breach| breach.what.as_str()).collect();
        let mut expected = expected.to_vec();
        what.sort_unstable();
        expected.sort_unstable();
        assert_eq!(what, expected, "{name}");
    }
}

#[test]
fn a_test_module_in_a_file_of_its_own_is_test_code() {
    let pair = |file: &str, source: &str| (file.to_owned(), source.to_owned());
    let body = pair("src/rtmp/cases.rs", "use std::fs;");
    assert_eq!(breaches(&[pair("src/rtmp/mod.rs", "#[cfg(test)]\nmod cases;"), body.clone()]), []);
    assert_eq!(breaches(&[pair("src/rtmp/mod.rs", "mod cases;"), body]).len(), 1);
}

#[test]
fn a_breach_names_the_line() {
    let found = breaches(&[("src/rtmp/mod.rs".to_owned(), "//! Doc\n\nuse std::{\n    fmt,\n    fs,\n};\n".to_owned())]);
    assert_eq!(found.iter().map(Breach::to_string).collect::<Vec<_>>(), ["src/rtmp/mod.rs:5: std::fs in rtmp, which does no input or output"]);
}
