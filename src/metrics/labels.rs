//! Label values: closed sets, so that nothing a client sends can add a time series.

/// A fixed set of label values.
pub(super) trait Label: Copy + 'static {
    const ALL: &'static [Self];
    /// The value as Prometheus sees it.
    fn text(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+ } )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The label value.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$( Self::$variant ),+];
            fn text(self) -> &'static str {
                self.name()
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    )+ };
}

labels! {
    /// Kind of a frame.
    Track {
        Video = "video",
        Audio = "audio",
        /// Metadata and other script data.
        Data = "data",
    }

    /// Why a publication ended.
    PublicationEnd {
        /// The publisher said so.
        Closed = "closed",
        /// Content that is no RTMP or no media.
        ProtocolError = "protocol_error",
        MessageTooLarge = "message_too_large",
        /// No data for too long.
        Idle = "idle",
        /// Reset or half-open connection on the publisher's side.
        Network = "network",
        AmfError = "amf_error",
        /// DropLiveStream or ForbidLiveStream.
        Dropped = "dropped",
        /// A newer publisher took the name over.
        Replaced = "replaced",
        Shutdown = "shutdown",
        /// Our own error.
        Internal = "internal",
    }

    /// Why a connection ended without having published, or was turned away.
    ConnectionError {
        /// Plain HTTP, TLS or a port scanner.
        NotRtmp = "not_rtmp",
        Handshake = "handshake",
        Chunk = "chunk",
        Amf = "amf",
        Command = "command",
        TooLarge = "too_large",
        /// Handshake or commands took too long.
        Timeout = "timeout",
        Network = "network",
        /// `publishers_max` or the limit of open files is reached.
        TooMany = "too_many",
        /// The name is live and `duplicate_publisher` is `refuse`.
        NameInUse = "name_in_use",
        /// Domain, app, stream name or signature.
        Refused = "refused",
        /// It wanted to play.
        Play = "play",
        /// `accept` itself failed, most often for want of a file descriptor.
        Accept = "accept",
        Internal = "internal",
    }

    /// Why a frame is in no file although a recording was open.
    DropReason {
        /// No free block: the disk did not follow.
        NoBlock = "no_block",
        /// The file's disk writer failed.
        Storage = "storage",
        /// The data folder's disk is full.
        DiskFull = "disk_full",
        /// It came before its sequence header.
        NoConfiguration = "no_configuration",
        /// Video before the first key frame.
        BeforeKeyFrame = "before_key_frame",
        /// Its tag or its content could not be read.
        Malformed = "malformed",
        /// More tracks than a recording takes, or a codec nothing here records.
        Unsupported = "unsupported",
    }

    /// Why no finished file came of a recording.
    FileFailure {
        Create = "create",
        Write = "write",
        DiskFull = "disk_full",
        Sync = "sync",
        Finish = "finish",
        Rename = "rename",
        /// The file is there but could not be entered into the catalog.
        Catalog = "catalog",
        /// It held no complete frame.
        Empty = "empty",
    }

    /// Step of a helper thread on a recording's file.
    DiskStep {
        /// Create, allocate and write the head.
        Open = "open",
        Write = "write",
        Sync = "sync",
        /// Scan, write the index, sync and rename.
        Finish = "finish",
        /// Truncate, or make room for the index.
        Resize = "resize",
    }

    /// What became of an attempt to deliver a callback.
    CallbackResult {
        Delivered = "delivered",
        /// It is tried again.
        Failed = "failed",
        /// The last attempt failed too.
        GivenUp = "given_up",
    }

    /// A codec that arrives and is not recorded, by its usual name.
    Codec {
        Hevc = "hevc",
        Vvc = "vvc",
        Av1 = "av1",
        Vp8 = "vp8",
        Vp9 = "vp9",
        Vp6 = "vp6",
        H263 = "h263",
        Screen = "screen",
        Opus = "opus",
        Flac = "flac",
        Ac3 = "ac3",
        Eac3 = "eac3",
        Speex = "speex",
        Nellymoser = "nellymoser",
        Adpcm = "adpcm",
        Pcm = "pcm",
        G711 = "g711",
        Other = "other",
    }
}

impl Codec {
    /// `other` for a name that is not in the list; letters of any case.
    pub(super) fn by_name(name: &str) -> Self {
        Self::ALL.iter().copied().find(|codec| codec.name().eq_ignore_ascii_case(name)).unwrap_or(Codec::Other)
    }
}
