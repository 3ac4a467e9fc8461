//! Why a publication is not admitted, and why a connection is closed.

use crate::domain::admission::NotAdmitted;
use crate::metrics::ConnectionError;
use crate::rtmp::error::{ErrorKind, SessionError};
use crate::rtmp::session::RefuseReason;

use super::publish::EndCause;
use super::tls::TlsError;

/// Why a publication is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    TooMany,
    /// `bandwidth_max_mib` is reached.
    TooMuch,
    /// No file descriptors are left.
    NoFiles,
    /// No memory is left between network and disk.
    NoMemory,
    NameInUse,
    NotAdmitted(NotAdmitted),
}

impl Refusal {
    pub const fn message(self) -> &'static str {
        match self {
            Refusal::TooMany => "too many publishers",
            Refusal::TooMuch => "the server takes no more bandwidth",
            Refusal::NoFiles => "the server has no file descriptors left",
            Refusal::NoMemory => "the server has no memory left: its disk does not follow",
            Refusal::NameInUse => "the stream is already being published",
            Refusal::NotAdmitted(reason) => reason.message(),
        }
    }

    /// As the list of stream events tells it.
    pub const fn event_message(self) -> &'static str {
        match self {
            Refusal::TooMany => "18/600 too many streams",
            Refusal::TooMuch => "18/600 too much bandwidth",
            Refusal::NoFiles => "18/600 no file descriptors left",
            Refusal::NoMemory => "18/600 no memory left",
            Refusal::NameInUse => "18/305 the stream is already being published",
            Refusal::NotAdmitted(reason) => reason.message(),
        }
    }

    /// As RTMP knows reasons.
    pub const fn reason(self) -> RefuseReason {
        match self {
            Refusal::NameInUse | Refusal::NotAdmitted(NotAdmitted::StreamForbidden) => RefuseReason::BadName,
            Refusal::TooMany | Refusal::TooMuch | Refusal::NoFiles | Refusal::NoMemory | Refusal::NotAdmitted(_) => RefuseReason::Denied,
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("the publisher closed the connection")]
    Eof,
    #[error("the connection failed")]
    Network(#[source] std::io::Error),
    #[error("protocol error")]
    Protocol(#[source] SessionError),
    #[error("RTMPS failed")]
    Tls(#[source] TlsError),
    #[error("malformed media tag")]
    Tag(#[source] crate::media::flv_tag::TagError),
    #[error("no publication within the handshake time-out")]
    HandshakeTimeout,
    #[error("no bytes for the idle time-out")]
    Idle,
    #[error("refused: {}", .0.message())]
    Refused(Refusal),
    #[error("replaced by a newer publisher of the same name")]
    Replaced,
    #[error("dropped by a call")]
    Dropped,
    #[error("forbidden by a call")]
    Forbidden,
    #[error("the server is shutting down")]
    Shutdown,
    #[error("the peer does not read our replies")]
    RepliesUnread,
    #[error("a defect in the server")]
    Panic,
}

impl CloseReason {
    /// The reason as metrics count it; `None` for an end that is no error.
    pub fn label(&self) -> Option<ConnectionError> {
        Some(match self {
            CloseReason::Eof | CloseReason::Replaced | CloseReason::Dropped | CloseReason::Forbidden | CloseReason::Shutdown => return None,
            CloseReason::Network(_) | CloseReason::RepliesUnread => ConnectionError::Network,
            CloseReason::Protocol(error) => match error.kind() {
                ErrorKind::NotRtmp => ConnectionError::NotRtmp,
                ErrorKind::Handshake => ConnectionError::Handshake,
                ErrorKind::Chunk => ConnectionError::Chunk,
                ErrorKind::MessageTooLarge => ConnectionError::TooLarge,
                ErrorKind::Amf => ConnectionError::Amf,
                ErrorKind::Protocol => ConnectionError::Command,
            },
            CloseReason::Tls(TlsError::Protocol(_)) => ConnectionError::Handshake,
            CloseReason::Tls(_) => ConnectionError::NotRtmp,
            CloseReason::Tag(_) => ConnectionError::Chunk,
            CloseReason::HandshakeTimeout | CloseReason::Idle => ConnectionError::Timeout,
            CloseReason::Refused(Refusal::TooMany | Refusal::TooMuch | Refusal::NoFiles | Refusal::NoMemory) => ConnectionError::TooMany,
            CloseReason::Refused(Refusal::NameInUse) => ConnectionError::NameInUse,
            CloseReason::Refused(Refusal::NotAdmitted(_)) => ConnectionError::Refused,
            CloseReason::Panic => ConnectionError::Internal,
        })
    }

    pub fn cause(&self) -> EndCause {
        match self {
            CloseReason::Eof | CloseReason::Network(_) => EndCause::Network,
            CloseReason::Protocol(error) => match error.kind() {
                ErrorKind::MessageTooLarge => EndCause::MessageTooLarge,
                ErrorKind::Amf => EndCause::Amf,
                _ => EndCause::Content,
            },
            CloseReason::Tls(_) => EndCause::Network,
            CloseReason::Tag(_) => EndCause::Content,
            CloseReason::HandshakeTimeout | CloseReason::Idle => EndCause::Idle,
            CloseReason::Refused(_) | CloseReason::RepliesUnread => EndCause::Content,
            CloseReason::Replaced => EndCause::Replaced,
            CloseReason::Dropped => EndCause::Dropped,
            CloseReason::Forbidden => EndCause::Forbidden,
            CloseReason::Shutdown => EndCause::Shutdown,
            CloseReason::Panic => EndCause::Internal,
        }
    }

    /// An end that a well-behaved publisher causes.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, CloseReason::Eof | CloseReason::Shutdown | CloseReason::Replaced | CloseReason::Dropped | CloseReason::Forbidden)
    }
}
