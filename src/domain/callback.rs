//! Callback templates: which address is told of what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::TemplateId;

use super::event::{ExceptionLevel, LiveEventKind};

/// An address of a callback template.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum CallbackAddress {
    StreamBegin,
    StreamEnd,
    Record,
    RecordStatus,
    RecordException,
    PushException,
    /// This one and the following are stored and never called.
    Snapshot,
    PornCensorship,
    StreamMix,
    AudioAudit,
}

/// A callback template of the API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallbackTemplate {
    pub id: TemplateId,
    pub name: String,
    pub description: String,
    /// Those that are set.
    pub addresses: BTreeMap<CallbackAddress, String>,
    /// Which exceptions are told. Empty: errors and warnings.
    pub exception_levels: Vec<ExceptionLevel>,
    /// What `sign` is made with.
    pub key: String,
}

impl CallbackTemplate {
    /// A template that calls nobody.
    pub fn empty(id: TemplateId, name: &str) -> Self {
        Self { id, name: name.to_owned(), description: String::new(), addresses: BTreeMap::new(), exception_levels: Vec::new(), key: String::new() }
    }

    /// Empty if it is not set.
    pub fn address(&self, address: CallbackAddress) -> &str {
        self.addresses.get(&address).map_or("", String::as_str)
    }

    /// Empty text clears it.
    pub fn set_address(&mut self, address: CallbackAddress, url: String) {
        if url.is_empty() {
            self.addresses.remove(&address);
        } else {
            self.addresses.insert(address, url);
        }
    }

    /// Is an exception of this level told?
    pub fn tells(&self, level: ExceptionLevel) -> bool {
        if self.exception_levels.is_empty() { level != ExceptionLevel::Info } else { self.exception_levels.contains(&level) }
    }
}

/// `event_type` of a file that is ready.
pub const EVENT_RECORD: u32 = 100;
/// `event_type` of something that went wrong while recording.
pub const EVENT_RECORD_EXCEPTION: u32 = 341;

/// The `event_type` of what happened to a stream, and who is told. `None`: nobody.
pub fn callback_of(kind: &LiveEventKind) -> Option<(u32, CallbackAddress)> {
    Some(match kind {
        LiveEventKind::PublishBegan => (1, CallbackAddress::StreamBegin),
        LiveEventKind::PublishEnded { .. } => (0, CallbackAddress::StreamEnd),
        LiveEventKind::PublishRefused { .. } => return None,
        LiveEventKind::RecordState { .. } => (332, CallbackAddress::RecordStatus),
        LiveEventKind::RecordException { .. } => (EVENT_RECORD_EXCEPTION, CallbackAddress::RecordException),
        LiveEventKind::PushAbnormal { .. } => (321, CallbackAddress::PushException),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExceptionLevel::{Error, Info, Warning};

    #[test]
    fn levels() {
        for (levels, told) in [(&[][..], [false, true, true]), (&[Error], [false, false, true]), (&[Info, Warning], [true, true, false])] {
            let template = CallbackTemplate { exception_levels: levels.to_vec(), ..CallbackTemplate::empty(TemplateId(1), "t") };
            assert_eq!([Info, Warning, Error].map(|level| template.tells(level)), told, "{levels:?}");
        }
    }

    #[test]
    fn addresses_are_set_and_cleared() {
        let mut template = CallbackTemplate::empty(TemplateId(1), "t");
        template.set_address(CallbackAddress::Record, "http://a.example/".to_owned());
        template.set_address(CallbackAddress::StreamEnd, String::new());
        assert_eq!((template.address(CallbackAddress::Record), template.address(CallbackAddress::StreamEnd)), ("http://a.example/", ""));
        template.set_address(CallbackAddress::Record, String::new());
        assert!(template.addresses.is_empty());
    }
}
