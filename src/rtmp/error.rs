//! Why a session ends, and the groups that counters and end codes know.

use super::amf::AmfError;
use super::chunk::ChunkError;
use super::command::CommandError;
use super::handshake::HandshakeError;
use super::message::TornAggregate;

/// Why a connection cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the command is not valid AMF")]
    Amf(#[source] AmfError),
    #[error(transparent)]
    Aggregate(#[from] TornAggregate),
    #[error("a command message without a command name")]
    NoCommandName,
    #[error("the command {name} before connect")]
    BeforeConnect { name: String },
    #[error("connect without a command object")]
    ConnectWithoutObject,
    #[error("a second connect on the same connection")]
    SecondConnect,
    #[error("publish again before the first publish was answered")]
    PublishUnanswered,
    #[error("the peer sends commands and does not read the replies")]
    RepliesUnread,
}

/// Groups of [`SessionError`] for counters and end codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    Handshake,
    NotRtmp,
    Chunk,
    MessageTooLarge,
    Amf,
    Protocol,
}

impl ErrorKind {
    pub const ALL: [ErrorKind; 6] =
        [ErrorKind::Handshake, ErrorKind::NotRtmp, ErrorKind::Chunk, ErrorKind::MessageTooLarge, ErrorKind::Amf, ErrorKind::Protocol];

    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::Handshake => "handshake",
            ErrorKind::NotRtmp => "not_rtmp",
            ErrorKind::Chunk => "chunk",
            ErrorKind::MessageTooLarge => "message_too_large",
            ErrorKind::Amf => "amf",
            ErrorKind::Protocol => "protocol",
        }
    }
}

impl SessionError {
    pub const fn kind(&self) -> ErrorKind {
        match self {
            SessionError::Handshake(HandshakeError::NotRtmp(_)) => ErrorKind::NotRtmp,
            SessionError::Handshake(_) => ErrorKind::Handshake,
            SessionError::Chunk(ChunkError::MessageTooLarge { .. }) => ErrorKind::MessageTooLarge,
            SessionError::Chunk(_) => ErrorKind::Chunk,
            SessionError::Amf(_) | SessionError::NoCommandName => ErrorKind::Amf,
            SessionError::Aggregate(_)
            | SessionError::BeforeConnect { .. }
            | SessionError::ConnectWithoutObject
            | SessionError::SecondConnect
            | SessionError::PublishUnanswered
            | SessionError::RepliesUnread => ErrorKind::Protocol,
        }
    }
}

impl From<CommandError> for SessionError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Amf(source) => SessionError::Amf(source),
            CommandError::NoName => SessionError::NoCommandName,
        }
    }
}
