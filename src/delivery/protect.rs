//! Protected applications: their addresses need a signature, and what playlists list is signed with them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use percent_encoding::percent_decode_str;

use super::http::Request;
use crate::domain::url_sign::{self, Granted, UrlError, UrlProtection, part_query};

/// Signatures with a limit on IP addresses that are remembered; the oldest are forgotten first, in bulk.
const LIMITED_MAX: usize = 16_384;
/// Addresses that are remembered of one signature.
const ADDRESSES_MAX: usize = 1_024;

/// Which applications are protected, and who has played what with a limited signature.
#[derive(Default)]
pub struct Protections {
    by_app: ArcSwap<HashMap<u64, Arc<UrlProtection>>>,
    limited: Mutex<HashMap<String, Limited>>,
}

struct Limited {
    end_s: i64,
    from: HashSet<IpAddr>,
}

/// A request that was let in, and what lets in what it leads to.
pub struct Pass {
    pub protection: Arc<UrlProtection>,
    pub granted: Granted,
}

impl Protections {
    /// Replaces what is known; applications that are not protected may be among them.
    pub fn set(&self, by_app: HashMap<u64, UrlProtection>) {
        let protected = by_app.into_iter().filter(|(_, protection)| protection.enable).map(|(app, protection)| (app, Arc::new(protection)));
        self.by_app.store(Arc::new(protected.collect()));
    }

    pub fn is_empty(&self) -> bool {
        self.by_app.load().is_empty()
    }

    pub fn of(&self, app: u64) -> Option<Arc<UrlProtection>> {
        self.by_app.load().get(&app).cloned()
    }

    /// Checks a request for something of this application. `None`: it is not protected.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, app: u64, request: &Request<'_>, now_s: i64) -> Result<Option<Pass>, UrlError> {
        let Some(protection) = self.of(app) else { return Ok(None) };
        let granted = url_sign::check(&protection, request.path(), &fields(request.query()), request.header("Referer"), now_s)?;
        if let (Some(count), Some(peer)) = (granted.terms.addresses_max(), request.peer)
            && !self.admit(&granted, count, peer, now_s)
        {
            return Err(UrlError::TooMany);
        }
        Ok(Some(Pass { protection, granted }))
    }

    fn admit(&self, granted: &Granted, count: usize, peer: IpAddr, now_s: i64) -> bool {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        // One signature for each folder, but one limit for all that was signed alike.
        let terms = &granted.terms;
        let name = format!("{}\n{}\n{}\n{}", terms.t, terms.rlimit, terms.us, terms.exper);
        if limited.len() >= LIMITED_MAX && !limited.contains_key(&name) {
            limited.retain(|_, one| one.end_s >= now_s);
            if limited.len() >= LIMITED_MAX {
                limited.clear();
            }
        }
        let end_s = i64::from_str_radix(&terms.t, 16).unwrap_or(now_s);
        let one = limited.entry(name).or_insert_with(|| Limited { end_s, from: HashSet::new() });
        one.from.contains(&peer) || (one.from.len() < count.min(ADDRESSES_MAX) && one.from.insert(peer))
    }
}

/// Names and values of a query, decoded.
fn fields(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

impl Pass {
    /// A playlist (or the list of a sprite's pictures) at `path`, with a signature in every address of ours; of a preview, what may be played.
    pub fn list(&self, text: &str, path: &str) -> String {
        let text = match self.granted.terms.preview_s() {
            Some(seconds) => shortened(text, seconds * 1_000),
            None => text.to_owned(),
        };
        let ends = if self.granted.terms.preview_s().is_some() { ends(&text, path) } else { HashMap::new() };
        let mut signed = String::with_capacity(text.len() * 2);
        for line in text.lines() {
            match line.split_once("URI=\"") {
                Some((before, rest)) if line.starts_with("#EXT") => {
                    let (address, after) = rest.split_once('"').unwrap_or((rest, ""));
                    signed.push_str(&format!("{before}URI=\"{}\"{after}", self.address(address, path, &ends)));
                }
                // Pictures of a sprite name a part of themselves.
                _ if (is_address(line) && text.starts_with("#EXTM3U")) || line.contains("#xywh=") => {
                    signed.push_str(&self.address(line, path, &ends))
                }
                _ => signed.push_str(line),
            }
            signed.push('\n');
        }
        signed
    }

    fn address(&self, address: &str, path: &str, ends: &HashMap<String, u64>) -> String {
        let Some(target) = target_of(address, path) else { return address.to_owned() };
        let dir = &target[..=target.rfind('/').unwrap_or(0)];
        let terms = &self.granted.terms;
        let signed = self.protection.signed(address, dir, terms);
        let is_list = target.ends_with(".m3u8") || target.ends_with(".vtt");
        if terms.preview_s().is_some() && !is_list {
            signed + &part_query(&self.protection, &target, terms, ends.get(&target).copied())
        } else {
            signed
        }
    }
}

fn is_address(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The path that a relative address means; `None`: it is none, and leads elsewhere.
fn target_of(address: &str, path: &str) -> Option<String> {
    let address = address.split(['?', '#']).next()?;
    if address.is_empty() || address.starts_with('/') || address.contains(':') {
        return None;
    }
    let mut folder = &path[..path.rfind('/')?];
    let mut rest = address;
    while let Some(further) = rest.strip_prefix("../") {
        folder = &folder[..folder.rfind('/')?];
        rest = further;
    }
    Some(format!("{folder}/{rest}"))
}

/// Where each file ends that the playlist names by ranges: the byte behind the last one that is listed.
fn ends(text: &str, path: &str) -> HashMap<String, u64> {
    let mut ends: HashMap<String, u64> = HashMap::new();
    let mut end = None;
    for line in text.lines() {
        if let Some(range) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            end = range.split_once('@').and_then(|(length, offset)| length.trim().parse::<u64>().ok()?.checked_add(offset.trim().parse().ok()?));
        } else if is_address(line)
            && let (Some(end), Some(target)) = (end.take(), target_of(line, path))
        {
            let known = ends.entry(target).or_insert(0);
            *known = end.max(*known);
        }
    }
    ends
}

/// A playlist as far as its first `limit_ms`, whole segments; one that lists playlists stays as it is.
fn shortened(text: &str, limit_ms: u64) -> String {
    let mut kept = String::with_capacity(text.len());
    let (mut waiting, mut begin_ms, mut length_ms) = (String::new(), 0, 0);
    for line in text.lines() {
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            let seconds: f64 = length.split(',').next().unwrap_or_default().parse().unwrap_or(0.0);
            length_ms = (seconds * 1_000.0) as u64;
        }
        waiting.push_str(line);
        waiting.push('\n');
        if is_address(line) {
            if begin_ms >= limit_ms {
                return kept + crate::container::hls::ENDLIST;
            }
            begin_ms += std::mem::take(&mut length_ms);
            kept.push_str(&std::mem::take(&mut waiting));
        }
    }
    kept + &waiting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::url_sign::Terms;

    fn pass(exper: &str) -> Pass {
        let protection = UrlProtection { enable: true, key: "abcdefgh12".to_owned(), ..UrlProtection::default() };
        let terms = Terms { t: "ffffffff".to_owned(), exper: exper.to_owned(), ..Terms::default() };
        Pass { protection: Arc::new(protection), granted: Granted { terms, sign: String::new(), upto: None } }
    }

    const LIST: &str = "#EXTM3U\n#EXT-X-MAP:URI=\"init-1.m4s\"\n#EXTINF:4.000,\n#EXT-X-BYTERANGE:100@4096\nmedia-1.m4s\n#EXTINF:4.000,\n#EXT-X-BYTERANGE:50@4196\nmedia-1.m4s\n#EXT-X-KEY:METHOD=AES-128,URI=\"https://keys.example/key?a=1\"\n#EXTINF:2.000,\n../8/media-1.m4s\n#EXT-X-ENDLIST\n";

    #[test]
    fn every_address_of_ours_is_let_in() {
        let pass = pass("");
        let list = pass.list(LIST, "/vod/5/7/a.m3u8");
        let mut checked = 0;
        for line in list.lines() {
            let address = line.split_once("URI=\"").map_or(line, |(_, rest)| rest.split('"').next().unwrap());
            let Some((file, query)) = address.split_once('?').filter(|(file, _)| !file.starts_with('#') && !file.contains(':')) else { continue };
            let path = target_of(file, "/vod/5/7/a.m3u8").unwrap();
            assert!(url_sign::check(&pass.protection, &path, &fields(query), None, 1).is_ok(), "{line}");
            checked += 1;
        }
        assert_eq!(checked, 4);
        assert!(list.contains("URI=\"https://keys.example/key?a=1\"") && list.ends_with("#EXT-X-ENDLIST\n"));
        let master = pass.list("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nadp.10.1.m3u8\n", "/vod/5/7/adp.10.m3u8");
        assert!(master.contains("adp.10.1.m3u8?t=ffffffff&sign="));
        let sprite = pass.list("WEBVTT\n\n00:00.000 --> 00:10.000\nsprite-1.jpg#xywh=0,0,1,1\n", "/vod/5/7/s.vtt");
        assert!(
            sprite.contains("sprite-1.jpg?t=ffffffff&sign=") && sprite.contains("#xywh=0,0,1,1") && sprite.starts_with("WEBVTT\n\n00:00.000 -->")
        );
    }

    #[test]
    fn a_preview_ends_where_it_may() {
        let list = pass("3").list(LIST, "/vod/5/7/a.m3u8");
        assert_eq!(list.matches("#EXTINF").count(), 1);
        assert!(list.ends_with("#EXT-X-ENDLIST\n") && list.contains("&upto=4196&part="), "{list}");
        assert_eq!(pass("9").list(LIST, "/vod/5/7/a.m3u8").matches("#EXTINF").count(), 3);
    }

    #[test]
    fn so_many_addresses_and_no_more() {
        let protections = Protections::default();
        let protection = UrlProtection { enable: true, key: "abcdefgh12".to_owned(), ..UrlProtection::default() };
        let terms = Terms { t: "ffffffff".to_owned(), rlimit: "2".to_owned(), ..Terms::default() };
        let target = format!("/vod/5/7/a.mp4?{}", terms.query(&terms.sign(&protection.key, "/vod/5/7/")));
        protections.set(HashMap::from([(3, protection)]));
        let ask = |app, last| {
            let request = Request { method: "GET", target: &target, headers: &[], peer: Some(IpAddr::from([10, 0, 0, last])) };
            protections.check(app, &request, 1).map(|pass| pass.is_some())
        };
        assert_eq!([1, 2, 1, 3, 2].map(|last| ask(3, last)), [Ok(true), Ok(true), Ok(true), Err(UrlError::TooMany), Ok(true)]);
        assert_eq!(ask(0, 9), Ok(false), "another application is not protected");
    }
}
