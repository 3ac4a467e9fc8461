//! Who publishes what: the stream's name, its domain, and why a publication ends.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::domain::admission::{Admission, NotAdmitted, PushSignature, is_domain_name};
use crate::domain::{EndReason, Policy};
use crate::metrics::PublicationEnd;
use crate::units::{StreamKey, WallTime};

/// Why a publication ended, with the codes of the stream-ended event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndCause {
    /// The publisher said so (deleteStream, FCUnpublish, closeStream).
    Closed,
    Content,
    MessageTooLarge,
    /// No data for too long.
    Idle,
    /// The connection was reset or closed without a word.
    Network,
    /// A call of DropLiveStream.
    Dropped,
    /// A call of ForbidLiveStream or ForbidLiveDomain.
    Forbidden,
    /// A newer publisher of the same name.
    Replaced,
    Shutdown,
    Internal,
    Amf,
}

impl EndCause {
    pub const fn code(self) -> u32 {
        match self {
            EndCause::Closed => 1,
            EndCause::Internal | EndCause::Shutdown => 5,
            EndCause::Content => 6,
            EndCause::MessageTooLarge => 7,
            EndCause::Idle => 8,
            EndCause::Network => 12,
            EndCause::Dropped | EndCause::Forbidden | EndCause::Replaced => 21,
            EndCause::Amf => 33,
        }
    }

    pub const fn label(self) -> PublicationEnd {
        match self {
            EndCause::Closed => PublicationEnd::Closed,
            EndCause::Content => PublicationEnd::ProtocolError,
            EndCause::MessageTooLarge => PublicationEnd::MessageTooLarge,
            EndCause::Idle => PublicationEnd::Idle,
            EndCause::Network => PublicationEnd::Network,
            EndCause::Dropped | EndCause::Forbidden => PublicationEnd::Dropped,
            EndCause::Replaced => PublicationEnd::Replaced,
            EndCause::Shutdown => PublicationEnd::Shutdown,
            EndCause::Internal => PublicationEnd::Internal,
            EndCause::Amf => PublicationEnd::AmfError,
        }
    }

    pub const fn message(self) -> &'static str {
        match self {
            EndCause::Closed => "the publisher closed the stream",
            EndCause::Content => "protocol content error",
            EndCause::MessageTooLarge => "one message too large",
            EndCause::Idle => "no data for too long",
            EndCause::Network => "network error on the publisher's side",
            EndCause::Dropped => "21/100 dropped by a call",
            EndCause::Forbidden => "21/101 forbidden by a call",
            EndCause::Replaced => "21/102 replaced by a newer publisher of the same name",
            EndCause::Shutdown => "the server is shutting down",
            EndCause::Internal => "internal error",
            EndCause::Amf => "AMF error",
        }
    }

    pub const fn end_reason(self) -> EndReason {
        match self {
            EndCause::Shutdown => EndReason::Shutdown,
            _ => EndReason::PublicationEnded,
        }
    }
}

/// The name of a publication. `alias`: the same stream under the other domain that rules and tasks may use for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishName {
    pub key: StreamKey,
    pub alias: Option<StreamKey>,
}

/// Which domain a publication belongs to: the parameter `vhost`; else the host of `tcUrl`. Publishers that reach us by address belong to that address
/// if it was added or rules or tasks name it, else to the default domain. So do those whose host or `vhost` is no domain that a call could name (`recorder`,
/// `__defaultVhost__`): nobody could record or drop them by it.
pub fn publish_name(host: &str, app: &str, stream: &str, query: &str, default_domain: &str, policy: &Policy) -> PublishName {
    let key = |domain: &str| StreamKey::new(&domain.to_ascii_lowercase(), app, stream);
    let is_name = |domain: &str| is_domain_name(&domain.to_ascii_lowercase());
    match query_value(query, "vhost").filter(|domain| !domain.is_empty()) {
        Some(domain) if is_name(&domain) => return PublishName { key: key(&domain), alias: None },
        Some(_) => return PublishName { key: key(default_domain), alias: None },
        None => {}
    }
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if !is_address && is_name(host) {
        return PublishName { key: key(host), alias: None };
    }
    let (by_address, by_default) = (key(host), key(default_domain));
    if !is_address || host == default_domain {
        return PublishName { key: by_default, alias: None };
    }
    let named = policy.admission.domains.contains_key(host) || policy.rules.has_domain(host) || !policy.tasks_for(&by_address).is_empty();
    if named { PublishName { key: by_address, alias: Some(by_default) } } else { PublishName { key: by_default, alias: Some(by_address) } }
}

/// May this publication begin? Where it has two names, neither of them may be refused: the tasks of both would record it.
///
/// # Errors
/// [`NotAdmitted`]: what is told to the publisher, and stands in the list of stream events.
pub fn admit(name: &PublishName, query: &str, admission: &Admission, now: WallTime, added_only: bool) -> Result<(), NotAdmitted> {
    let (secret, time) = (query_value(query, "txSecret"), query_value(query, "txTime"));
    let signature = PushSignature { secret: secret.as_deref(), time: time.as_deref() };
    admission.check(&name.key, signature, now, added_only)?;
    name.alias.as_ref().map_or(Ok(()), |alias| admission.check(alias, signature, now, false))
}

/// The decoded value of a query parameter.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// The push address for the catalog: secrets (`txSecret`) removed.
pub fn push_url(key: &StreamKey, query: &str) -> String {
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("txSecret")).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("rtmp://{}/{}/{}{mark}{}", key.domain, key.app, key.stream, kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RecordRule;
    use crate::units::TemplateId;

    #[test]
    fn the_domain_of_a_publication() {
        let rule = RecordRule {
            domain: "10.0.0.1".to_owned(),
            app: String::new(),
            stream: String::new(),
            template_id: TemplateId(1001),
            create_time: WallTime::default(),
            update_time: WallTime::default(),
        };
        let policy = Policy { rules: vec![rule].into(), ..Policy::default() };
        for (host, query, domain, alias) in [
            ("push.example.com", "", "push.example.com", None),
            ("Push.Example.com", "a=b", "push.example.com", None),
            ("push.example.com", "vhost=other.example.com", "other.example.com", None),
            ("127.0.0.1", "", "localhost", Some("127.0.0.1")),
            ("127.0.0.1", "x=1&vhost=v.example.com", "v.example.com", None),
            ("10.0.0.1", "", "10.0.0.1", Some("localhost")),
            ("[::1]", "", "localhost", Some("[::1]")),
            ("", "", "localhost", None),
            ("localhost", "", "localhost", None),
            // A container's name, a machine's name, and what SRS calls its own.
            ("recorder", "", "localhost", None),
            ("my_host.lan", "", "localhost", None),
            ("push.example.com", "vhost=__defaultVhost__", "localhost", None),
            ("push.example.com", "vhost=..%2f..", "localhost", None),
            ("push.example.com", "vhost=V.Example.com", "v.example.com", None),
        ] {
            let name = publish_name(host, "live", "cam", query, "localhost", &policy);
            assert_eq!(&*name.key.domain, domain, "{host} {query}");
            assert_eq!(name.alias.as_ref().map(|key| &*key.domain), alias, "{host} {query}");
        }
    }

    #[test]
    fn secrets_do_not_reach_the_catalog() {
        let key = StreamKey::new("d.example", "live", "cam");
        for (query, expected) in [
            ("", "rtmp://d.example/live/cam"),
            ("txSecret=abc", "rtmp://d.example/live/cam"),
            ("txSecret=abc&txTime=5&u=1", "rtmp://d.example/live/cam?txTime=5&u=1"),
        ] {
            assert_eq!(push_url(&key, query), expected);
        }
    }
}
