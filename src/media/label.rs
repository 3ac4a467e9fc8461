//! What encoders say of tracks for people: their language and their name.
//!
//! Enhanced RTMP v2 ("Enhancing onMetaData") has a map of properties for each kind of track, by the number of the track, and leaves open which: what is meant
//! here is told as `language` or `lang`, and as `name`, `label` or `title`.

use std::sync::Arc;

use super::TrackKind;
use crate::rtmp::amf::Value;

/// A language tag as long as any in use (RFC 5646, 4.4.1).
const LANGUAGE_CHARS_MAX: usize = 35;
const NAME_CHARS_MAX: usize = 100;
/// Tracks that are told of, at most.
const LABELS_MAX: usize = 32;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Label {
    /// BCP 47; empty: not known.
    pub language: String,
    /// Empty: none.
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackLabel {
    pub kind: TrackKind,
    /// 0 is the first track.
    pub number: u8,
    pub label: Label,
}

impl Label {
    /// From what somebody says; what cannot be meant is left out.
    pub fn new(language: &str, name: &str) -> Self {
        let is_tag = |text: &&str| {
            let (primary, _) = text.split_once('-').unwrap_or((text, ""));
            text.len() <= LANGUAGE_CHARS_MAX
                && (2..=8).contains(&primary.len())
                && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !primary.eq_ignore_ascii_case("und")
        };
        let language = Some(language.trim()).filter(is_tag).unwrap_or_default();
        let name = name.trim().chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect();
        Self { language: language.to_owned(), name }
    }

    pub fn is_empty(&self) -> bool {
        self.language.is_empty() && self.name.is_empty()
    }

    /// The language in three letters (ISO 639-2/T), where it has them.
    pub fn language_code(&self) -> Option<[u8; 3]> {
        let primary = self.language.split('-').next().unwrap_or_default().to_ascii_lowercase();
        match *primary.as_bytes() {
            [a, b, c] => Some([a, b, c]),
            [a, b] => CODES.iter().find(|(short, _)| **short == [a, b]).map(|(_, code)| **code),
            _ => None,
        }
    }
}

/// What onMetaData tells of its tracks. The first sound may be told of at the top, as `language`.
pub fn labels(metadata: &Value) -> Arc<[TrackLabel]> {
    let text = |value: &Value, names: &[&str]| names.iter().find_map(|name| value.get(name)?.as_str().map(str::to_owned)).unwrap_or_default();
    let of = |kind, number, value: &Value| {
        let label = Label::new(&text(value, &["language", "lang"]), &text(value, &["name", "label", "title"]));
        (!label.is_empty()).then_some(TrackLabel { kind, number, label })
    };
    let map = |name: &str, kind| {
        let tracks = metadata.get(name).and_then(Value::properties).unwrap_or_default();
        tracks.iter().filter_map(move |(number, value)| of(kind, number.parse().ok()?, value)).collect::<Vec<_>>()
    };
    let mut labels = map("audioTrackIdInfoMap", TrackKind::Audio);
    labels.extend(map("videoTrackIdInfoMap", TrackKind::Video));
    let first = Label::new(&text(metadata, &["language", "lang"]), "");
    if !first.is_empty() && !labels.iter().any(|known| (known.kind, known.number) == (TrackKind::Audio, 0)) {
        labels.push(TrackLabel { kind: TrackKind::Audio, number: 0, label: first });
    }
    labels.truncate(LABELS_MAX);
    labels.into()
}

/// Languages of two letters (ISO 639-1) that are often recorded, in three.
const CODES: &[(&[u8; 2], &[u8; 3])] = &[
    (b"af", b"afr"),
    (b"am", b"amh"),
    (b"ar", b"ara"),
    (b"az", b"aze"),
    (b"be", b"bel"),
    (b"bg", b"bul"),
    (b"bn", b"ben"),
    (b"bs", b"bos"),
    (b"ca", b"cat"),
    (b"cs", b"ces"),
    (b"cy", b"cym"),
    (b"da", b"dan"),
    (b"de", b"deu"),
    (b"el", b"ell"),
    (b"en", b"eng"),
    (b"es", b"spa"),
    (b"et", b"est"),
    (b"eu", b"eus"),
    (b"fa", b"fas"),
    (b"fi", b"fin"),
    (b"fr", b"fra"),
    (b"ga", b"gle"),
    (b"gl", b"glg"),
    (b"gu", b"guj"),
    (b"he", b"heb"),
    (b"hi", b"hin"),
    (b"hr", b"hrv"),
    (b"hu", b"hun"),
    (b"hy", b"hye"),
    (b"id", b"ind"),
    (b"is", b"isl"),
    (b"it", b"ita"),
    (b"ja", b"jpn"),
    (b"ka", b"kat"),
    (b"kk", b"kaz"),
    (b"km", b"khm"),
    (b"ko", b"kor"),
    (b"lo", b"lao"),
    (b"lt", b"lit"),
    (b"lv", b"lav"),
    (b"mk", b"mkd"),
    (b"ml", b"mal"),
    (b"mn", b"mon"),
    (b"mr", b"mar"),
    (b"ms", b"msa"),
    (b"my", b"mya"),
    (b"ne", b"nep"),
    (b"nl", b"nld"),
    (b"no", b"nor"),
    (b"pa", b"pan"),
    (b"pl", b"pol"),
    (b"pt", b"por"),
    (b"ro", b"ron"),
    (b"ru", b"rus"),
    (b"si", b"sin"),
    (b"sk", b"slk"),
    (b"sl", b"slv"),
    (b"sq", b"sqi"),
    (b"sr", b"srp"),
    (b"sv", b"swe"),
    (b"sw", b"swa"),
    (b"ta", b"tam"),
    (b"te", b"tel"),
    (b"th", b"tha"),
    (b"tl", b"tgl"),
    (b"tr", b"tur"),
    (b"uk", b"ukr"),
    (b"ur", b"urd"),
    (b"uz", b"uzb"),
    (b"vi", b"vie"),
    (b"zh", b"zho"),
    (b"zu", b"zul"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metadata_says_of_tracks() {
        let track =
            |properties: &[(&str, &str)]| Value::object(&properties.iter().map(|(name, text)| (*name, Value::string(text))).collect::<Vec<_>>());
        let map = |tracks: &[(&str, Value)]| Value::object(tracks);
        let sounds = map(&[
            ("1", track(&[("language", "de-CH"), ("name", "Kommentar\n")])),
            ("2", track(&[("lang", "fra")])),
            ("x", track(&[("lang", "en")])),
            ("3", track(&[])),
        ]);
        let pictures = map(&[("1", track(&[("label", "Behind the goal")]))]);
        let metadata = Value::EcmaArray(vec![
            ("language".to_owned(), Value::string("en")),
            ("audioTrackIdInfoMap".to_owned(), sounds),
            ("videoTrackIdInfoMap".to_owned(), pictures),
        ]);
        let found: Vec<_> = labels(&metadata)
            .iter()
            .map(|one| (one.kind, one.number, one.label.language.clone(), one.label.name.clone(), one.label.language_code()))
            .collect();
        let expected = [
            (TrackKind::Audio, 1, "de-CH", "Kommentar", Some(*b"deu")),
            (TrackKind::Audio, 2, "fra", "", Some(*b"fra")),
            (TrackKind::Video, 1, "", "Behind the goal", None),
            (TrackKind::Audio, 0, "en", "", Some(*b"eng")),
        ];
        assert_eq!(found, expected.map(|(kind, number, language, name, code)| (kind, number, language.to_owned(), name.to_owned(), code)));
        for (language, meant) in
            [("und", ""), ("e", ""), ("en\"", ""), ("12", ""), ("english-but-much-too-long-for-any-tag-there-is", ""), (" pt-BR ", "pt-BR")]
        {
            assert_eq!(Label::new(language, "").language, meant, "{language}");
        }
        assert!(CODES.is_sorted_by_key(|(short, _)| **short));
    }
}
