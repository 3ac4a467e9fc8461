//! What a setting can be: how each type is read from TOML, checked and shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::{Problem, settings};
use crate::limits::DOMAIN_BYTES_MAX;
use crate::units::Format;

/// A type that a setting can have.
pub(super) trait Value: Sized {
    type Bounds;
    /// Written as repeated `[[section.name]]` blocks.
    const BLOCKS: bool = false;
    /// Reads and checks; what is wrong goes to the reader's problems.
    fn read(value: &Spanned<DeValue<'_>>, bounds: &Self::Bounds, reader: &mut Reader<'_>) -> Option<Self>;
    /// As it stands in a TOML file.
    fn show(&self) -> String;
    /// Type and bounds in words.
    fn values(bounds: &Self::Bounds) -> String;
}

/// Characters of a key that a message repeats; ours are below 40.
const KEY_CHARS_SHOWN: usize = 80;

/// The walk over a document: where we are, and what was wrong so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) key: String,
    key_offset: usize,
    lines: BTreeMap<String, usize>,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, key: String::new(), key_offset: 0, lines: BTreeMap::new(), problems: Vec::new() }
    }

    /// Steps to the setting `key`, whose name stands at byte `offset`.
    pub(super) fn enter(&mut self, key: &str, offset: usize) {
        // A quoted key may hold anything; a message is one short line.
        self.key = key.chars().take(KEY_CHARS_SHOWN).flat_map(char::escape_debug).collect();
        self.key_offset = offset;
        self.lines.insert(self.key.clone(), line_of(self.text, offset));
    }

    pub(super) fn line_of_key(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }

    pub(super) fn unknown_key(&mut self) {
        let problem = Problem::UnknownKey { line: line_of(self.text, self.key_offset), key: self.key.clone(), suggestion: nearest(&self.key) };
        self.problems.push(problem);
    }

    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let (line, key) = (line_of(self.text, value.span().start), self.key.clone());
        self.problems.push(Problem::WrongType { line, key, expected: expected.to_owned(), found: describe(value.get_ref()) });
    }

    pub(super) fn out_of_bounds(&mut self, value: &Spanned<DeValue<'_>>, shown: String, bound: String) {
        let (line, key) = (line_of(self.text, value.span().start), self.key.clone());
        self.problems.push(Problem::OutOfBounds { line, key, value: shown, bound });
    }

    pub(super) fn refuse(&mut self, offset: usize, reason: &str) {
        let (line, key) = (line_of(self.text, offset), self.key.clone());
        self.problems.push(Problem::Refused { line, key, reason: reason.to_owned() });
    }
}

/// The line of byte `offset`, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A TOML type with its article.
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The setting that was probably meant: the same name in another section, or one within two typing errors.
fn nearest(key: &str) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let known: Vec<String> = settings().into_iter().map(|setting| setting.key).collect();
    if let Some(moved) = known.iter().find(|known| name(known) == name(key)) {
        return Some(moved.clone());
    }
    let (distance, best) = known.into_iter().map(|known| (edit_distance(&known, key), known)).min()?;
    (distance <= 2).then_some(best)
}

/// Levenshtein distance in bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (done, left) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (column, right) in right.bytes().enumerate() {
            let replace = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

pub(super) fn show_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

pub(super) fn read_text<'v>(value: &'v Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<&'v str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        reader.wrong_type(value, "a string");
    }
    text
}

macro_rules! integers {
    ($($type:ty),+) => { $(
        impl Value for $type {
            type Bounds = RangeInclusive<$type>;
            fn read(value: &Spanned<DeValue<'_>>, bounds: &Self::Bounds, reader: &mut Reader<'_>) -> Option<Self> {
                let Some(integer) = value.get_ref().as_integer() else {
                    reader.wrong_type(value, "an integer");
                    return None;
                };
                let read = <$type>::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|read| bounds.contains(read));
                if read.is_none() {
                    reader.out_of_bounds(value, integer.to_string(), Self::values(bounds));
                }
                read
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn values(bounds: &Self::Bounds) -> String {
                format!("{} to {}", bounds.start(), bounds.end())
            }
        }
    )+ };
}
integers!(u64, usize);

impl Value for bool {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let read = value.get_ref().as_bool();
        if read.is_none() {
            reader.wrong_type(value, "true or false");
        }
        read
    }
    fn show(&self) -> String {
        self.to_string()
    }
    fn values(_: &()) -> String {
        "true, false".to_owned()
    }
}

impl Value for SocketAddr {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(value, reader)?;
        // Port 0 would give every core's listener a port of its own.
        let read = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        if read.is_none() {
            reader.out_of_bounds(value, show_text(text), "an IP address and a port such as \"127.0.0.1:1935\" or \"[::]:1935\"".to_owned());
        }
        read
    }
    fn show(&self) -> String {
        show_text(&self.to_string())
    }
    fn values(_: &()) -> String {
        "IP address:port".to_owned()
    }
}

/// `PATH_MAX` of Linux, with its final zero byte.
const PATH_BYTES_MAX: usize = 4095;

impl Value for PathBuf {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(value, reader)?;
        if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') {
            reader.refuse(value.span().start, &format!("must be a path of 1 to {PATH_BYTES_MAX} bytes"));
            return None;
        }
        Some(PathBuf::from(text))
    }
    fn show(&self) -> String {
        show_text(&self.to_string_lossy())
    }
    fn values(_: &()) -> String {
        "path".to_owned()
    }
}

/// As many disks as a machine has; each has threads of its own.
const PATHS_MAX: usize = 32;

impl Value for Vec<PathBuf> {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, "an array of paths");
            return None;
        };
        if array.len() > PATHS_MAX {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(&()));
            return None;
        }
        let mut paths = Vec::with_capacity(array.len());
        for item in array.iter() {
            let path = PathBuf::read(item, &(), reader)?;
            if paths.contains(&path) {
                reader.refuse(item.span().start, &format!("names {} twice", path.display()));
                return None;
            }
            paths.push(path);
        }
        Some(paths)
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(Value::show).collect::<Vec<_>>().join(", "))
    }
    fn values(_: &()) -> String {
        format!("at most {PATHS_MAX} different paths")
    }
}

/// What a text setting may hold, in words and as a check.
pub(super) struct TextRule {
    what: &'static str,
    accepts: fn(&str) -> bool,
}

pub(super) const DOMAIN: TextRule = TextRule { what: "domain name", accepts: is_domain };
pub(super) const PUBLIC_BASE: TextRule =
    TextRule { what: "empty, or http:// or https:// address without a slash at the end", accepts: is_public_base };
pub(super) const DELIVERY_LISTEN: TextRule =
    TextRule { what: "`auto`, `off` or IP address:port", accepts: |text| matches!(text, "auto" | "off") || super::listen_address(text).is_some() };
pub(super) const ADDRESS_OR_EMPTY: TextRule =
    TextRule { what: "empty, or IP address:port", accepts: |text| text.is_empty() || text.parse::<SocketAddr>().is_ok() };
pub(super) const TIME_ZONE: TextRule = TextRule { what: "IANA time zone", accepts: |name| jiff::tz::TimeZone::get(name).is_ok() };
pub(super) const ENCODER_PRESET: TextRule = TextRule { what: "preset of x264", accepts: |name| ENCODER_PRESETS.contains(&name) };
pub(super) const LOG_LEVEL: TextRule = TextRule { what: "level or filter", accepts: is_log_filter };

const ENCODER_PRESETS: [&str; 8] = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"];

/// An address as long as browsers take it still leaves room for the file's part.
const PUBLIC_BASE_BYTES_MAX: usize = 1024;
/// A filter for every module of ours.
const LOG_FILTER_BYTES_MAX: usize = 1024;

/// `localhost`, or labels of letters, digits and `-` with at least one dot; lower case, as stored in rules.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(label) && (name == "localhost" || name.contains('.'))
}

fn is_public_base(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return text.is_empty() };
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'"' | b'<' | b'>' | b'\\');
    text.len() <= PUBLIC_BASE_BYTES_MAX && !rest.is_empty() && !rest.starts_with('/') && !rest.ends_with('/') && rest.bytes().all(plain)
}

fn is_log_filter(text: &str) -> bool {
    // Each directive needs a level: a bare word would otherwise be taken for the name of a module, and a typing error for silence.
    let leveled = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        ["off", "error", "warn", "info", "debug", "trace"].contains(&level)
    };
    text.len() <= LOG_FILTER_BYTES_MAX && text.split(',').all(leveled) && tracing_subscriber::EnvFilter::try_new(text).is_ok()
}

impl Value for String {
    type Bounds = TextRule;
    fn read(value: &Spanned<DeValue<'_>>, rule: &TextRule, reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(value, reader)?;
        if !(rule.accepts)(text) {
            reader.out_of_bounds(value, show_text(text), rule.what.to_owned());
            return None;
        }
        Some(text.to_owned())
    }
    fn show(&self) -> String {
        show_text(self)
    }
    fn values(rule: &TextRule) -> String {
        rule.what.to_owned()
    }
}

/// Bounds of a list of numbers.
pub(super) struct ListBounds {
    pub(super) length_max: usize,
    pub(super) value_max: usize,
}

impl Value for Vec<usize> {
    type Bounds = ListBounds;
    fn read(value: &Spanned<DeValue<'_>>, bounds: &ListBounds, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, "an array of integers");
            return None;
        };
        if array.len() > bounds.length_max {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(bounds));
            return None;
        }
        let mut numbers = Vec::with_capacity(array.len());
        for item in array.iter() {
            let number = usize::read(item, &(0..=bounds.value_max), reader)?;
            if numbers.contains(&number) {
                reader.refuse(item.span().start, &format!("names {number} twice"));
                return None;
            }
            numbers.push(number);
        }
        Some(numbers)
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
    fn values(bounds: &ListBounds) -> String {
        format!("at most {} different numbers, 0 to {}", bounds.length_max, bounds.value_max)
    }
}

/// At most this many.
pub(super) struct CountMax(pub(super) usize);

impl Value for Vec<IpNet> {
    type Bounds = CountMax;
    fn read(value: &Spanned<DeValue<'_>>, count_max: &CountMax, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, "an array of networks");
            return None;
        };
        if array.len() > count_max.0 {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(count_max));
            return None;
        }
        let mut networks = Vec::with_capacity(array.len());
        for item in array.iter() {
            let text = read_text(item, reader)?;
            // A single address is a network of one.
            let Some(network) = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
                reader.out_of_bounds(item, show_text(text), "a network such as \"10.0.0.0/8\" or \"fd00::/8\", or an IP address".to_owned());
                return None;
            };
            networks.push(network);
        }
        Some(networks)
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(|network| show_text(&network.to_string())).collect::<Vec<_>>().join(", "))
    }
    fn values(count_max: &CountMax) -> String {
        format!("at most {} networks", count_max.0)
    }
}

/// A word out of a few.
trait Choice: Copy + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

macro_rules! choices {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+ } )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl Choice for $name {
            const ALL: &'static [Self] = &[$( Self::$variant ),+];
            fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }
    )+ };
}

choices! {
    /// What happens to the second publisher of a live stream.
    DuplicatePublisher {
        /// It takes the name over; the first ends. Reconnecting encoders often leave a half-open connection behind.
        Replace = "replace",
        /// It is turned away with `NetStream.Publish.BadName`.
        Refuse = "refuse",
    }
    /// Which finished recordings make room on a disk that is nearly full.
    Eviction {
        None = "none",
        /// The oldest first.
        Oldest = "oldest",
        /// Those whose `StorageTime` ends first; files that are kept for ever stay.
        Expiring = "expiring",
    }
    /// Container of HLS segments.
    HlsContainer {
        /// Byte ranges of one fragmented MP4 file.
        Fmp4 = "fmp4",
        /// Byte ranges of one MPEG-TS file.
        Ts = "ts",
    }
    WhenBusy {
        /// Readers make room.
        Shed = "shed",
        Serve = "serve",
    }
    LogFormat {
        Text = "text",
        Json = "json",
    }
    /// What the holder of a credential may do.
    Role {
        /// Everything.
        Admin = "admin",
        /// Everything but deleting.
        Operator = "operator",
        /// Only look, and at no keys.
        Reader = "reader",
    }
}

impl Choice for Format {
    const ALL: &'static [Self] = &Format::ALL;
    fn word(self) -> &'static str {
        self.name()
    }
}

impl<C: Choice> Value for C {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(value, reader)?;
        let read = C::ALL.iter().copied().find(|choice| choice.word() == text);
        if read.is_none() {
            reader.out_of_bounds(value, show_text(text), Self::values(&()));
        }
        read
    }
    fn show(&self) -> String {
        show_text(self.word())
    }
    fn values(_: &()) -> String {
        C::ALL.iter().map(|choice| show_text(choice.word())).collect::<Vec<_>>().join(", ")
    }
}
