//! Every maximum with its reason; relations between them are checked when we compile.

/// Receive buffer of a core: big enough that a tick of a fat stream is one `recv`, small enough to stay in the L2 cache.
pub const RECEIVE_BUFFER_BYTES: usize = 256 << 10;

/// Largest RTMP message we assemble: one second at 67 Mbit/s. More is an attack or a broken encoder.
pub const MESSAGE_BYTES_MAX: u32 = 8 << 20;
/// Messages one publisher may interleave: audio, video, data and control need four.
pub const MESSAGES_PARTIAL_MAX: u32 = 8;
/// Partly assembled messages of one connection, all chunk streams together.
pub const CONNECTION_BYTES_MAX: u32 = 16 << 20;
/// Chunk streams of one connection. Encoders use below ten.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Largest chunk size a publisher may set (the specification allows 2^31-1; a chunk never exceeds a message).
pub const CHUNK_BYTES_MAX: u32 = 16 << 20;
/// AMF: nesting of objects and arrays.
pub const AMF_DEPTH_MAX: usize = 16;
/// AMF: values in one message.
pub const AMF_VALUES_MAX: usize = 4096;
/// AMF: a command or metadata message; the media limit would let one publisher hold megabytes of text.
pub const AMF_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Domain, app, stream name (events.md and actions.md bounds) and query of a push address, bytes.
pub const DOMAIN_BYTES_MAX: usize = 253;
pub const APP_BYTES_MAX: usize = 255;
pub const STREAM_BYTES_MAX: usize = 255;
pub const QUERY_BYTES_MAX: usize = 2048;
/// A sequence header (avcC, AudioSpecificConfig) with its tag header, bytes. Real ones are below 1 KiB. Those of all tracks have to fit into one block of memory
/// twice, see `segment/open_record.rs`.
pub const SEQUENCE_HEADER_BYTES_MAX: usize = 16 << 10;
/// Tracks of one publication.
pub const TRACKS_MAX: usize = 16;
/// RTMP message streams one connection may create. A publisher needs one; some create and delete a few.
pub const MESSAGE_STREAMS_MAX: usize = 8;

const _: () = assert!(MESSAGE_BYTES_MAX <= CONNECTION_BYTES_MAX);

/// `f_type` of a tmpfs (Linux: include/uapi/linux/magic.h).
pub const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
