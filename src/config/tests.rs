use std::error::Error;
use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::units::Format;

/// The messages about `text`, or nothing if it is accepted.
fn messages(text: &str) -> Vec<String> {
    match Config::parse(text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { problems }) => problems.iter().map(Problem::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

const KEY: &str = "0123456789abcdef";

#[test]
fn wrong_settings_are_named_with_line_key_and_bound() {
    let cases: &[(&str, &[&str])] = &[
        // Unknown names.
        ("[ingest]\ntick_mss = 50\n", &["line 2: unknown setting `ingest.tick_mss`, did you mean `ingest.tick_ms`?"]),
        ("tick_ms = 50", &["line 1: unknown setting `tick_ms`, did you mean `ingest.tick_ms`?"]),
        ("[ingest]\n\n\nlisten = 1", &["line 4: unknown setting `ingest.listen`, did you mean `http.listen`?"]),
        ("# one\n[cluster]\nnodes = 3", &["line 2: unknown setting `cluster`"]),
        ("[cluster]\n[[cluster.nodes]]\na = 1", &["line 1: unknown setting `cluster`"]),
        ("\"a\\nb\" = 1", &["line 1: unknown setting `a\\nb`"]),
        ("data_foldr = \"x\"", &["line 1: unknown setting `data_foldr`, did you mean `data_folder`?"]),
        ("ingest.tick_ms.max = 1", &["line 1: `ingest.tick_ms` must be an integer, not a table"]),
        // Wrong types.
        ("ingest = 3", &["line 1: `ingest` must be a table, not an integer"]),
        ("[[ingest]]\ntick_ms = 1", &["line 1: `ingest` must be a table, not an array"]),
        ("[ingest]\ntick_ms = \"50\"", &["line 2: `ingest.tick_ms` must be an integer, not a string"]),
        ("[ingest]\ntick_ms = 50.0", &["line 2: `ingest.tick_ms` must be an integer, not a float"]),
        ("[record]\nfirst_run_rule = 1", &["line 2: `record.first_run_rule` must be true or false, not an integer"]),
        ("[http]\nlisten = 8080", &["line 2: `http.listen` must be a string, not an integer"]),
        ("data_folder = []", &["line 1: `data_folder` must be a string, not an array"]),
        ("[record]\ntime_zone = 2026-01-01", &["line 2: `record.time_zone` must be a string, not a date or time"]),
        ("[ingest]\ncores = 2", &["line 2: `ingest.cores` must be an array of integers, not an integer"]),
        ("[ingest]\ncores = [\n 0,\n \"1\",\n]", &["line 4: `ingest.cores` must be an integer, not a string"]),
        // Bounds.
        ("[ingest]\ntick_ms = 4", &["line 2: `ingest.tick_ms` = 4 is out of bounds, allowed: 5 to 1000"]),
        ("[ingest]\ntick_ms = 1001", &["line 2: `ingest.tick_ms` = 1001 is out of bounds, allowed: 5 to 1000"]),
        ("[ingest]\ntick_ms = -50", &["line 2: `ingest.tick_ms` = -50 is out of bounds, allowed: 5 to 1000"]),
        ("[ingest]\ntick_ms = 0x_", &["line 2: "]),
        ("[ingest]\ntick_ms = 0xFFFF", &["line 2: `ingest.tick_ms` = 0xFFFF is out of bounds, allowed: 5 to 1000"]),
        ("[api]\napp_id = 99999999999999999999", &["line 2: `api.app_id` = 99999999999999999999 is out of bounds, allowed: 1 to 4294967295"]),
        ("[ingest]\ncores = [0, 1, 1]", &["line 2: `ingest.cores` names 1 twice"]),
        ("[ingest]\ncores = [1024]", &["line 2: `ingest.cores` = 1024 is out of bounds, allowed: 0 to 1023"]),
        ("data_folder = \"\"", &["line 1: `data_folder` must be a path of 1 to 4095 bytes"]),
        ("data_folder = \"a\\u0000\"", &["line 1: `data_folder` must be a path of 1 to 4095 bytes"]),
        (
            "[ingest]\nrtmp_listen = \"localhost:1935\"",
            &[
                "line 2: `ingest.rtmp_listen` = \"localhost:1935\" is out of bounds, allowed: an IP address and a port such as \"127.0.0.1:1935\" or \"[::]:1935\"",
            ],
        ),
        ("[http]\nlisten = \"127.0.0.1:0\"", &["line 2: `http.listen` = \"127.0.0.1:0\" is out of bounds"]),
        ("[ingest]\ndefault_domain = \"intranet\"", &["line 2: `ingest.default_domain` = \"intranet\" is out of bounds, allowed: domain name"]),
        ("[ingest]\ndefault_domain = \"Push.example\"", &["line 2: `ingest.default_domain`"]),
        ("[http]\npublic_base = \"http://cdn.example/\"", &["line 2: `http.public_base` = \"http://cdn.example/\" is out of bounds"]),
        ("[http]\npublic_base = \"ftp://cdn.example\"", &["line 2: `http.public_base`"]),
        ("[record]\ntime_zone = \"Mars/Olympus\"", &["line 2: `record.time_zone` = \"Mars/Olympus\" is out of bounds, allowed: IANA time zone"]),
        ("[record]\nhls_container = \"webm\"", &["line 2: `record.hls_container` = \"webm\" is out of bounds, allowed: \"fmp4\", \"ts\""]),
        (
            "[record]\ndefault_task_format = \"mkv\"",
            &["line 2: `record.default_task_format` = \"mkv\" is out of bounds, allowed: \"flv\", \"hls\", \"mp4\", \"aac\", \"mp3\""],
        ),
        ("[log]\nlevel = \"verbose\"", &["line 2: `log.level` = \"verbose\" is out of bounds, allowed: level or filter"]),
        ("[log]\nlevel = \"info,capstan::rtmp=loud\"", &["line 2: `log.level`"]),
        // Syntax.
        ("a = 1\nb = ", &["line 2: "]),
        ("[ingest]\ntick_ms = 50\ntick_ms = 60", &["line 3: "]),
        // Several at once, in the order of the file although tables are walked by name.
        ("[log]\nlevel = 1\n[api]\napp_id = 0\n", &["line 2: `log.level` must be a string", "line 4: `api.app_id` = 0"]),
        // Listening beyond loopback.
        (
            "[http]\nworkers = 2\nlisten = \"0.0.0.0:8080\"",
            &[
                "line 3: `http.listen` = 0.0.0.0:8080 is reachable from other machines but no credentials are configured: add an [[api.credentials]] entry with secret_id, secret_key and role, or listen on 127.0.0.1",
            ],
        ),
        (
            "[ingest]\nrtmp_listen = \"[::]:1935\"\n[http]\nlisten = \"192.0.2.1:80\"",
            &["line 2: `ingest.rtmp_listen` = [::]:1935 is reachable", "line 4: `http.listen` = 192.0.2.1:80 is reachable"],
        ),
    ];
    for (text, expected) in cases {
        let found = messages(text);
        assert_eq!(found.len(), expected.len(), "{text:?}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{text:?}:\n  found    {found}\n  expected {expected}");
        }
    }
}

#[test]
fn wrong_credentials_are_named_and_never_printed() {
    let cases = [
        ("[api]\ncredentials = 3", "line 2: `api.credentials` must be a list of [[api.credentials]] blocks, not an integer"),
        ("[api]\ncredentials = [3]", "line 2: `api.credentials` must be a list of [[api.credentials]] blocks, not an integer"),
        ("\n[[api.credentials]]\nsecret_id = \"a\"\nrole = \"admin\"", "line 2: `api.credentials.secret_key` is missing"),
        (
            "[[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"hunter2\"\nrole = \"admin\"",
            "line 3: `api.credentials.secret_key` must have 16 to 256 bytes",
        ),
        (
            "[[api.credentials]]\nsecret_id = \"a b\"\nsecret_key = \"hunter2-hunter2-\"\nrole = \"admin\"",
            "line 2: `api.credentials.secret_id` must be",
        ),
        (
            "[[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"hunter2-hunter2-\"\nrole = \"root\"",
            "line 4: `api.credentials.role` = \"root\" is out of bounds, allowed: \"admin\", \"operator\", \"reader\"",
        ),
        (
            "[[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"hunter2-hunter2-\"\nsecretkey = \"hunter2\"\nrole = \"admin\"",
            "line 4: unknown setting `api.credentials.secretkey`",
        ),
        (
            "[[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"hunter2-hunter2-\"\nrole = \"admin\"\n\
             [[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"hunter2-hunter2-\"\nrole = \"admin\"",
            "line 5: `api.credentials` has two entries with the same secret_id",
        ),
        ("[[api.credentials]]\nsecret_key = \"hunter2-hunter2-", "line 2: "),
        ("[api]\nbearer_tokens = 3", "line 2: `api.bearer_tokens` must be a list of [[api.bearer_tokens]] blocks, not an integer"),
        ("\n[[api.bearer_tokens]]\nname = \"a\"\nrole = \"admin\"", "line 2: `api.bearer_tokens.token` is missing"),
        ("[[api.bearer_tokens]]\nname = \"a\"\ntoken = \"hunter2\"\nrole = \"admin\"", "line 3: `api.bearer_tokens.token` must have 16 to 256 bytes"),
        (
            "[[api.bearer_tokens]]\nname = \"a\"\ntoken = \"hunter2 hunter2 hunter2\"\nrole = \"admin\"",
            "line 3: `api.bearer_tokens.token` must be printable ASCII characters without spaces",
        ),
        (
            "[[api.bearer_tokens]]\nname = \"a\"\ntoken = \"hunter2-hunter2-\"\nrole = \"admin\"\n\
             [[api.bearer_tokens]]\nname = \"b\"\ntoken = \"hunter2-hunter2-\"\nrole = \"reader\"",
            "line 5: `api.bearer_tokens` has two entries with the same token",
        ),
    ];
    for (text, expected) in cases {
        // An exposed listener beside it: a refused credential must not be reported as a missing one too.
        let text = format!("{text}\n[http]\nlisten = \"0.0.0.0:80\"\n");
        let found = messages(&text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].starts_with(expected), "{text}:\n  found    {}\n  expected {expected}", found[0]);
        assert!(!found[0].contains("hunter2"), "{}", found[0]);
    }
}

#[test]
fn a_complete_file_is_read_into_types() {
    let text = format!(
        r#"
        data_folder = "/srv/capstan"
        [ingest]
        rtmp_listen = "0.0.0.0:1936"
        cores = [3, 1]
        tick_ms = 0x14
        duplicate_publisher = "refuse"
        publishers_max = 1_000
        arena_mib = 64
        default_domain = "push.example.com"
        [http]
        listen = "[::1]:9000"
        public_base = "https://media.example.com/live"
        [record]
        time_zone = "Asia/Shanghai"
        hls_container = "ts"
        default_task_format = "mp4"
        first_run_rule = false
        [[api.credentials]]
        secret_id = "AKID1"
        secret_key = "{KEY}"
        role = "operator"
        [[api.bearer_tokens]]
        name = "script"
        token = "{KEY}"
        role = "reader"
        [log]
        level = "warn,capstan::rtmp=debug"
        format = "json"
        "#
    );
    let config = Config::parse(&text).expect("every value is within its bounds");
    assert_eq!(config.data_folder, Path::new("/srv/capstan"));
    assert_eq!(config.ingest.rtmp_listen.to_string(), "0.0.0.0:1936");
    assert_eq!(config.ingest.cores, [3, 1]);
    assert_eq!(config.ingest.tick_ms, 20);
    assert_eq!(config.ingest.duplicate_publisher, DuplicatePublisher::Refuse);
    assert_eq!(config.ingest.publishers_max, 1_000);
    assert_eq!(config.ingest.arena_mib, 64);
    assert_eq!(config.ingest.default_domain, "push.example.com");
    assert_eq!(config.ingest.idle_timeout_s, 30, "not given: the default");
    assert_eq!(config.public_base(None), "https://media.example.com/live");
    assert_eq!(config.record.time_zone, "Asia/Shanghai");
    assert_eq!(config.record.hls_container, HlsContainer::Ts);
    assert_eq!(config.record.default_task_format, Format::Mp4);
    assert!(!config.record.first_run_rule);
    assert_eq!(config.api.credentials[0].secret_id, "AKID1");
    assert_eq!(config.api.credentials[0].secret_key.expose(), KEY);
    assert_eq!(config.api.credentials[0].role, Role::Operator);
    let token = &config.api.bearer_tokens[0];
    assert_eq!((token.name.as_str(), token.token.expose(), token.role), ("script", KEY, Role::Reader));
    assert_eq!(config.log.format, LogFormat::Json);
    let debug = format!("{config:?}");
    assert!(debug.contains("AKID1") && !debug.contains(KEY), "{debug}");
}

#[test]
fn loopback_in_any_spelling_needs_no_credentials() {
    for address in ["127.0.0.1:80", "127.8.9.10:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert_eq!(messages(&format!("[http]\nlisten = \"{address}\"")), [""; 0], "{address}");
    }
    assert_eq!(messages("[http]\nlisten = \"[::ffff:10.0.0.1]:80\"").len(), 1);
}

#[test]
fn the_empty_file_is_the_default_and_the_printed_settings_are_too() {
    let default = format!("{:?}", Config::default());
    for text in ["", &settings_text()] {
        let config = Config::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(format!("{config:?}"), default);
    }
    assert_eq!(Config::default().public_base(None), "http://127.0.0.1:8080");
}

#[test]
fn every_setting_is_in_the_table_once_and_documented() {
    let settings = settings();
    for setting in &settings {
        assert_eq!(settings.iter().filter(|other| other.key == setting.key).count(), 1, "{}", setting.key);
        assert!(setting.doc.ends_with('.') && !setting.doc.contains('|'), "{setting:?}");
        assert!(!setting.values.is_empty() && !setting.default.is_empty(), "{setting:?}");
        // The unit is in the name, too.
        if !setting.unit.is_empty() {
            assert!(setting.key.ends_with(&format!("_{}", setting.unit.to_lowercase())), "{setting:?}");
        }
    }
    assert_eq!(settings_markdown().lines().count(), settings.len() + 2);
}

#[test]
fn files_that_cannot_be_read_are_told_from_files_that_are_wrong() {
    let missing = Config::load(Path::new("/nonexistent/capstan.toml")).expect_err("there is no such file");
    assert_eq!(missing.to_string(), "cannot read the configuration file /nonexistent/capstan.toml");
    assert!(missing.source().is_some());

    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"[ingest]\ntick_ms = 1\n").expect("room for a line");
    let wrong = Config::load(file.path()).expect_err("1 ms is too short");
    assert_eq!(wrong.to_string(), "line 2: `ingest.tick_ms` = 1 is out of bounds, allowed: 5 to 1000");

    file.as_file().set_len(CONFIG_BYTES_MAX + 1).expect("a sparse file");
    assert!(matches!(Config::load(file.path()), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn problems_are_bounded() {
    let text: String = (0..1_000).map(|index| format!("nonsense_{index} = 1\n")).collect();
    let found = messages(&text);
    assert_eq!(found.len(), PROBLEMS_MAX);
    assert!(found[0].starts_with("line 1: "), "{found:?}");
}

#[test]
fn the_banner_says_where_to_push_and_what_is_recorded() {
    let mut config = Config::default();
    let text = banner(&config, 2, true, None);
    for part in ["rtmp://127.0.0.1/live/STREAM", "http://127.0.0.1:8080", "/capstan-data", "cores    2", "MP4 and HLS"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(banner(&config, 2, false, None).contains("DescribeLiveRecordRules"));
    config.record.first_run_rule = false;
    assert!(banner(&config, 2, true, None).contains("nothing until"));
    for (address, push) in [("0.0.0.0:1935", "rtmp://THIS-HOST/"), ("[::1]:1935", "rtmp://[::1]:1935/"), ("10.0.0.1:99", "rtmp://10.0.0.1:99/")] {
        config.ingest.rtmp_listen = address.parse().expect("an address");
        assert!(banner(&config, 2, true, None).contains(push), "{address}");
    }
}

#[test]
fn a_file_cut_at_every_byte_is_read_or_refused() {
    let text = settings_text() + "[[api.credentials]]\nsecret_id = \"a\"\nsecret_key = \"0123456789abcdef\"\nrole = \"admin\"\n";
    // Every seventh byte: the text has thousands, and seven is coprime to what repeats in it.
    for cut in (0..text.len()).step_by(7) {
        fuzz_config(&text.as_bytes()[..cut]);
    }
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused(section in "(ingest|http|record|api|log|other)", key in "[a-z_]{1,16}", value in "[ -~]{0,24}") {
        fuzz_config(format!("[{section}]\n{key} = {value}\n").as_bytes());
    }

    #[test]
    fn any_value_of_a_known_setting_is_read_or_refused(index in 0..64usize, value in "(-?[0-9]{1,22}|\"[ -!#-\\[\\]-~]{0,24}\"|true|\\[[0-9, ]{0,9}\\])") {
        let settings = settings();
        fuzz_config(format!("{} = {value}\n", settings[index % settings.len()].key).as_bytes());
    }
}
