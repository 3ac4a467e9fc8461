//! The settings as people see them: help text, README table, and what is printed at start.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::absolute;

use super::{Config, settings};

/// The README's table. A test compares it with the file.
pub fn settings_markdown() -> String {
    let mut text = String::from("| Setting | Default | Allowed | Meaning |\n| --- | --- | --- | --- |\n");
    for setting in settings() {
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        let _ = writeln!(text, "| `{}` | `{}`{unit} | {} | {} |", setting.key, setting.default, setting.values, setting.doc);
    }
    text
}

/// The table for a terminal, as a commented TOML file that can be copied and changed.
pub fn settings_text() -> String {
    let mut text = String::from("# Every setting with its default.\n");
    let mut section = String::new();
    for setting in settings() {
        let (in_section, name) = setting.key.split_once('.').unwrap_or(("", &setting.key));
        if in_section != section {
            let _ = write!(text, "\n[{in_section}]");
            section = in_section.to_owned();
        }
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        let _ = write!(text, "\n# {}\n# Allowed: {}{unit}\n", setting.doc, setting.values);
        // An empty list in the file would forbid the blocks that somebody adds below.
        let _ = if setting.blocks { writeln!(text, "# [[{}]]", setting.key) } else { writeln!(text, "{name} = {}", setting.default) };
    }
    text
}

/// What somebody who just started Capstan wants to know.
///
/// `cores`: executors that take streams in. `first_run`: the catalog was created by this start. `delivery`: where recordings are served, if not by HTTP.
pub fn banner(config: &Config, cores: usize, first_run: bool, delivery: Option<SocketAddr>) -> String {
    let data = absolute(&config.data_folder).unwrap_or_else(|_| config.data_folder.clone());
    let records = match (first_run, config.record.first_run_rule) {
        (true, true) => "every stream, as MP4 and HLS (the first-run rule; change it through the API)",
        (true, false) => "nothing until a rule or a task asks for it",
        (false, _) => "what the rules and tasks in the catalog say (DescribeLiveRecordRules lists the rules)",
    };
    format!(
        "Capstan {version} is ready\n\
         \n\
         \x20 push     rtmp://{push}/live/STREAM\n\
         {rtmps}\
         \x20 HTTP     {http}\n\
         \x20 media    {media}\n\
         \x20 data     {data}\n\
         \x20 cores    {cores}\n\
         \x20 records  {records}\n",
        version = env!("CARGO_PKG_VERSION"),
        push = reachable(config.ingest.rtmp_listen),
        rtmps = config.rtmps_listen().map_or(String::new(), |address| format!("  push     rtmps://{}/live/STREAM\n", reachable(address))),
        http = format_args!("http://{}", config.http.listen),
        media = config.public_base(delivery),
        data = data.display(),
    )
}

/// An address to type: `0.0.0.0` is none.
fn reachable(address: SocketAddr) -> String {
    match (address.ip().is_unspecified(), address.port()) {
        (true, 1935) => "THIS-HOST".to_owned(),
        (true, port) => format!("THIS-HOST:{port}"),
        (false, 1935) if address.is_ipv4() => address.ip().to_string(),
        _ => address.to_string(),
    }
}
