//! Tokens of the inverted index: what is entered for a file, and which tokens a filter needs.
//!
//! SQLite's full-text engine gives a compact, ordered, merged list of entries for every token, and boolean expressions over them; words mean nothing to
//! us. Texts are entered as *grams* (every run of one to four and of six characters, after case folding), so that a part of any length can be looked up
//! in any script. Besides there is a token for the whole text, tokens for its beginnings, and one for every value that is matched exactly.
//!
//! Values, whole texts and beginnings are entered as 64 bits of a hash that nobody can steer, so their tokens count as exact. Longer parts are looked up
//! by a few of their grams: such an expression lets too much through, never too little, and says so; the search compares its candidates itself.
//! Every token begins with the sub-application, which is a wall.

use std::collections::BTreeSet;
use std::ops::Range;

use sha2::{Digest, Sha256};

/// Longest of the short grams, in characters: parts up to this length are answered by the index alone.
const GRAM_CHARS_MAX: usize = 4;
/// Length of the long grams. Names of recordings are dates for the greater part, and any date has the short grams of many others; of its long ones it
/// shares few. (With a million files and short grams only, `2025-06` took 400 ms.)
const LONG_GRAM_CHARS: usize = 6;
/// Most grams looked up for a longer part. Every one more lets fewer wrong candidates through, but has a list to be read.
const GRAMS_PER_PART: usize = 6;
/// Of these the rarest ones, by the sample, wherever in the part they are.
const GRAMS_RAREST: usize = 2;
/// A gram in more files than this is not worth its list.
const SHARE_COMMON: f64 = 0.5;
/// Lengths, in characters, of the beginnings that have a token of their own: all short ones, which people type.
const PREFIX_CHARS: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32];

/// A searched text of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Text {
    Name,
    Description,
}

/// A value of a file that is matched exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Domain,
    App,
    Stream,
    Format,
    Category,
    StorageClass,
    /// The class or one above it.
    Class,
    Tag,
}

// The letter that ends the sub-application and tells what follows: none is a hexadecimal digit, so tokens cannot run into each other.
impl Text {
    const fn gram_letter(self) -> char {
        match self {
            Self::Name => 'g',
            Self::Description => 'h',
        }
    }
    const fn long_gram_letter(self) -> char {
        match self {
            Self::Name => 'v',
            Self::Description => 'w',
        }
    }
    const fn prefix_letter(self) -> char {
        match self {
            Self::Name => 'i',
            Self::Description => 'j',
        }
    }
    const fn whole_letter(self) -> char {
        match self {
            Self::Name => 'k',
            Self::Description => 'l',
        }
    }
}

impl Value {
    const fn letter(self) -> char {
        match self {
            Self::Domain => 'm',
            Self::App => 'n',
            Self::Stream => 'o',
            Self::Format => 'p',
            Self::Category => 'q',
            Self::StorageClass => 'r',
            Self::Class => 's',
            Self::Tag => 't',
        }
    }
}

const EXPIRY_LETTER: char = 'u';
/// The finest step of expire times in the index; a range that ends between two steps is compared.
const EXPIRY_STEP_MICROS: i64 = 3_600_000_000;
/// Expire times are entered once for each of so many levels, the steps of each four times as long as those below: an hour, four hours, ... 1,900 years.
/// Any range is a few steps of each level, at most six.
const EXPIRY_LEVELS: u32 = 13;

/// The number of the finest step that holds a time.
const fn expiry_step(micros: i64) -> i64 {
    let step = micros.div_euclid(EXPIRY_STEP_MICROS);
    if step < 0 { 0 } else { step }
}

/// Text without case. There and back again, character by character: lower case alone would leave `ẞ`, `ß` and `SS` apart, and the two small sigmas.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The tokens of one file, joined by spaces. There are hundreds for every file that is entered.
pub(super) struct Document {
    sub_app_id: u64,
    /// Every token with a space behind it.
    tokens: String,
}

impl Document {
    pub(super) fn new(sub_app_id: u64) -> Self {
        Self { sub_app_id, tokens: String::new() }
    }

    fn add(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.tokens);
        self.tokens.push(' ');
    }

    pub(super) fn add_text(&mut self, field: Text, text: &str) {
        let folded = fold(text);
        if folded.is_empty() {
            return;
        }
        let starts: Vec<usize> = char_bounds(&folded);
        let chars = starts.len() - 1;
        let sub_app_id = self.sub_app_id;
        for length in 1..=GRAM_CHARS_MAX {
            for window in starts.windows(length + 1) {
                self.add(|to| write_gram(to, sub_app_id, field, &folded[window[0]..window[length]]));
            }
        }
        for window in starts.windows(LONG_GRAM_CHARS + 1) {
            self.add(|to| write_long_gram(to, sub_app_id, field, &folded[window[0]..window[LONG_GRAM_CHARS]]));
        }
        for length in PREFIX_CHARS.into_iter().filter(|length| *length <= chars) {
            self.add(|to| write_prefix(to, sub_app_id, field, length, &folded[..starts[length]]));
        }
        self.add(|to| write_whole(to, sub_app_id, field, &folded));
    }

    pub(super) fn add_value(&mut self, field: Value, value: &str) {
        let sub_app_id = self.sub_app_id;
        self.add(|to| write_value(to, sub_app_id, field, value));
    }

    pub(super) fn add_expiry(&mut self, micros: i64) {
        let (sub_app_id, step) = (self.sub_app_id, expiry_step(micros));
        for level in 0..EXPIRY_LEVELS {
            self.add(|to| write_expiry(to, sub_app_id, level, step >> (2 * level)));
        }
    }

    /// Some more than once: the engine takes them once, and faster than they could be sorted here.
    pub(super) fn into_tokens(self) -> String {
        self.tokens
    }
}

/// A boolean expression over tokens.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Token(String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    /// The first, but not the second.
    Without(Box<Expression>, Box<Expression>),
    /// All of them hold for every file that is meant, and for others too.
    Among(Vec<Expression>),
}

impl Expression {
    /// `self` but not `other`, as far as the index can tell.
    pub(super) fn without(self, other: Self) -> Self {
        // Taking away too much would lose files.
        if other.is_exact() { Self::Without(Box::new(self), Box::new(other)) } else { Self::Among(vec![self]) }
    }

    /// True if every file that the expression lets through is meant.
    pub(super) fn is_exact(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_exact),
            Self::Without(kept, taken) => kept.is_exact() && taken.is_exact(),
            Self::Among(_) => false,
        }
    }

    /// In the engine's syntax. Tokens hold letters and digits only and are quoted, so nothing a user typed is ever syntax.
    pub(super) fn to_match(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Token(token) => {
                text.push('"');
                text.push_str(token);
                text.push('"');
            }
            Self::All(parts) | Self::Among(parts) => Self::write_joined(parts, " AND ", text),
            Self::Any(parts) => Self::write_joined(parts, " OR ", text),
            Self::Without(kept, taken) => {
                text.push('(');
                kept.write(text);
                text.push_str(" NOT ");
                taken.write(text);
                text.push(')');
            }
        }
    }

    fn write_joined(parts: &[Self], operator: &str, text: &mut String) {
        text.push('(');
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                text.push_str(operator);
            }
            part.write(text);
        }
        text.push(')');
    }
}

/// Makes expressions for one sub-application.
///
/// `sample`: folded texts of some files. Which grams of a part are rare is read from it: names of recordings are dates for the greater part, and
/// the grams of a date are in every file.
pub(super) struct Lookup<'a> {
    pub(super) sub_app_id: u64,
    pub(super) sample: &'a [String],
}

impl Lookup<'_> {
    /// Files whose text holds `folded`, which is not empty.
    pub(super) fn part(&self, field: Text, folded: &str) -> Expression {
        let starts = char_bounds(folded);
        if starts.len() <= GRAM_CHARS_MAX + 1 {
            return Expression::Token(token(|to| write_gram(to, self.sub_app_id, field, folded)));
        }
        let chars = starts.len() - 1;
        if chars == LONG_GRAM_CHARS {
            return Expression::Token(token(|to| write_long_gram(to, self.sub_app_id, field, folded)));
        }
        let length = if chars > LONG_GRAM_CHARS { LONG_GRAM_CHARS } else { GRAM_CHARS_MAX };
        let write = if chars > LONG_GRAM_CHARS { write_long_gram } else { write_gram };
        let grams: BTreeSet<&str> = starts.windows(length + 1).map(|window| &folded[window[0]..window[length]]).collect();
        let mut grams: Vec<(usize, &str)> =
            grams.into_iter().map(|gram| (self.sample.iter().filter(|text| text.contains(gram)).count(), gram)).collect();
        grams.sort_unstable();
        // The rarest say most, but they often overlap and mean the same files: those that tile the part from its begin to its end go with them.
        let last = chars - length;
        let tiles = |gram: &str| (0..=last).any(|at| (at % length == 0 || at == last) && folded[starts[at]..starts[at + length]] == *gram);
        let is_common = |count: usize| count as f64 > SHARE_COMMON * self.sample.len() as f64;
        let is_chosen = |at: usize, count: usize, gram: &str| at == 0 || (!is_common(count) && (at < GRAMS_RAREST || tiles(gram)));
        let chosen = grams.into_iter().enumerate().filter(|(at, (count, gram))| is_chosen(*at, *count, gram)).take(GRAMS_PER_PART);
        let chosen = chosen.map(|(_, (_, gram))| Expression::Token(token(|to| write(to, self.sub_app_id, field, gram)))).collect();
        Expression::Among(chosen)
    }

    /// Files whose text begins with `folded`, which is not empty.
    pub(super) fn prefix(&self, field: Text, folded: &str) -> Expression {
        let starts = char_bounds(folded);
        let chars = starts.len() - 1;
        // The first length is 1, and the text is not empty.
        let indexed = PREFIX_CHARS.into_iter().rev().find(|length| *length <= chars).unwrap_or(1);
        let token = Expression::Token(token(|to| write_prefix(to, self.sub_app_id, field, indexed, &folded[..starts[indexed]])));
        if indexed == chars { token } else { Expression::Among(vec![token, self.part(field, folded)]) }
    }

    /// Files whose text is `folded`.
    pub(super) fn whole(&self, field: Text, folded: &str) -> Expression {
        Expression::Token(token(|to| write_whole(to, self.sub_app_id, field, folded)))
    }

    pub(super) fn value(&self, field: Value, value: &str) -> Expression {
        Expression::Token(token(|to| write_value(to, self.sub_app_id, field, value)))
    }

    /// Files expiring in the range, microseconds, which is not empty: the fewest steps that cover it.
    pub(super) fn expiring(&self, micros: &Range<i64>) -> Expression {
        let is_exact = micros.start.rem_euclid(EXPIRY_STEP_MICROS) == 0 && micros.end.rem_euclid(EXPIRY_STEP_MICROS) == 0;
        // Half-open in steps of the level at hand.
        let (mut from, mut to) = (expiry_step(micros.start), expiry_step(micros.end - 1) + 1);
        let mut tokens = Vec::new();
        for level in 0..EXPIRY_LEVELS {
            let mut add = |step| tokens.push(Expression::Token(token(|to| write_expiry(to, self.sub_app_id, level, step))));
            if level + 1 == EXPIRY_LEVELS {
                // The calendar ends after five of the longest steps.
                (from..to).for_each(&mut add);
                break;
            }
            while from < to && from % 4 != 0 {
                add(from);
                from += 1;
            }
            while from < to && to % 4 != 0 {
                to -= 1;
                add(to);
            }
            (from, to) = (from >> 2, to >> 2);
        }
        let any = Expression::Any(tokens);
        if is_exact { any } else { Expression::Among(vec![any]) }
    }
}

/// Byte offsets of all characters, and the length.
fn char_bounds(text: &str) -> Vec<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
}

/// One token as text of its own.
fn token(write: impl FnOnce(&mut String)) -> String {
    let mut token = String::with_capacity(24);
    write(&mut token);
    token
}

fn begin(to: &mut String, sub_app_id: u64, letter: char) {
    push_hex(to, sub_app_id);
    to.push(letter);
}

/// As `{:x}`, which takes several times as long.
fn push_hex(to: &mut String, value: u64) {
    let digits = (16 - value.leading_zeros() / 4).max(1);
    for at in (0..digits).rev() {
        to.push(char::from(b"0123456789abcdef"[(value >> (4 * at)) as usize & 15]));
    }
}

fn write_expiry(to: &mut String, sub_app_id: u64, level: u32, step: i64) {
    begin(to, sub_app_id, EXPIRY_LETTER);
    push_hex(to, u64::from(level));
    to.push('z');
    push_hex(to, step as u64);
}

fn write_gram(to: &mut String, sub_app_id: u64, field: Text, gram: &str) {
    begin(to, sub_app_id, field.gram_letter());
    for (index, c) in gram.chars().enumerate() {
        if index > 0 {
            to.push('z');
        }
        push_hex(to, u64::from(u32::from(c)));
    }
}

fn write_long_gram(to: &mut String, sub_app_id: u64, field: Text, gram: &str) {
    begin(to, sub_app_id, field.long_gram_letter());
    push_hex(to, hash(gram));
}

fn write_prefix(to: &mut String, sub_app_id: u64, field: Text, chars: usize, prefix: &str) {
    begin(to, sub_app_id, field.prefix_letter());
    push_hex(to, chars as u64);
    to.push('z');
    push_hex(to, hash(prefix));
}

fn write_whole(to: &mut String, sub_app_id: u64, field: Text, folded: &str) {
    begin(to, sub_app_id, field.whole_letter());
    push_hex(to, hash(folded));
}

fn write_value(to: &mut String, sub_app_id: u64, field: Value, value: &str) {
    begin(to, sub_app_id, field.letter());
    push_hex(to, hash(value));
}

/// The first 64 bits of SHA-256. Stored in the catalog, so it must stay the same for ever.
fn hash(text: &str) -> u64 {
    Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folding() {
        for (a, b, same) in [
            ("СТРИМ", "стрим", true),
            ("ÄÖÜ", "äöü", true),
            ("STRASSE", "Straße", true),
            ("STRAẞE", "strasse", true),
            ("ΟΔΟΣ", "οδος", true),
            ("οδός", "ΟΔΌΣ", true),
            ("K", "\u{212a}", true),
            ("a", "ä", false),
            ("é", "e\u{301}", false),
            ("直播", "直播", true),
        ] {
            assert_eq!(fold(a) == fold(b), same, "{a} and {b}");
        }
    }

    #[test]
    fn the_hash_never_changes() {
        // Published vectors of SHA-256.
        assert_eq!(hash(""), 0xe3b0_c442_98fc_1c14);
        assert_eq!(hash("abc"), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn tokens_never_change() {
        let mut document = Document::new(0x1f);
        document.add_text(Text::Name, "aA");
        document.add_value(Value::Tag, "");
        let tokens = "1fg61 1fg61 1fg61z61 1fi1zca978112ca1bbdca 1fi2z961b6dd3ede3cb8e 1fk961b6dd3ede3cb8e 1fte3b0c44298fc1c14 ";
        assert_eq!(document.into_tokens(), tokens);
        let mut document = Document::new(0);
        document.add_expiry(0x1f * EXPIRY_STEP_MICROS);
        assert_eq!(document.into_tokens(), "0u0z1f 0u1z7 0u2z1 0u3z0 0u4z0 0u5z0 0u6z0 0u7z0 0u8z0 0u9z0 0uaz0 0ubz0 0ucz0 ");
    }

    fn holds(tokens: &str, expression: &Expression) -> bool {
        match expression {
            Expression::Token(token) => tokens.split(' ').any(|found| found == token),
            Expression::All(parts) | Expression::Among(parts) => parts.iter().all(|part| holds(tokens, part)),
            Expression::Without(kept, taken) => holds(tokens, kept) && !holds(tokens, taken),
            Expression::Any(parts) => parts.iter().any(|part| holds(tokens, part)),
        }
    }

    #[test]
    fn expire_ranges_are_covered_by_few_steps() {
        const HOUR: i64 = EXPIRY_STEP_MICROS;
        let never = 253_402_300_799_000_000;
        let lookup = Lookup { sub_app_id: 7, sample: &[] };
        for (range, exact) in [
            (0..1, false),
            (0..HOUR, true),
            (5 * HOUR..6 * HOUR, true),
            (5 * HOUR - 1..6 * HOUR, false),
            (3 * HOUR..490_001 * HOUR, true),
            (490_001 * HOUR + 7..490_900 * HOUR + 7, false),
            (0..never, false),
        ] {
            let expression = lookup.expiring(&range);
            assert_eq!(expression.is_exact(), exact, "{range:?}");
            assert!(expression.to_match().matches('u').count() <= 6 * EXPIRY_LEVELS as usize, "{range:?}");
            let times = [
                range.start - HOUR,
                range.start - 1,
                range.start,
                range.start + HOUR,
                (range.start + range.end) / 2,
                range.end - HOUR,
                range.end - 1,
                range.end,
                range.end + HOUR,
            ];
            for time in times.into_iter().filter(|time| *time >= 0) {
                let mut document = Document::new(7);
                document.add_expiry(time);
                let found = holds(&document.tokens, &expression);
                assert!(found || !range.contains(&time), "{time} in {range:?}");
                assert!(!exact || found == range.contains(&time), "{time} in {range:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_index_never_misses(text in "[aAbB%_*\" ßЖж日-]{1,60}", from in 0..60_usize, length in 1..60_usize, sample in proptest::collection::vec("[ab]{0,8}", 0..4)) {
            let mut document = Document::new(7);
            document.add_text(Text::Name, &text);
            let folded = fold(&text);
            let chars: Vec<char> = folded.chars().collect();
            let from = from.min(chars.len() - 1);
            let part: String = chars[from..].iter().take(length).collect();
            let lookup = Lookup { sub_app_id: 7, sample: &sample };
            prop_assert!(holds(&document.tokens, &lookup.part(Text::Name, &part)));
            prop_assert!(!holds(&document.tokens, &lookup.part(Text::Description, &part)));
            prop_assert!(holds(&document.tokens, &lookup.whole(Text::Name, &folded)));
            let prefix: String = chars.iter().take(length).collect();
            prop_assert!(holds(&document.tokens, &lookup.prefix(Text::Name, &prefix)));
            let other = Lookup { sub_app_id: 0x70, ..lookup };
            prop_assert!(!holds(&document.tokens, &other.part(Text::Name, &part)));
            prop_assert!(document.into_tokens().bytes().all(|byte| byte == b' ' || byte.is_ascii_digit() || byte.is_ascii_lowercase()));
        }
    }
}
