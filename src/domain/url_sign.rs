//! Signed playback addresses (key protection): who may fetch, until when, how much, and from how many addresses.
//!
//! `?t=<hex time>&exper=<s>&rlimit=<n>&us=<text>&sign=<md5>`, where `sign` is the MD5, in lower-case hexadecimal digits, of KEY, folder of the address (with
//! its last `/`), t, exper, rlimit, us, whref, bkref, whreg, bkreg, each empty if it is absent. One signature is good for everything in the folder.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::digest::{hex, same};

/// Letters and digits of a key (documented for the playback key, and the same here).
pub const KEY_CHARS: std::ops::RangeInclusive<usize> = 8..=20;
/// Longest value of a parameter that is looked at.
const VALUE_BYTES_MAX: usize = 512;
/// How long addresses in answers are good for, unless somebody says so.
pub const LIFETIME_S_DEFAULT: u64 = 86_400;

/// How the addresses of an application are protected.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UrlProtection {
    pub enable: bool,
    pub key: String,
    /// Good at the same time, so that keys can be changed one after the other; empty: there is none.
    pub backup_key: String,
    /// Seconds that addresses in answers are good for.
    pub lifetime_s: u64,
}

impl UrlProtection {
    fn keys(&self) -> impl Iterator<Item = &str> {
        [self.key.as_str(), self.backup_key.as_str()].into_iter().filter(|key| !key.is_empty())
    }

    /// What addresses in answers are signed with.
    pub fn terms(&self, now_s: i64) -> Terms {
        let lifetime_s = if self.lifetime_s == 0 { LIFETIME_S_DEFAULT } else { self.lifetime_s };
        let end = u64::try_from(now_s).unwrap_or(0).saturating_add(lifetime_s);
        Terms { t: format!("{end:x}"), ..Terms::default() }
    }

    /// `address` with a signature behind it, before any `#`. Its folder is `dir`.
    pub fn signed(&self, address: &str, dir: &str, terms: &Terms) -> String {
        let (address, fragment) = address.split_once('#').map_or((address, String::new()), |(address, fragment)| (address, format!("#{fragment}")));
        let mark = if address.contains('?') { '&' } else { '?' };
        format!("{address}{mark}{}{fragment}", terms.query(&terms.sign(&self.key, dir)))
    }
}

/// The parameters of a signature, decoded; empty ones are absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The end of its life: Unix seconds, hexadecimal.
    pub t: String,
    /// Seconds from the begin that may be played; empty or 0: all.
    pub exper: String,
    /// From how many IP addresses; empty: any number.
    pub rlimit: String,
    /// Makes one address differ from another.
    pub us: String,
    /// Hosts of pages that may, and may not, embed it; separated by commas.
    pub whref: String,
    pub bkref: String,
    /// Regions, which are not known here.
    pub whreg: String,
    pub bkreg: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    #[error("this address needs a signature: its parameters t and sign are missing")]
    Missing,
    #[error("the signature of this address is wrong")]
    Wrong,
    #[error("this address has expired")]
    Expired,
    #[error("this address is played from as many IP addresses as it allows already")]
    TooMany,
    #[error("the page that embeds this address may not")]
    Referer,
    #[error("this address is restricted to regions, which are not known here")]
    Region,
    #[error("this address is a preview: it is played by its playlist (.m3u8), as far as that goes")]
    Preview,
}

impl Terms {
    fn fields(&self) -> [(&'static str, &str); 8] {
        [
            ("t", &self.t),
            ("exper", &self.exper),
            ("rlimit", &self.rlimit),
            ("us", &self.us),
            ("whref", &self.whref),
            ("bkref", &self.bkref),
            ("whreg", &self.whreg),
            ("bkreg", &self.bkreg),
        ]
    }

    fn field_mut(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "t" => &mut self.t,
            "exper" => &mut self.exper,
            "rlimit" => &mut self.rlimit,
            "us" => &mut self.us,
            "whref" => &mut self.whref,
            "bkref" => &mut self.bkref,
            "whreg" => &mut self.whreg,
            "bkreg" => &mut self.bkreg,
            _ => return None,
        })
    }

    /// The signature for everything in the folder `dir`.
    pub fn sign(&self, key: &str, dir: &str) -> String {
        let mut hash = Md5::new();
        hash.update(key);
        hash.update(dir);
        self.fields().iter().for_each(|(_, value)| hash.update(value));
        hex(&hash.finalize())
    }

    /// The query of an address.
    pub fn query(&self, sign: &str) -> String {
        let mut query = String::new();
        for (name, value) in self.fields().into_iter().filter(|(_, value)| !value.is_empty()) {
            let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            query.push_str(&format!("{name}={value}&"));
        }
        query + "sign=" + sign
    }

    /// Seconds that may be played; `None`: all.
    pub fn preview_s(&self) -> Option<u64> {
        self.exper.parse().ok().filter(|seconds| *seconds > 0)
    }

    /// IP addresses that may play; `None`: any number.
    pub fn addresses_max(&self) -> Option<usize> {
        self.rlimit.parse().ok().filter(|count| *count > 0)
    }
}

/// What a request brought that was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    pub terms: Terms,
    pub sign: String,
    /// For one file of a preview: the byte before which it may be read.
    pub upto: Option<u64>,
}

/// Checks the query of a request for `path` against the keys; `fields` is the query, decoded. `referer`: the header's value.
///
/// How many IP addresses there are is for the caller to count.
///
/// # Errors
/// [`UrlError`].
pub fn check(protection: &UrlProtection, path: &str, fields: &[(String, String)], referer: Option<&str>, now_s: i64) -> Result<Granted, UrlError> {
    let (mut terms, mut sign, mut part, mut upto) = (Terms::default(), "", "", "");
    for (name, value) in fields.iter().filter(|(_, value)| value.len() <= VALUE_BYTES_MAX) {
        match name.as_str() {
            "sign" => sign = value,
            "part" => part = value,
            "upto" => upto = value,
            name => {
                if let Some(field) = terms.field_mut(name) {
                    value.clone_into(field);
                }
            }
        }
    }
    if sign.is_empty() || terms.t.is_empty() {
        return Err(UrlError::Missing);
    }
    let dir = &path[..=path.rfind('/').unwrap_or(0)];
    let key = protection.keys().find(|key| same(&sign.to_ascii_lowercase(), &terms.sign(key, dir))).ok_or(UrlError::Wrong)?;
    let end_s = i64::from_str_radix(&terms.t, 16).map_err(|_| UrlError::Wrong)?;
    if now_s > end_s {
        return Err(UrlError::Expired);
    }
    if !terms.whreg.is_empty() || !terms.bkreg.is_empty() {
        return Err(UrlError::Region);
    }
    let host = referer.and_then(host_of);
    let names = |list: &str| host.as_deref().is_some_and(|host| list.split(',').any(|name| is_of(host, name.trim())));
    if (!terms.whref.is_empty() && !names(&terms.whref)) || names(&terms.bkref) {
        return Err(UrlError::Referer);
    }
    let mut limit = None;
    if terms.preview_s().is_some() && !path.ends_with(".m3u8") && !path.ends_with(".vtt") {
        // A part of a preview: the playlist has said which, and how far.
        if !same(&part.to_ascii_lowercase(), &part_sign(key, path, &terms, upto)) {
            return Err(UrlError::Preview);
        }
        limit = upto.parse().ok();
    }
    Ok(Granted { terms, sign: sign.to_owned(), upto: limit })
}

/// The parameters beside, for one part of a preview.
pub fn part_query(protection: &UrlProtection, path: &str, terms: &Terms, upto: Option<u64>) -> String {
    let upto = upto.map(|upto| upto.to_string()).unwrap_or_default();
    format!("&upto={upto}&part={}", part_sign(&protection.key, path, terms, &upto))
}

fn part_sign(key: &str, path: &str, terms: &Terms, upto: &str) -> String {
    // With what no folder ends in, so that neither signature is ever the other.
    terms.sign(key, &format!("{path}\n{upto}\n"))
}

fn host_of(referer: &str) -> Option<String> {
    let rest = referer.split_once("://")?.1;
    let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let host = if host.starts_with('[') { host } else { host.split(':').next()? };
    Some(host.to_ascii_lowercase())
}

/// `host` is `name` or lies below it.
fn is_of(host: &str, name: &str) -> bool {
    let name = name.trim_start_matches("*.").to_ascii_lowercase();
    !name.is_empty() && (host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection() -> UrlProtection {
        UrlProtection { enable: true, key: "24FEQmTzro4V5u3D5epW".to_owned(), backup_key: "backupkey1".to_owned(), lifetime_s: 60 }
    }

    fn ask(path: &str, query: &str, referer: Option<&str>, now_s: i64) -> Result<Granted, UrlError> {
        let fields: Vec<_> =
            query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        check(&protection(), path, &fields, referer, now_s)
    }

    #[test]
    fn the_documented_example() {
        let terms = Terms { t: "5a71afc0".to_owned(), us: "72d4cd1101".to_owned(), ..Terms::default() };
        assert_eq!(terms.sign("24FEQmTzro4V5u3D5epW", "/dir1/dir2/"), "3d8488faeb37d52d6bf63b63c1b171c3");
        let address = "/dir1/dir2/myVideo.mp4";
        let query = "t=5a71afc0&us=72d4cd1101&sign=3d8488faeb37d52d6bf63b63c1b171c3";
        assert_eq!(terms.query("3d8488faeb37d52d6bf63b63c1b171c3"), query);
        let end = 0x5a71_afc0;
        for (path, query, now_s, expected) in [
            (address, query, end, Ok(())),
            ("/dir1/dir2/other.m3u8", query, end, Ok(())),
            (address, query, end + 1, Err(UrlError::Expired)),
            ("/dir1/dir3/myVideo.mp4", query, end, Err(UrlError::Wrong)),
            ("/dir1/dir2/a/b.mp4", query, end, Err(UrlError::Wrong)),
            (address, "", end, Err(UrlError::Missing)),
            (address, "t=5a71afc0&us=72d4cd1101", end, Err(UrlError::Missing)),
            (address, "t=5a71afc1&us=72d4cd1101&sign=3d8488faeb37d52d6bf63b63c1b171c3", end, Err(UrlError::Wrong)),
            (address, "t=5a71afc0&us=72d4cd1101&rlimit=3&sign=3d8488faeb37d52d6bf63b63c1b171c3", end, Err(UrlError::Wrong)),
            (address, "t=5a71afc0&us=72d4cd1101&sign=3D8488FAEB37D52D6BF63B63C1B171C3", end, Ok(())),
        ] {
            assert_eq!(ask(path, query, None, now_s).map(drop), expected, "{path}?{query} at {now_s}");
        }
        let by_backup = terms.query(&terms.sign("backupkey1", "/dir1/dir2/"));
        assert!(ask(address, &by_backup, None, end).is_ok());
    }

    #[test]
    fn pages_that_embed() {
        let terms =
            |whref: &str, bkref: &str| Terms { t: "ffffffff".to_owned(), whref: whref.to_owned(), bkref: bkref.to_owned(), ..Terms::default() };
        for (whref, bkref, referer, is_let_in) in [
            ("a.example", "", Some("https://a.example/page"), true),
            ("a.example", "", Some("https://www.a.example:8443/page"), true),
            ("a.example,b.example", "", Some("http://b.example"), true),
            ("a.example", "", Some("https://nota.example/"), false),
            ("a.example", "", Some("https://evil.example/?a.example"), false),
            ("a.example", "", None, false),
            ("", "a.example", Some("https://a.example/"), false),
            ("", "a.example", Some("https://b.example/"), true),
            ("", "a.example", None, true),
        ] {
            let terms = terms(whref, bkref);
            let fields: Vec<(String, String)> = terms.fields().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let fields = [fields, vec![("sign".to_owned(), terms.sign(&protection().key, "/d/"))]].concat();
            assert_eq!(check(&protection(), "/d/a.mp4", &fields, referer, 1).is_ok(), is_let_in, "{whref} {bkref} {referer:?}");
        }
    }

    #[test]
    fn parts_of_a_preview() {
        let terms = Terms { t: "ffffffff".to_owned(), exper: "30".to_owned(), ..Terms::default() };
        let query = terms.query(&terms.sign(&protection().key, "/d/"));
        assert!(ask("/d/a.m3u8", &query, None, 1).is_ok());
        assert_eq!(ask("/d/media-1.m4s", &query, None, 1), Err(UrlError::Preview));
        let part = format!("{query}{}", part_query(&protection(), "/d/media-1.m4s", &terms, Some(1_000)));
        assert_eq!(ask("/d/media-1.m4s", &part, None, 1).map(|granted| granted.upto), Ok(Some(1_000)));
        assert_eq!(ask("/d/media-1.m4s", &part.replace("upto=1000", "upto=9000"), None, 1), Err(UrlError::Preview));
        assert_eq!(ask("/d/media-2.m4s", &part, None, 1), Err(UrlError::Preview));
    }

    #[test]
    fn addresses_in_answers() {
        let protection = protection();
        let terms = protection.terms(1_000);
        assert_eq!(terms.t, "424");
        let sign = terms.sign(&protection.key, "/v/");
        assert_eq!(protection.signed("http://h/v/a.mp4", "/v/", &terms), format!("http://h/v/a.mp4?t=424&sign={sign}"));
        assert_eq!(protection.signed("a.jpg#xywh=1", "/v/", &terms), format!("a.jpg?t=424&sign={sign}#xywh=1"));
    }
}
