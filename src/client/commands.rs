//! What each command asks for, and how its answer looks.

use std::io::{Write, stdout};
use std::time::Duration;

use jiff::Zoned;
use serde_json::{Map, Value, json};

use super::call::Appliance;
use super::text::{Table, bytes, duration, moment, printable, rate, read_beijing, read_utc};
use super::when::{read_length, read_moment, read_offset};
use super::{CALLBACKS_SHOWN, CallbackCommand, ClientError, Deliveries, Request, TaskCommand};
use crate::control::protocol::Version;

/// Files in one answer of SearchMedia, and how far it counts.
const SEARCH_PAGE: u64 = 100;
const HITS_MAX: u64 = 5_000;
const DAY_S: i64 = 86_400;
/// How often a running clip is asked for.
const CLIP_POLL: Duration = Duration::from_millis(300);

type Done = Result<(), ClientError>;

/// The appliance and the way of answering.
struct Session<'a> {
    appliance: &'a Appliance,
    json: bool,
    now: Zoned,
}

pub fn run(request: &Request, appliance: &Appliance, json: bool) -> Done {
    let session = Session { appliance, json, now: Zoned::now() };
    match request {
        Request::Streams { domain, app } => session.streams(domain.as_deref(), app.as_deref()),
        Request::Recordings { limit } => session.files(Map::new(), None, None, *limit),
        Request::Search { .. } => session.search(request),
        Request::Clip { what, last: Some(length), name, .. } => session.keep_last(what, length, name.as_deref()),
        Request::Clip { .. } => session.clip(request),
        Request::PlayUrl { what, format } => session.play_url(what, format.as_deref()),
        Request::Tasks { command: None } => session.tasks(),
        Request::Tasks { command: Some(TaskCommand::Create { stream, length, from, until, template }) } => {
            session.create_task(stream, length.as_deref(), from.as_deref(), until.as_deref(), *template)
        }
        Request::Tasks { command: Some(TaskCommand::Stop { task_id }) } => session.tell("StopRecordTask", json!({ "TaskId": task_id }), "stopped"),
        Request::Tasks { command: Some(TaskCommand::Delete { task_id }) } => {
            session.tell("DeleteRecordTask", json!({ "TaskId": task_id }), "deleted")
        }
        Request::Templates => session.templates(),
        Request::Rules => session.rules(),
        Request::Callbacks { command: None } => session.deliveries(&Deliveries::default(), CALLBACKS_SHOWN),
        Request::Callbacks { command: Some(CallbackCommand::List { which, limit }) } => session.deliveries(which, *limit),
        Request::Callbacks { command: Some(CallbackCommand::Replay { ids, which }) } => session.replay(ids, which),
        Request::Delete { file_ids } => session.delete(file_ids),
        Request::Call { action, parameters } => session.raw(action, parameters),
    }
}

/// Text of a field, empty if it is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn conditions(which: &Deliveries) -> Value {
    json!({ "State": which.state, "EventType": which.event, "Stream": which.stream, "Url": which.url })
}

fn list(answer: &Map<String, Value>, name: &str) -> Vec<Value> {
    answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

impl Session<'_> {
    fn call(&self, action: &str, version: Version, parameters: Value) -> Result<Map<String, Value>, ClientError> {
        self.appliance.call(action, Some(version), &fields(parameters))
    }

    fn print_json(&self, value: &impl serde::Serialize) -> Done {
        let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
        Ok(writeln!(stdout(), "{text}")?)
    }

    /// The table, or a word that there is nothing.
    fn print(&self, table: &Table, is_empty: bool, nothing: &str) -> Done {
        if is_empty {
            return Ok(writeln!(stdout(), "{nothing}")?);
        }
        Ok(table.print(&mut stdout().lock())?)
    }

    fn tell(&self, action: &str, parameters: Value, done: &str) -> Done {
        let answer = self.call(action, Version::Live, parameters)?;
        if self.json { self.print_json(&answer) } else { Ok(writeln!(stdout(), "{done}")?) }
    }

    fn streams(&self, domain: Option<&str>, app: Option<&str>) -> Done {
        let ask = |page: u64| {
            self.call("DescribeApplianceState", Version::Live, json!({"DomainName": domain, "AppName": app, "PageNum": page, "PageSize": 1000}))
        };
        let mut answer = ask(1)?;
        let mut streams = list(&answer, "Streams");
        for page in 2..=answer["TotalPage"].as_u64().unwrap_or(1) {
            streams.extend(list(&ask(page)?, "Streams"));
        }
        if self.json {
            answer.insert("Streams".to_owned(), streams.into());
            return self.print_json(&answer);
        }
        let mut table = Table::new(&["Domain", "App", "Stream", "Video", "Audio", ">Bitrate", ">Live for", "Recording", ">Lost frames", "From"]);
        for stream in &streams {
            let video = if stream["Video"].is_null() {
                "-".to_owned()
            } else {
                format!("{} {}x{}", text(&stream["Video"]["Codec"]), stream["Video"]["Width"], stream["Video"]["Height"])
            };
            let audio = if stream["Audio"].is_null() {
                "-".to_owned()
            } else {
                format!("{} {} Hz", text(&stream["Audio"]["Codec"]), stream["Audio"]["SampleRate"])
            };
            let formats: Vec<String> =
                list(stream.as_object().unwrap_or(&Map::new()), "Recordings").iter().map(|recording| text(&recording["Format"]).to_owned()).collect();
            let since = read_utc(text(&stream["PublishTime"])).unwrap_or_default();
            table.row(vec![
                text(&stream["DomainName"]).to_owned(),
                text(&stream["AppName"]).to_owned(),
                text(&stream["StreamName"]).to_owned(),
                video,
                audio,
                rate(stream["BitsPerSecond"].as_f64().unwrap_or(0.0)),
                duration((self.now.timestamp().as_second() - since) as f64),
                if formats.is_empty() { "-".to_owned() } else { formats.join(",") },
                stream["DroppedFrames"].to_string(),
                text(&stream["ClientIp"]).to_owned(),
            ]);
        }
        self.print(&table, streams.is_empty(), "Nobody publishes at the moment.")
    }

    fn search(&self, request: &Request) -> Done {
        let Request::Search { text, stream, domain, app, format, tag, after, before, limit } = request else { return Ok(()) };
        let one = |value: &Option<String>| value.as_ref().map(|value| vec![value.clone()]);
        let after = after.as_ref().map(|text| read_moment(text, &self.now)).transpose()?;
        let before = before.as_ref().map(|text| read_moment(text, &self.now)).transpose()?;
        let wanted = json!({
            "Text": (!text.is_empty()).then(|| text.join(" ")),
            "StreamIds": one(stream),
            "StreamDomains": one(domain),
            "StreamPaths": one(app),
            "MediaTypes": format.as_ref().map(|format| vec![format.to_ascii_lowercase()]),
            "Tags": one(tag),
            // A file enters the catalog when it ends.
            "CreateTime": after.map(|after| json!({ "After": utc(after) })),
        });
        self.files(fields(wanted), after, before, *limit)
    }

    /// Recordings that fit `wanted` and have begun before `before`, newest first (oldest first from `after` on).
    fn files(&self, mut wanted: Map<String, Value>, after: Option<i64>, before: Option<i64>, limit: u64) -> Done {
        if !wanted.contains_key("Text") {
            wanted.insert("Sort".to_owned(), json!({"Field": "CreateTime", "Order": if after.is_some() { "Asc" } else { "Desc" }}));
        }
        let (mut found, mut offset) = (Vec::new(), 0);
        loop {
            let page = SEARCH_PAGE.min(HITS_MAX - offset);
            wanted.insert("Offset".to_owned(), offset.into());
            wanted.insert("Limit".to_owned(), page.into());
            let answer = self.appliance.call("SearchMedia", Some(Version::Vod), &wanted)?;
            let files = list(&answer, "MediaInfoSet");
            offset += files.len() as u64;
            let is_last = files.is_empty() || offset >= answer["TotalCount"].as_u64().unwrap_or(0).min(HITS_MAX);
            found.extend(files.into_iter().filter(|file| before.is_none_or(|before| begin_of(file) < before)));
            if is_last || found.len() as u64 >= limit {
                break;
            }
        }
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if self.json {
            return self.print_json(&found);
        }
        let mut table = Table::new(&["FileId", "Stream", "Name", "Format", "Recorded", ">Duration", ">Size"]);
        for file in &found {
            let info = &file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"];
            table.row(vec![
                text(&file["FileId"]).to_owned(),
                if info.is_null() {
                    "-".to_owned()
                } else {
                    format!("{}/{}/{}", text(&info["Domain"]), text(&info["Path"]), text(&info["StreamId"]))
                },
                text(&file["BasicInfo"]["Name"]).to_owned(),
                text(&file["BasicInfo"]["Type"]).to_owned(),
                moment(begin_of(file)),
                duration(file["MetaData"]["Duration"].as_f64().unwrap_or(0.0)),
                bytes(file["MetaData"]["Size"].as_f64().unwrap_or(0.0)),
            ]);
        }
        self.print(&table, found.is_empty(), "Nothing fits.")
    }

    fn file(&self, file_id: &str) -> Result<Value, ClientError> {
        let answer = self.call("DescribeMediaInfos", Version::Vod, json!({ "FileIds": [file_id] }))?;
        list(&answer, "MediaInfoSet").into_iter().next().ok_or_else(|| ClientError::Usage(format!("there is no recording {file_id}")))
    }

    fn clip(&self, request: &Request) -> Done {
        let Request::Clip { what: file_id, from, to, name, format, no_wait, .. } = request else { return Ok(()) };
        let file = self.file(file_id)?;
        let (from, to) = (read_offset(from)?, to.as_deref().map(read_offset).transpose()?);
        if to.is_some_and(|to| to <= from) {
            return Err(ClientError::Usage("the clip must end after its begin".to_owned()));
        }
        let name = name.clone().unwrap_or_else(|| format!("{} clip", text(&file["BasicInfo"]["Name"])).chars().take(64).collect());
        let usual = if text(&file["BasicInfo"]["Type"]) == "hls" { "hls" } else { "mp4" };
        let kind = format.as_ref().map_or(usual.to_owned(), |format| format.to_ascii_lowercase());
        let piece = json!({ "FileId": file_id, "StartTimeOffset": from, "EndTimeOffset": to.unwrap_or(0.0) });
        let output = json!({ "MediaName": name, "Type": kind });
        let made = self.call("EditMedia", Version::Vod, json!({ "InputType": "File", "FileInfos": [piece], "OutputConfig": output }))?;
        let task = text(&made["TaskId"]).to_owned();
        if *no_wait {
            return if self.json { self.print_json(&made) } else { Ok(writeln!(stdout(), "{task}")?) };
        }
        loop {
            let state = self.call("DescribeTaskDetail", Version::Vod, json!({ "TaskId": task }))?;
            let edit = &state["EditMediaTask"];
            match text(&state["Status"]) {
                "FINISH" if edit["ErrCode"].as_i64().unwrap_or(0) != 0 => {
                    return Err(ClientError::Usage(format!("the clip could not be cut: {}", text(&edit["Message"]))));
                }
                "FINISH" if self.json => return self.print_json(&state),
                "FINISH" => {
                    let (id, url) = (text(&edit["Output"]["FileId"]), text(&edit["Output"]["FileUrl"]));
                    return Ok(writeln!(stdout(), "{id}  {url}")?);
                }
                "ABORTED" => return Err(ClientError::Usage("the task was ended before the clip was cut".to_owned())),
                _ => std::thread::sleep(CLIP_POLL),
            }
        }
    }

    /// What a stream was in its last minutes, from whichever of its recordings.
    fn keep_last(&self, what: &str, length: &str, name: Option<&str>) -> Done {
        let (domain, _, stream) = named(what)?;
        let now = self.now.timestamp().as_second();
        let wanted = json!({
            "StreamId": stream, "Host": domain, "StartTime": utc(now - read_length(length)?), "EndTime": utc(now), "IsPersistence": 1, "SourceContext": "",
        });
        let made = self.call("LiveRealTimeClip", Version::Vod, wanted)?;
        let id = text(&made["FileId"]);
        if let Some(name) = name {
            self.call("ModifyMediaInfo", Version::Vod, json!({ "FileId": id, "Name": name }))?;
        }
        if self.json { self.print_json(&made) } else { Ok(writeln!(stdout(), "{id}  {}", text(&made["Url"]))?) }
    }

    fn play_url(&self, what: &str, format: Option<&str>) -> Done {
        let is_id = (18..=19).contains(&what.len()) && what.bytes().all(|byte| byte.is_ascii_digit());
        let file = if is_id {
            self.file(what)?
        } else {
            let (domain, app, stream) = named(what)?;
            if format.is_none()
                && let Some(live) = self.live(domain, app.as_deref(), stream)?
            {
                return if self.json { self.print_json(&live) } else { Ok(writeln!(stdout(), "{}", text(&live["LiveUrl"]))?) };
            }
            let one = |value: Option<&str>| value.map(|value| vec![value.to_owned()]);
            let wanted = json!({
                "StreamIds": [stream],
                "StreamDomains": one(domain),
                "StreamPaths": one(app.as_deref()),
                "MediaTypes": format.map(|format| vec![format.to_ascii_lowercase()]),
                "Sort": { "Field": "CreateTime", "Order": "Desc" },
                "Limit": NEWEST,
            });
            let answer = self.call("SearchMedia", Version::Vod, wanted)?;
            best_of_newest(list(&answer, "MediaInfoSet"))
                .ok_or_else(|| ClientError::Usage(format!("there is no recording of a stream \"{}\"", printable(what))))?
        };
        if self.json {
            return self.print_json(&file);
        }
        Ok(writeln!(stdout(), "{}", text(&file["BasicInfo"]["MediaUrl"]))?)
    }

    /// The stream, if it is live and there is something to watch.
    fn live(&self, domain: Option<&str>, app: Option<&str>, stream: &str) -> Result<Option<Value>, ClientError> {
        let answer = self.call("DescribeApplianceState", Version::Live, json!({ "DomainName": domain, "AppName": app, "StreamName": stream }))?;
        Ok(list(&answer, "Streams").into_iter().find(|stream| !text(&stream["LiveUrl"]).is_empty()))
    }

    fn tasks(&self) -> Done {
        let now = self.now.timestamp().as_second();
        let mut tasks: Vec<Value> = Vec::new();
        // A list covers 7 days; tasks may be planned for just as long, and one that runs may have begun a day ago.
        for (from, to) in [(now - DAY_S, now + 6 * DAY_S), (now, now + 7 * DAY_S)] {
            let mut token: Option<String> = None;
            loop {
                let answer = self.call("DescribeRecordTask", Version::Live, json!({"StartTime": from, "EndTime": to, "ScrollToken": token}))?;
                for task in list(&answer, "TaskList") {
                    if !tasks.iter().any(|known| known["TaskId"] == task["TaskId"]) {
                        tasks.push(task);
                    }
                }
                token = answer.get("ScrollToken").map(text).filter(|token| !token.is_empty()).map(str::to_owned);
                if token.is_none() {
                    break;
                }
            }
        }
        tasks.sort_by_key(|task| task["StartTime"].as_i64());
        if self.json {
            return self.print_json(&tasks);
        }
        let mut table = Table::new(&["TaskId", "Stream", "State", "Begin", "End", ">Template"]);
        for task in &tasks {
            let time = |name: &str| task[name].as_i64().unwrap_or(0);
            let state = match (time("Stopped"), time("StartTime"), time("EndTime")) {
                (stopped, ..) if stopped > 0 => format!("stopped {}", moment(stopped)),
                (_, _, end) if end <= now => "ended".to_owned(),
                (_, start, _) if start > now => "waiting".to_owned(),
                _ => "running".to_owned(),
            };
            let template = time("TemplateId");
            table.row(vec![
                text(&task["TaskId"]).to_owned(),
                format!("{}/{}/{}", text(&task["DomainName"]), text(&task["AppName"]), text(&task["StreamName"])),
                state,
                moment(time("StartTime")),
                moment(time("EndTime")),
                if template == 0 { "default".to_owned() } else { template.to_string() },
            ]);
        }
        self.print(&table, tasks.is_empty(), "There are no tasks from yesterday to next week.")
    }

    fn create_task(&self, stream: &str, length: Option<&str>, from: Option<&str>, until: Option<&str>, template: u64) -> Done {
        let (domain, app, name) = match named(stream)? {
            (domain, Some(app), name) => (domain.map_or_else(|| self.default_domain(), |domain| Ok(domain.to_owned()))?, app, name),
            (_, None, _) => return Err(no_stream(stream)),
        };
        let start = from.map(|text| read_moment(text, &self.now)).transpose()?;
        let begin = start.unwrap_or_else(|| self.now.timestamp().as_second());
        let end = match (length, until) {
            (Some(length), None) => begin + read_length(length)?,
            (None, Some(until)) => read_moment(until, &self.now)?,
            _ => return Err(ClientError::Usage("say how long: --for 2h, or --until TIME".to_owned())),
        };
        let wanted = json!({"DomainName": domain, "AppName": app, "StreamName": name, "StartTime": start, "EndTime": end, "TemplateId": template});
        let answer = self.call("CreateRecordTask", Version::Live, wanted)?;
        if self.json { self.print_json(&answer) } else { Ok(writeln!(stdout(), "{}", text(&answer["TaskId"]))?) }
    }

    fn default_domain(&self) -> Result<String, ClientError> {
        Ok(text(&self.call("DescribeApplianceSettings", Version::Live, json!({}))?["DefaultDomain"]).to_owned())
    }

    fn templates(&self) -> Done {
        let answer = self.call("DescribeLiveRecordTemplates", Version::Live, json!({}))?;
        let templates = list(&answer, "Templates");
        if self.json {
            return self.print_json(&templates);
        }
        let mut table = Table::new(&[">TemplateId", "Name", "Records", "Description"]);
        for template in &templates {
            let enabled = |name: &&str| template[format!("{name}Param")]["Enable"] == 1;
            let formats: Vec<String> =
                ["Mp4", "Hls", "Flv", "Aac", "Mp3"].iter().filter(|name| enabled(name)).map(|name| name.to_lowercase()).collect();
            table.row(vec![
                template["TemplateId"].to_string(),
                text(&template["TemplateName"]).to_owned(),
                if formats.is_empty() { "nothing".to_owned() } else { formats.join(",") },
                text(&template["Description"]).to_owned(),
            ]);
        }
        self.print(&table, templates.is_empty(), "There are no templates.")
    }

    fn rules(&self) -> Done {
        let answer = self.call("DescribeLiveRecordRules", Version::Live, json!({}))?;
        let rules = list(&answer, "Rules");
        if self.json {
            return self.print_json(&rules);
        }
        let mut table = Table::new(&["Domain", "App", "Stream", ">Template", "Since"]);
        let any = |value: &Value| if text(value).is_empty() { "*".to_owned() } else { text(value).to_owned() };
        for rule in &rules {
            table.row(vec![
                any(&rule["DomainName"]),
                any(&rule["AppName"]),
                any(&rule["StreamName"]),
                rule["TemplateId"].to_string(),
                read_beijing(text(&rule["CreateTime"])).map_or_else(String::new, moment),
            ]);
        }
        self.print(&table, rules.is_empty(), "There are no rules.")
    }

    fn deliveries(&self, which: &Deliveries, limit: u64) -> Done {
        let mut parameters = conditions(which);
        parameters["Limit"] = limit.into();
        let answer = self.call("DescribeCallbackDeliveries", Version::Live, parameters)?;
        let deliveries = list(&answer, "Deliveries");
        if self.json {
            return self.print_json(&deliveries);
        }
        let mut table = Table::new(&[">Id", "Event", "Stream", "Address", "State", ">Attempts", "Last answer", "Since (UTC)", "Next (UTC)"]);
        for delivery in &deliveries {
            table.row(vec![
                delivery["DeliveryId"].to_string(),
                text(&delivery["EventType"]).to_owned(),
                text(&delivery["Stream"]).to_owned(),
                text(&delivery["Url"]).to_owned(),
                text(&delivery["State"]).to_owned(),
                delivery["Attempts"].to_string(),
                text(&delivery["LastAnswer"]).to_owned(),
                text(&delivery["CreateTime"]).to_owned(),
                text(&delivery["NextTime"]).to_owned(),
            ]);
        }
        self.print(&table, deliveries.is_empty(), "Nothing was to be told.")
    }

    fn replay(&self, ids: &[i64], which: &Deliveries) -> Done {
        let mut parameters = conditions(which);
        if !ids.is_empty() {
            parameters["DeliveryIds"] = ids.into();
        } else if fields(parameters.clone()).is_empty() {
            return Err(ClientError::Usage("say which: ids of `capstan callbacks list`, or for example --state failed".to_owned()));
        }
        parameters["Limit"] = 1_000.into();
        let answer = self.call("ReplayCallbackDeliveries", Version::Live, parameters)?;
        if self.json {
            return self.print_json(&answer);
        }
        Ok(writeln!(stdout(), "{} to be sent again", answer.get("Count").cloned().unwrap_or_default())?)
    }

    fn delete(&self, file_ids: &[String]) -> Done {
        for file_id in file_ids {
            self.call("DeleteMedia", Version::Vod, json!({ "FileId": file_id }))?;
            if !self.json {
                writeln!(stdout(), "{file_id} deleted")?;
            }
        }
        if self.json { self.print_json(&file_ids) } else { Ok(()) }
    }

    fn raw(&self, action: &str, parameters: &[String]) -> Done {
        let parameters = match parameters {
            [object] if object.trim_start().starts_with('{') => {
                serde_json::from_str(object).map_err(|error| ClientError::Usage(format!("the parameters are no JSON object: {error}")))?
            }
            pairs => pairs.iter().try_fold(Map::new(), |mut object, pair| {
                let (name, value) = pair.split_once('=').ok_or_else(|| ClientError::Usage(format!("\"{pair}\" is no NAME=VALUE")))?;
                // A number or a list in JSON is one, everything else is text.
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
                put(&mut object, name, value);
                Ok::<_, ClientError>(object)
            })?,
        };
        self.print_json(&self.appliance.call(action, None, &parameters)?)
    }
}

/// Domain, app and name of `STREAM`, `APP/STREAM` or `DOMAIN/APP/STREAM`.
fn named(stream: &str) -> Result<(Option<&str>, Option<String>, &str), ClientError> {
    let parts: Vec<&str> = stream.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(no_stream(stream));
    }
    Ok(match parts[..] {
        [domain, .., name] if parts.len() > 2 => (Some(domain), Some(parts[1..parts.len() - 1].join("/")), name),
        [app, name] => (None, Some(app.to_owned()), name),
        _ => (None, None, stream),
    })
}

fn no_stream(text: &str) -> ClientError {
    ClientError::Usage(format!("\"{}\" is no stream; write APP/STREAM or DOMAIN/APP/STREAM", printable(text)))
}

/// `Mp4Param.Enable` as an object within an object.
fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        Some((head, tail)) => {
            let inner = object.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, tail, value);
            }
        }
        None => {
            object.insert(name.to_owned(), value);
        }
    }
}

fn utc(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// When a recording began, Unix seconds.
fn begin_of(file: &Value) -> i64 {
    let info = &file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"];
    let begun = read_utc(text(&info["RecordStartTime"])).or_else(|| read_utc(text(&file["BasicInfo"]["CreateTime"])));
    begun.unwrap_or_default()
}

/// What ended last is looked for among so many files: a recording has one of each format.
const NEWEST: u64 = 10;

/// Of what ended together with the first of `files`, which are the newest first, what most players show most of.
fn best_of_newest(files: Vec<Value>) -> Option<Value> {
    const BEST_FIRST: [&str; 5] = ["mp4", "hls", "flv", "mp3", "aac"];
    let end = |file: &Value| file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["RecordEndTime"].clone();
    let newest = end(files.first()?);
    let rank = |file: &Value| BEST_FIRST.iter().position(|format| file["BasicInfo"]["Type"] == **format);
    files.into_iter().filter(|file| end(file) == newest).min_by_key(|file| rank(file).unwrap_or(BEST_FIRST.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_with_as_much_as_is_needed() {
        for (text, expected) in [
            ("cam", (None, None, "cam")),
            ("live/cam", (None, Some("live".to_owned()), "cam")),
            ("a.example/live/cam", (Some("a.example"), Some("live".to_owned()), "cam")),
            ("a.example/live/inner/cam", (Some("a.example"), Some("live/inner".to_owned()), "cam")),
        ] {
            assert_eq!(named(text).unwrap(), expected, "{text}");
        }
        for text in ["", "/", "live/", "/cam", "a//cam"] {
            assert!(named(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_the_newest_recording_the_format_that_most_players_show_is_played() {
        let file = |format: &str, end: &str| json!({"BasicInfo": {"Type": format, "SourceInfo": {"LiveRecordInfo": {"RecordEndTime": end}}}});
        let newest = |files: &[(&str, &str)]| best_of_newest(files.iter().map(|(format, end)| file(format, end)).collect());
        assert_eq!(newest(&[("aac", "b"), ("flv", "b"), ("hls", "b"), ("mp4", "a")]), Some(file("hls", "b")));
        assert_eq!(newest(&[("aac", "b"), ("mp4", "a")]), Some(file("aac", "b")));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn parameters_are_nested_by_dots() {
        let mut object = Map::new();
        put(&mut object, "Name", "x".into());
        put(&mut object, "Mp4Param.Enable", 1.into());
        put(&mut object, "Mp4Param.RecordInterval", 60.into());
        assert_eq!(Value::Object(object), json!({"Name": "x", "Mp4Param": {"Enable": 1, "RecordInterval": 60}}));
    }
}
