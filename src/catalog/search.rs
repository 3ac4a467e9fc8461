//! SearchMedia: filters, order by relevance or time, paging.
//!
//! The index gives candidates in the order of the answer, newest first; those of an inexact expression are compared with the filters, and the walk ends
//! as soon as the total is known, which is capped. By relevance it walks up to three times: whole names first, then beginnings, then parts.

use std::collections::HashSet;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::units::WallTime;

use super::files::{entry_of, media_row};
use super::index::{Expression, Lookup, Text, Value, fold};
use super::reindex::read_tags;
use super::{Catalog, CatalogError, MediaPage, MediaQuery, classes, stored};

/// Hits are counted up to here, and no page goes beyond (documented by the vendor).
pub const HITS_MAX: u64 = 5000;
/// Files, evenly spread over time, whose texts tell which grams are rare.
const SAMPLE_FILES: i64 = 128;
/// Up to so many files expiring in the range asked for are looked at one by one; of more the index knows.
const EXPIRING_FEW: i64 = if cfg!(test) { 3 } else { 2_000 };
/// The same of files that hold one of each list of texts.
const FEW_OF_TEXTS: i64 = if cfg!(test) { 3 } else { 2_500 };

impl Catalog {
    /// One page of the files that match, and how many match in all (at most [`HITS_MAX`]).
    ///
    /// The order is by relevance if `names`, `descriptions` or `text` is given: the whole name, the beginning of it, a part; then newest first. Otherwise it
    /// is by create time. Patterns are plain text; case does not matter. A file kept for ever matches no filter on the expire time.
    pub fn search(&self, query: &MediaQuery) -> Result<MediaPage, CatalogError> {
        let filter = Filter::new(query);
        self.read(|connection| filter.run(connection))
    }
}

/// How well a file matches; the smaller comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Relevance {
    Whole,
    Prefix,
    Part,
}

/// Every file is of one of these.
const CATEGORIES: [&str; 2] = ["Video", "Audio"];

const RELEVANCES: [Relevance; 3] = [Relevance::Whole, Relevance::Prefix, Relevance::Part];

/// A query made ready: folded patterns, no empty ones, exact values by column.
struct Filter<'a> {
    query: &'a MediaQuery,
    names: Vec<String>,
    name_prefixes: Vec<String>,
    descriptions: Vec<String>,
    text: Option<String>,
    values: Vec<(Value, Vec<String>)>,
    /// Half-open range of create times, which are the entries.
    entries: Range<i64>,
    expiring: Option<Range<i64>>,
}

impl<'a> Filter<'a> {
    fn new(query: &'a MediaQuery) -> Self {
        let lower = |values: &[String]| values.iter().map(|value| value.to_ascii_lowercase()).collect();
        // What was made of recordings is entered without a stream.
        let no_stream = if query.made == Some(true) { vec![String::new()] } else { Vec::new() };
        let values: Vec<(Value, Vec<String>)> = vec![
            (Value::Stream, no_stream),
            (Value::Stream, query.stream_ids.clone()),
            (Value::Domain, lower(&query.stream_domains)),
            (Value::App, query.stream_paths.clone()),
            (Value::Format, lower(&query.media_types)),
            (Value::Category, query.categories.clone()),
            (Value::StorageClass, query.storage_classes.clone()),
            (Value::Class, query.class_ids.iter().map(i64::to_string).collect()),
            (Value::Tag, query.tags.clone()),
        ];
        let range = |after: Option<WallTime>, before: Option<WallTime>| {
            after.map_or(i64::MIN, WallTime::unix_micros)..before.map_or(i64::MAX, WallTime::unix_micros)
        };
        Self {
            query,
            names: patterns(&query.names),
            name_prefixes: patterns(&query.name_prefixes),
            descriptions: patterns(&query.descriptions),
            text: query.text.as_deref().filter(|text| !text.is_empty()).map(fold),
            values: values.into_iter().filter(|(_, wanted)| !wanted.is_empty()).collect(),
            entries: range(query.create_after, query.create_before),
            expiring: (query.expire_after.is_some() || query.expire_before.is_some()).then(|| range(query.expire_after, query.expire_before)),
        }
    }

    fn by_relevance(&self) -> bool {
        !self.names.is_empty() || !self.descriptions.is_empty() || self.text.is_some()
    }

    fn run(&self, connection: &Connection) -> Result<MediaPage, CatalogError> {
        let mut hits = Hits::new(self.query.offset, self.query.limit);
        let is_empty = self.entries.is_empty() || self.expiring.as_ref().is_some_and(Range::is_empty);
        if is_empty {
            // A range that nothing lies in.
        } else if let Some(few) = self.few(connection)? {
            self.among(connection, &few, &mut hits)?;
        } else {
            let sample = self.sample(connection)?;
            if self.text_lists() > 1
                && let Some(few) = self.few_of(connection, self.expression(&sample, None).as_ref())?
            {
                self.among(connection, &few, &mut hits)?;
            } else if self.by_relevance() {
                for relevance in RELEVANCES {
                    if let Some(expression) = self.expression(&sample, Some(relevance))
                        && !hits.is_full()
                    {
                        self.walk(connection, Some(&expression), Some(relevance), &mut hits)?;
                    }
                }
            } else {
                self.walk(connection, self.expression(&sample, None).as_ref(), None, &mut hits)?;
            }
        }
        let rows = hits.page.iter().map(|entry| media_row(connection, *entry)).collect::<Result<_, _>>()?;
        Ok(MediaPage { total: hits.total, rows })
    }

    /// All candidates, where they are few: named by id, or by a range of expire times.
    fn few(&self, connection: &Connection) -> Result<Option<Vec<i64>>, CatalogError> {
        if !self.query.file_ids.is_empty() {
            let entries = self.query.file_ids.iter().map(|id| entry_of(connection, self.query.sub_app_id, *id));
            return Ok(Some(entries.filter_map(Result::transpose).collect::<Result<_, _>>()?));
        }
        let Some(range) = &self.expiring else { return Ok(None) };
        let mut statement = connection.prepare_cached(
            "SELECT entry FROM media INDEXED BY media_by_expiry WHERE sub_app_id = ?1 AND expire_time >= ?2 AND expire_time < ?3 LIMIT ?4",
        )?;
        let few: Vec<i64> = statement
            .query_map(params![stored(self.query.sub_app_id), range.start, range.end, EXPIRING_FEW + 1], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok((few.len() as i64 <= EXPIRING_FEW).then_some(few))
    }

    /// All candidates of an expression, where they are few.
    ///
    /// With several lists of texts each of the three walks by relevance asks for all of them, so one look at few candidates is cheaper.
    fn few_of(&self, connection: &Connection, expression: Option<&Expression>) -> Result<Option<Vec<i64>>, CatalogError> {
        let Some(expression) = expression else { return Ok(None) };
        let mut statement = connection
            .prepare_cached("SELECT rowid FROM media_index WHERE media_index MATCH ?1 AND rowid BETWEEN ?2 AND ?3 ORDER BY rowid DESC LIMIT ?4")?;
        let few: Vec<i64> = statement
            .query_map(params![expression.to_match(), self.entries.start, self.entries.end - 1, FEW_OF_TEXTS + 1], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok((few.len() as i64 <= FEW_OF_TEXTS).then_some(few))
    }

    /// How many lists of texts decide the relevance or take part in it.
    fn text_lists(&self) -> usize {
        usize::from(!self.names.is_empty()) + usize::from(!self.descriptions.is_empty()) + usize::from(self.text.is_some())
    }

    /// A few candidates: compared, sorted, each once.
    fn among(&self, connection: &Connection, entries: &[i64], hits: &mut Hits) -> Result<(), CatalogError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM media WHERE entry = ?1"))?;
        // The classes asked for and all below them; the index knows that by itself.
        let classes = if self.query.class_ids.is_empty() {
            HashSet::new()
        } else {
            classes::trees(connection, self.query.sub_app_id, &self.query.class_ids)?.iter().map(i64::to_string).collect()
        };
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| self.entries.contains(entry)) {
            let mut rows = statement.query([entry])?;
            let Some(row) = rows.next()? else { continue };
            if let Some(relevance) = self.relevance_of(row, &classes)? {
                found.push((relevance, *entry));
            }
        }
        let by_relevance = self.by_relevance();
        let ascending = self.query.ascending && !by_relevance;
        found.sort_unstable_by_key(|(relevance, entry)| (by_relevance.then_some(*relevance), if ascending { *entry } else { !*entry }));
        found.dedup();
        for (_, entry) in found {
            hits.add(entry);
        }
        Ok(())
    }

    /// Walks over the candidates in the order of the answer until enough are counted: those of an expression of the index, or all files. With `wanted`,
    /// only files of that relevance are taken.
    fn walk(&self, connection: &Connection, expression: Option<&Expression>, wanted: Option<Relevance>, hits: &mut Hits) -> Result<(), CatalogError> {
        let (first, last) = (self.entries.start, self.entries.end - 1);
        let order = if self.query.ascending && wanted.is_none() { "ASC" } else { "DESC" };
        let mut statement;
        let (mut rows, is_exact) = match expression {
            None => {
                statement = connection.prepare_cached(&format!(
                    "SELECT entry FROM media INDEXED BY media_by_app WHERE sub_app_id = ?1 AND entry BETWEEN ?2 AND ?3 ORDER BY entry {order}"
                ))?;
                (statement.query(params![stored(self.query.sub_app_id), first, last])?, true)
            }
            Some(expression) if expression.is_exact() => {
                statement = connection.prepare_cached(&format!(
                    "SELECT rowid FROM media_index WHERE media_index MATCH ?1 AND rowid BETWEEN ?2 AND ?3 ORDER BY rowid {order}"
                ))?;
                (statement.query(params![expression.to_match(), first, last])?, true)
            }
            // CROSS JOIN: the index is the outer loop, and gives its rows in order.
            Some(expression) => {
                statement = connection.prepare_cached(&format!(
                    "SELECT {TEXT_COLUMNS} FROM media_index CROSS JOIN media ON media.entry = media_index.rowid
                     WHERE media_index MATCH ?1 AND media_index.rowid BETWEEN ?2 AND ?3 ORDER BY media_index.rowid {order}"
                ))?;
                (statement.query(params![expression.to_match(), first, last])?, false)
            }
        };
        while !hits.is_full()
            && let Some(row) = rows.next()?
        {
            // The values that are matched exactly the index has looked at.
            if is_exact || self.text_relevance(row)?.is_some_and(|relevance| wanted.is_none_or(|wanted| wanted == relevance)) {
                hits.add(row.get(0)?);
            }
        }
        Ok(())
    }

    /// Compares a candidate with every filter but the create time; `None`: it does not match. Reads [`COLUMNS`].
    fn relevance_of(&self, row: &Row<'_>, classes: &HashSet<String>) -> Result<Option<Relevance>, CatalogError> {
        for (value, wanted) in &self.values {
            let is = text_at(row, column_of(*value))?;
            let matches = match value {
                Value::Class => classes.contains(is),
                Value::Tag => read_tags(is)?.iter().any(|tag| wanted.contains(tag)),
                _ => wanted.iter().any(|wanted| wanted == is),
            };
            if !matches {
                return Ok(None);
            }
        }
        if self.query.made == Some(false) && text_at(row, column_of(Value::Stream))?.is_empty() {
            return Ok(None);
        }
        self.text_relevance(row)
    }

    /// Compares the texts and the expire time of a candidate. Reads [`TEXT_COLUMNS`].
    fn text_relevance(&self, row: &Row<'_>) -> Result<Option<Relevance>, CatalogError> {
        let text = |column| text_at(row, column);
        if let Some(expiring) = &self.expiring
            && !row.get::<_, Option<i64>>(3)?.is_some_and(|time| expiring.contains(&time))
        {
            return Ok(None);
        }
        let mut best = Relevance::Part;
        if !self.names.is_empty() || !self.name_prefixes.is_empty() || self.text.is_some() {
            let name = fold(text(1)?);
            if !self.name_prefixes.is_empty() && !self.name_prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                return Ok(None);
            }
            let by_name = relevance(&self.names, &name);
            if !self.names.is_empty() && by_name.is_none() {
                return Ok(None);
            }
            let by_text = relevance(self.text.as_slice(), &name);
            if let Some(part) = &self.text
                && by_text.is_none()
                && !fold(text(2)?).contains(part)
            {
                return Ok(None);
            }
            best = by_name.into_iter().chain(by_text).fold(best, Relevance::min);
        }
        if !self.descriptions.is_empty() {
            let Some(by_description) = relevance(&self.descriptions, &fold(text(2)?)) else { return Ok(None) };
            if self.rank_is_by_description() {
                best = by_description;
            }
        }
        Ok(Some(best))
    }

    /// What is asked of the name decides the order; the description only where nothing is asked of the name.
    fn rank_is_by_description(&self) -> bool {
        self.names.is_empty() && self.text.is_none()
    }

    /// The index expression of all filters that have one, narrowed to what can have the relevance `wanted`. `None`: no filter has one.
    fn expression(&self, sample: &[String], wanted: Option<Relevance>) -> Option<Expression> {
        let lookup = Lookup { sub_app_id: self.query.sub_app_id, sample };
        let any = |patterns: &[String], make: &dyn Fn(&str) -> Expression| {
            (!patterns.is_empty()).then(|| Expression::Any(patterns.iter().map(|pattern| make(pattern)).collect()))
        };
        let parts = |patterns: &[String], field| any(patterns, &|pattern| lookup.part(field, pattern));
        let prefixes = |patterns: &[String], field| any(patterns, &|pattern| lookup.prefix(field, pattern));
        let wholes = |patterns: &[String], field| any(patterns, &|pattern| lookup.whole(field, pattern));

        let mut all = Vec::new();
        all.extend(prefixes(&self.name_prefixes, Text::Name));
        for (value, wanted) in &self.values {
            all.extend(any(wanted, &|wanted| lookup.value(*value, wanted)));
        }
        if self.query.made == Some(false) {
            let files = any(&CATEGORIES.map(str::to_owned), &|category| lookup.value(Value::Category, category));
            all.extend(files.map(|files| files.without(lookup.value(Value::Stream, ""))));
        }
        all.extend(self.expiring.as_ref().map(|range| lookup.expiring(range)));
        let (field, ranked): (_, Vec<String>) = if self.rank_is_by_description() {
            (Text::Description, self.descriptions.clone())
        } else {
            (Text::Name, self.names.iter().chain(&self.text).cloned().collect())
        };
        let narrowed = match wanted {
            Some(Relevance::Whole) => wholes(&ranked, field),
            Some(Relevance::Prefix) => prefixes(&ranked, field),
            Some(Relevance::Part) | None => None,
        };
        // Of one list of patterns, a file that is or begins with one of them also holds it; of two lists, both must be asked.
        if narrowed.is_none() || self.text_lists() > 1 {
            all.extend(parts(&self.names, Text::Name));
            all.extend(parts(&self.descriptions, Text::Description));
            all.extend(any(self.text.as_slice(), &|part| Expression::Any(vec![lookup.part(Text::Name, part), lookup.part(Text::Description, part)])));
        }
        all.extend(narrowed);
        if all.is_empty() {
            return None;
        }
        // What an earlier walk took.
        let taken = match wanted {
            Some(Relevance::Prefix) => wholes(&ranked, field),
            Some(Relevance::Part) => prefixes(&ranked, field),
            Some(Relevance::Whole) | None => None,
        };
        let all = Expression::All(all);
        Some(match taken {
            Some(taken) => all.without(taken),
            None => all,
        })
    }

    /// Folded texts of some files, if there are patterns whose grams are to be chosen.
    fn sample(&self, connection: &Connection) -> Result<Vec<String>, CatalogError> {
        if !self.by_relevance() && self.name_prefixes.is_empty() {
            return Ok(Vec::new());
        }
        let sub_app_id = stored(self.query.sub_app_id);
        let bound = |order| {
            connection
                .prepare_cached(&format!("SELECT entry FROM media INDEXED BY media_by_app WHERE sub_app_id = ?1 ORDER BY entry {order} LIMIT 1"))?
                .query_row([sub_app_id], |row| row.get::<_, i64>(0))
                .optional()
        };
        let (Some(first), Some(last)) = (bound("ASC")?, bound("DESC")?) else { return Ok(Vec::new()) };
        let step = (last.saturating_sub(first) / SAMPLE_FILES).max(1);
        let mut statement = connection.prepare_cached(
            "SELECT name, description FROM media INDEXED BY media_by_app WHERE sub_app_id = ?1 AND entry >= ?2 ORDER BY entry LIMIT 1",
        )?;
        let mut sample = Vec::new();
        for from in (0..SAMPLE_FILES).map(|index| first.saturating_add(index * step)).take_while(|from| *from <= last) {
            // A line break between the two belongs to no gram that is asked for often.
            sample.push(
                statement.query_row([sub_app_id, from], |row| Ok(fold(&format!("{}\n{}", row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?))))?,
            );
        }
        Ok(sample)
    }
}

/// Columns that [`Filter::text_relevance`] reads.
const TEXT_COLUMNS: &str = "media.entry, media.name, media.description, media.expire_time";
/// Columns that [`Filter::relevance_of`] reads: the same, then the values, see [`column_of`].
const COLUMNS: &str = "media.entry, media.name, media.description, media.expire_time, media.domain, media.app, media.stream, media.format, \
     media.category, media.storage_class, CAST(media.class_id AS TEXT), media.tags";

fn text_at<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, CatalogError> {
    row.get_ref(column)?.as_str().map_err(|error| CatalogError::damaged("file", error))
}

const fn column_of(value: Value) -> usize {
    match value {
        Value::Domain => 4,
        Value::App => 5,
        Value::Stream => 6,
        Value::Format => 7,
        Value::Category => 8,
        Value::StorageClass => 9,
        Value::Class => 10,
        Value::Tag => 11,
    }
}

/// Patterns without case. An empty one is part of every text, so the whole list filters nothing then.
fn patterns(patterns: &[String]) -> Vec<String> {
    if patterns.iter().any(String::is_empty) { Vec::new() } else { patterns.iter().map(|pattern| fold(pattern)).collect() }
}

/// The best relevance of a folded text for one of the folded patterns.
fn relevance(patterns: &[String], text: &str) -> Option<Relevance> {
    let one = |pattern: &String| {
        if text == pattern {
            Some(Relevance::Whole)
        } else if text.starts_with(pattern) {
            Some(Relevance::Prefix)
        } else {
            text.contains(pattern).then_some(Relevance::Part)
        }
    };
    patterns.iter().filter_map(one).min()
}

/// Counts hits in the order of the answer and keeps those of the page.
struct Hits {
    page_range: Range<u64>,
    total: u64,
    page: Vec<i64>,
}

impl Hits {
    fn new(offset: u64, limit: u64) -> Self {
        Self { page_range: offset..offset.saturating_add(limit), total: 0, page: Vec::new() }
    }

    fn add(&mut self, entry: i64) {
        if self.page_range.contains(&self.total) {
            self.page.push(entry);
        }
        self.total += 1;
    }

    fn is_full(&self) -> bool {
        self.total >= HITS_MAX
    }
}
