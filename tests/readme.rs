//! The README and the example configuration say what the program does.

use std::fs;
use std::path::Path;

use capstan::config::{Config, banner, settings_markdown};

const BEGIN: &str = "<!-- settings:begin -->\n";
const END: &str = "<!-- settings:end -->";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of one language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    text.split(begin.as_str()).skip(1).map(|rest| rest.split("\n```").next().expect("split gives a first part")).collect()
}

/// With `CAPSTAN_BLESS=1` in the environment the table in the README is rewritten, to be reviewed as a diff.
#[test]
fn the_settings_table_is_the_declaration() {
    let readme = read("README.md");
    let (head, rest) = readme.split_once(BEGIN).expect("the begin marker");
    let (table, tail) = rest.split_once(END).expect("the end marker");
    let declared = settings_markdown();
    if std::env::var_os("CAPSTAN_BLESS").is_some() {
        let text = format!("{head}{BEGIN}{declared}{END}{tail}");
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), text).expect("the README can be written");
        return;
    }
    for (line, (shown, declared)) in table.lines().zip(declared.lines()).enumerate() {
        assert_eq!(shown, declared, "line {} of the table; CAPSTAN_BLESS=1 rewrites it", line + 1);
    }
    assert_eq!(table.lines().count(), declared.lines().count(), "CAPSTAN_BLESS=1 rewrites the table");
}

#[test]
fn every_configuration_shown_is_accepted() {
    let readme = read("README.md");
    let shown = blocks(&readme, "toml");
    assert!(!shown.is_empty());
    for text in shown {
        Config::parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    }
}

#[test]
fn the_service_configuration_is_accepted_also_with_its_comments_filled_in() {
    let text = read("systemd/capstan.toml");
    let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.data_folder, Path::new("/var/lib/capstan"));
    assert_eq!(config.ingest.arena_folder, Path::new("/run/capstan"));
    let unit = read("systemd/capstan.service");
    for needed in ["StateDirectory=capstan\n", "RuntimeDirectory=capstan\n", "LimitMEMLOCK=infinity\n", "LimitNOFILE=65536\n", "Type=notify\n"] {
        assert!(unit.contains(needed), "{needed}");
    }

    let remote = text.replace("#: ", "");
    let config = Config::parse(&remote).unwrap_or_else(|error| panic!("{error} in\n{remote}"));
    assert!(!config.http.listen.ip().is_loopback() && !config.ingest.rtmp_listen.ip().is_loopback());
    assert_eq!(config.api.credentials.len(), 1);
}

#[test]
fn the_banner_shown_is_the_one_printed() {
    let readme = read("README.md");
    let shown = blocks(&readme, "text");
    let [shown] = shown[..] else { panic!("one text block: {shown:?}") };
    let config = Config { data_folder: "/home/you/capstan/capstan-data".into(), ..Config::default() };
    assert_eq!(shown, banner(&config, 8, true, Some(([127, 0, 0, 1], 8081).into())).trim_end());
}

#[test]
fn the_examples_use_the_default_address() {
    let readme = read("README.md");
    let listen = Config::default().http.listen;
    let calls: Vec<_> = blocks(&readme, "sh").into_iter().flat_map(str::lines).filter(|line| line.starts_with("curl ")).collect();
    assert!(calls.len() >= 5, "{calls:?}");
    for call in calls {
        assert!(call.contains(&format!("http://{listen}/?Action=")) && call.contains("&Version=2018-0"), "{call}");
    }
}
