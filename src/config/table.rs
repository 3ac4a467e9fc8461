//! The one declaration of every setting. Struct, default, parser, help text and README table all come from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::credential::{BearerToken, CREDENTIALS_MAX, Credential, WebhookSecret};
use super::tls::{TLS_CERTIFICATES_MAX, TlsCertificate};
use super::value::{ADDRESS_OR_EMPTY, DELIVERY_LISTEN, DOMAIN, ENCODER_PRESET, LOG_LEVEL, PUBLIC_BASE, TIME_ZONE};
use super::value::{CountMax, DuplicatePublisher, Eviction, HlsContainer, ListBounds, LogFormat, Reader, Value, WhenBusy};
use crate::units::Format;

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Section and name: `ingest.tick_ms`; no section for what stands at the top of the file.
    pub key: String,
    /// What may be written, with its bounds.
    pub values: String,
    /// As it would stand in the file.
    pub default: String,
    /// Empty for values without a unit.
    pub unit: &'static str,
    /// Written as repeated `[[section.name]]` blocks.
    pub blocks: bool,
    pub doc: String,
}

/// Joins the lines of a doc comment.
fn doc_text(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! or_unit {
    () => {
        ()
    };
    ($value:expr) => {
        $value
    };
}

macro_rules! or_empty {
    () => {
        ""
    };
    ($value:literal) => {
        $value
    };
}

macro_rules! declare {
    (
        top {
            $( $(#[doc = $top_doc:literal])+ $top:ident: $top_type:ty = $top_default:expr; )+
        }
        $(
            $(#[doc = $section_doc:literal])+
            $section:ident: $Section:ident {
                $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr $(, in $bounds:expr)? $(, unit $unit:literal)?; )+
            }
        )+
    ) => {
        /// Every setting, typed.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $top_doc])+ pub $top: $top_type, )+
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $top: $top_default, )+ $( $section: $Section::default(), )+ }
            }
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $key: $type, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        impl Config {
            pub(super) fn is_section(name: &str) -> bool {
                [$( stringify!($section) ),+].contains(&name)
            }

            /// Takes over a value from the top of the file. False: no such setting. Wrong values go to the reader's problems.
            pub(super) fn read_top(&mut self, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool {
                match key {
                    $( stringify!($top) => {
                        if let Some(value) = <$top_type as Value>::read(value, &(), reader) {
                            self.$top = value;
                        }
                    } )+
                    _ => return false,
                }
                true
            }

            /// As [`Config::read_top`] for `[section]`.
            pub(super) fn read_in_section(&mut self, section: &str, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool {
                match (section, key) {
                    $( $( (stringify!($section), stringify!($key)) => {
                        if let Some(value) = <$type as Value>::read(value, &or_unit!($($bounds)?), reader) {
                            self.$section.$key = value;
                        }
                    } )+ )+
                    _ => return false,
                }
                true
            }
        }

        impl Config {
            /// The values in effect as they would stand in the file, in the order of [`settings`]. Of keys and tokens only the names.
            pub fn values_shown(&self) -> Vec<String> {
                vec![$( self.$top.show(), )+ $( $( self.$section.$key.show(), )+ )+]
            }
        }

        /// The table, in the order of declaration.
        pub fn settings() -> Vec<Setting> {
            let config = Config::default();
            vec![
                $( Setting {
                    key: stringify!($top).to_owned(),
                    values: <$top_type as Value>::values(&()),
                    default: config.$top.show(),
                    unit: "",
                    blocks: <$top_type as Value>::BLOCKS,
                    doc: doc_text(&[$($top_doc),+]),
                }, )+
                $( $( Setting {
                    key: concat!(stringify!($section), ".", stringify!($key)).to_owned(),
                    values: <$type as Value>::values(&or_unit!($($bounds)?)),
                    default: config.$section.$key.show(),
                    unit: or_empty!($($unit)?),
                    blocks: <$type as Value>::BLOCKS,
                    doc: doc_text(&[$($doc),+]),
                }, )+ )+
            ]
        }
    };
}

declare! {
    top {
        /// Folder of everything Capstan keeps: catalog, open and finished recordings. Created if absent.
        data_folder: PathBuf = PathBuf::from("./capstan-data");
        /// Further folders for recordings, usually on other disks, which have to exist. A recording goes where there is most room, and away from a disk that is
        /// full, fails or hangs. One that is not there is done without until it appears.
        more_data_folders: Vec<PathBuf> = Vec::new();
    }

    /// Taking streams in.
    ingest: IngestConfig {
        /// Where publishers connect by RTMP. Beyond loopback only with `api.credentials` or `api.bearer_tokens`.
        rtmp_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1935));
        /// Where publishers connect by RTMPS (RTMP over TLS), usually port 443 or 1936. Empty: not offered. Needs `ingest.tls_certificates`.
        rtmps_listen: String = String::new(), in ADDRESS_OR_EMPTY;
        /// Certificates of RTMPS, one `[[ingest.tls_certificates]]` block each: `certificate` (PEM, with its chain) and `key` (PEM). A publisher gets
        /// the first that is good for the name it connects to, else the first of all. Read anew at SIGHUP and within 10 s of a change of the files.
        tls_certificates: Vec<TlsCertificate> = Vec::new(), in TLS_CERTIFICATES_MAX;
        /// CPUs that take streams in, one pinned executor each. Empty: every CPU this process may use.
        cores: Vec<usize> = Vec::new(), in ListBounds { length_max: 256, value_max: 1023 };
        /// How often a core empties its sockets. Longer costs less CPU and more buffer.
        tick_ms: u64 = 50, in 5..=1_000, unit "ms";
        /// A second publisher of a live stream takes its name over (`replace`) or is turned away (`refuse`).
        duplicate_publisher: DuplicatePublisher = DuplicatePublisher::Replace;
        /// A publisher that sends nothing for this long is disconnected.
        idle_timeout_s: u64 = 30, in 1..=3_600, unit "s";
        /// From the connection to the begin of publishing.
        handshake_timeout_s: u64 = 10, in 1..=300, unit "s";
        /// Publishers at the same time, all cores together.
        publishers_max: usize = 10_000, in 1..=100_000;
        /// MiB of media a second that all publishers together may send; while more comes, further publishers are turned away. 0: any rate.
        bandwidth_max_mib: u64 = 0, in 0..=1_000_000, unit "MiB";
        /// Memory between network and disk for each core. 0: by the room in `arena_folder` and the free memory.
        arena_mib: u64 = 0, in 0..=1_048_576, unit "MiB";
        /// Folder of that memory, on a tmpfs so that the disk never stalls a core.
        arena_folder: PathBuf = PathBuf::from("/dev/shm");
        /// Domain of publishers that connect to a bare IP address, or to a name that is no domain (`recorder`), and name no `vhost`.
        default_domain: String = "localhost".to_owned(), in DOMAIN;
        /// Refuse publishers of domains that `AddLiveDomain` has not added. Signed push addresses protect only the domains that have them.
        added_domains_only: bool = false;
    }

    /// API, finished files, metrics and health.
    http: HttpConfig {
        /// Where HTTP is served. Beyond loopback only with `api.credentials` or `api.bearer_tokens`.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        /// Threads that answer requests.
        workers: usize = 4, in 1..=64;
        /// Connections at the same time; more are refused.
        connections_max: usize = 256, in 1..=10_000;
        /// Begin of the addresses of recordings. Empty: `http://` and the address of `delivery.listen`.
        public_base: String = String::new(), in PUBLIC_BASE;
    }

    /// Playing and downloading recordings.
    delivery: DeliveryConfig {
        /// Where recordings are served: an address, `off` (by `http.listen` alone, slowly) or `auto`: 127.0.0.1:8081 beside the default `http.listen`, else a
        /// free port of the same address, kept from start to start. Beyond loopback only with `api.credentials` or `api.bearer_tokens`.
        listen: String = "auto".to_owned(), in DELIVERY_LISTEN;
        /// Connections at the same time; more are refused.
        connections_max: usize = 4_096, in 1..=100_000;
        /// Threads that send.
        senders: usize = 4, in 1..=64;
        /// A connection without a request is closed after this.
        idle_timeout_s: u64 = 30, in 1..=3_600, unit "s";
        /// When the ingest cores are short of time or memory: `shed` pauses downloads and answers 503, `serve` goes on.
        when_busy: WhenBusy = WhenBusy::Shed;
    }

    /// How recordings are written.
    record: RecordConfig {
        /// Zone of the times in file names, by its IANA name.
        time_zone: String = "UTC".to_owned(), in TIME_ZONE;
        /// At most this much of a recording is lost when the power fails.
        durability_ms: u64 = 1_000, in 100..=60_000, unit "ms";
        /// Container of HLS segments.
        hls_container: HlsContainer = HlsContainer::Fmp4;
        /// An HLS segment ends at the first key frame after this.
        hls_segment_ms: u64 = 4_000, in 500..=60_000, unit "ms";
        /// The time of day that encoders send with their streams (`onFI`) counts in playlists and files. Else it is when the frames came.
        trust_encoder_clock: bool = false;
        /// Record into `data_folder` too. `false`: only while no folder of `more_data_folders` can take recordings.
        in_data_folder: bool = true;
        /// Space left free on each disk: before less is left, open files are finished, and nothing is recorded until there is more.
        reserve_mib: u64 = 256, in 16..=16_777_216, unit "MiB";
        /// What goes when twice the reserve is reached: nothing (`none`), the oldest finished recordings (`oldest`), or those that their template's
        /// `StorageTime` would delete next (`expiring`).
        eviction: Eviction = Eviction::None;
        /// What a record task without a template records.
        default_task_format: Format = Format::Flv;
        /// Enter a rule that records every stream as MP4 and HLS when the catalog is created.
        first_run_rule: bool = true;
    }

    /// Who may call the API, and its quotas.
    api: ApiConfig {
        /// The account's AppId in file addresses and answers.
        app_id: u64 = 1_300_000_001, in 1..=4_294_967_295;
        /// Keys of API callers, one `[[api.credentials]]` block each: `secret_id`, `secret_key` (16 bytes or more) and
        /// `role` (`admin`, `operator`: no deleting, or `reader`: only looking). Read anew at SIGHUP.
        credentials: Vec<Credential> = Vec::new(), in CREDENTIALS_MAX;
        /// Tokens of API callers who send `Authorization: Bearer TOKEN` instead of signing, one `[[api.bearer_tokens]]` block each: `name`,
        /// `token` (16 bytes or more) and `role`. Read anew at SIGHUP.
        bearer_tokens: Vec<BearerToken> = Vec::new(), in CREDENTIALS_MAX;
        /// Accept calls from this machine without signature or token, as long as there are neither credentials nor tokens. Read anew at SIGHUP.
        unsigned_loopback: bool = true;
        /// Calls a second of one action by one credential or token, twice as many at once; more are refused. 0: any number. Read anew at SIGHUP.
        requests_per_second: u64 = 200, in 0..=1_000_000;
        /// Record templates, and as many callback templates.
        templates_max: u64 = 1_000, in 1..=100_000;
        /// Record rules, and as many callback rules.
        rules_max: u64 = 10_000, in 1..=100_000;
        /// Record tasks waiting or running.
        tasks_max: u64 = 10_000, in 1..=100_000;
        /// Domains.
        domains_max: u64 = 1_000, in 1..=10_000;
        /// A push domain that is added wants signed push addresses at once; else `ModifyLivePushAuthKey` has to say so.
        push_auth_default: bool = false;
        /// Tasks of the older calls (`CreateLiveRecord`) waiting or running.
        older_tasks_max: u64 = 400, in 1..=100_000;
        /// Tasks of the older calls made within 24 hours.
        older_tasks_per_day_max: u64 = 4_000, in 1..=1_000_000;
        /// Applications (`CreateSubAppId`) besides the main one.
        sub_apps_max: u64 = 50, in 0..=1_000;
        /// Task flows (`CreateProcedureTemplate`) of one application.
        procedures_max: u64 = 50, in 0..=1_000;
    }

    /// Callbacks to the addresses of callback templates, and events to the address of `ModifyEventConfig`.
    callbacks: CallbackConfig {
        /// Attempts after the first one, until a receiver has taken a message.
        retries_max: u64 = 12, in 0..=1_000;
        /// From one attempt to the next.
        retry_interval_ms: u64 = 60_000, in 100..=86_400_000, unit "ms";
        /// A receiver that has not answered by then has not taken the message.
        answer_timeout_ms: u64 = 20_000, in 100..=300_000, unit "ms";
        /// Requests under way at the same time, to all receivers. Half of them are kept for receivers that have just answered.
        requests_max: usize = 32, in 2..=512;
        /// Of these to one address, once it has answered; one at a time before.
        requests_per_address_max: usize = 4, in 1..=64;
        /// Networks that must not be called, also not by a name that leads there.
        forbidden_networks: Vec<IpNet> = Vec::new(), in CountMax(256);
        /// With it every callback also carries the headers of Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`).
        webhook_secret: WebhookSecret = WebhookSecret::default();
    }

    /// Task flows: renditions, adaptive streams and pictures of finished files, made by ffmpeg.
    process: ProcessConfig {
        /// The encoder: a path, or a name that is looked for as a shell does.
        ffmpeg: PathBuf = PathBuf::from("ffmpeg");
        /// What tells what a file holds; it comes with the encoder.
        ffprobe: PathBuf = PathBuf::from("ffprobe");
        /// Task flows that are carried out at the same time. 0: none, they wait.
        jobs_max: usize = 1, in 0..=64;
        /// As `jobs_max`, of one application.
        jobs_per_app_max: usize = 64, in 1..=64;
        /// Attempts at one part of a flow before it counts as failed.
        attempts_max: u64 = 3, in 1..=20;
        /// A part of a flow that takes longer is ended.
        timeout_s: u64 = 21_600, in 10..=604_800, unit "s";
        /// Politeness of the encoder towards other programs, as the command `nice` has it.
        nice: u64 = 15, in 0..=19;
        /// The encoder gets the disk only while nobody else wants it (I/O class idle). Without it: last among the others.
        io_idle: bool = false;
        /// CPUs of the encoder. Empty: those that take no streams in, or all if there are no others.
        cpus: Vec<usize> = Vec::new(), in ListBounds { length_max: 256, value_max: 1023 };
        /// Speed of x264 and x265 against size: `ultrafast`, `superfast`, `veryfast`, `faster`, `fast`, `medium`, `slow` or `slower`.
        preset: String = "veryfast".to_owned(), in ENCODER_PRESET;
        /// Segments of an encrypted stream to a key. 0: one key for each rendition.
        key_rotation_segments: u64 = 0, in 0..=100_000;
    }

    /// The log, on standard error.
    log: LogConfig {
        /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,capstan::rtmp=debug`.
        level: String = "info".to_owned(), in LOG_LEVEL;
        /// Lines for people or for machines.
        format: LogFormat = LogFormat::Text;
    }
}
