//! The whole control plane over real sockets, on a catalog of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::access::tests::{access, key, token};
use super::actions::media_info::tests::row;
use super::{About, ControlContext, ControlLimits, Server};
use crate::catalog::{Catalog, OlderTaskLimits};
use crate::config::{Config, Role};
use crate::domain::content_key::MasterKey;
use crate::domain::{LiveStream, LiveStreams, Policy, StreamEnd};
use crate::units::{FileId, Format, PublicationId, StreamKey, TemplateId, WallTime};

/// The clock of these tests stands still.
pub fn now() -> WallTime {
    WallTime::from_unix_seconds(1_767_254_400)
}

pub struct Running {
    pub server: Option<Server>,
    address: std::net::SocketAddr,
    pub context: Arc<ControlContext>,
    folder: tempfile::TempDir,
}

impl Running {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ControlContext)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let finish = crate::clips::FinishSettings {
            data_folder: folder.path().to_owned(),
            insert_supported: false,
            time_zone: jiff::tz::TimeZone::UTC,
            hls_segment_ms: 4_000,
        };
        let storage = Arc::new(crate::clips::Storage::single(finish, crate::units::MonoTime::default));
        let media = crate::delivery::Context::new(crate::delivery::ContextParts {
            catalog: catalog.clone(),
            storage: Arc::clone(&storage),
            app_id: 1_300_000_001,
            clock: now,
            hls_segment_ms: 4_000,
            open: Arc::default(),
            protections: Arc::default(),
        });
        let media = Arc::new(media);
        let maker = crate::clips::ClipMaker {
            catalog: catalog.clone(),
            media: Arc::clone(&media),
            storage,
            ids: Arc::new(crate::clips::FileIds::new(None, now)),
            clock: now,
            public_base: "http://127.0.0.1:8080".to_owned(),
            app_id: 1_300_000_001,
            describe: super::actions::media_info::edit_output,
            join: None,
            attempts_max: 3,
        };
        let mut context = ControlContext {
            catalog,
            media,
            clips: crate::clips::Clips::start(maker).unwrap(),
            policy: Arc::new(ArcSwap::from_pointee(Policy::default())),
            live: Arc::new(Mutex::new(LiveStreams::default())),
            end_stream: Box::new(|_, _| true),
            public_base: "http://127.0.0.1:8080".to_owned(),
            app_id: 1_300_000_001,
            clock: now,
            metrics_text: Box::new(|| "capstan_up 1\n".to_owned()),
            slow_passes: Box::new(Vec::new),
            health: Box::new(|| Ok("{\"ok\":true}".to_owned())),
            url_is_safe: Box::new(|url| !url.contains("forbidden.example")),
            limits: ControlLimits {
                templates_max: 5,
                rules_max: 5,
                tasks_max: 5,
                domains_max: 3,
                older_tasks: OlderTaskLimits { open_max: 2, day_max: 3 },
                sub_apps_max: 3,
                procedures_max: 3,
                push_auth_default: false,
                workers: 2,
                connections_max: 16,
            },
            about: About::new(&Config::default(), now()),
            master_key: MasterKey([7; 32]),
            access: Arc::new(ArcSwap::from_pointee(access(Vec::new(), Vec::new()))),
        };
        change(&mut context);
        let context = Arc::new(context);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Some(Server::start(listener, context.clone()).unwrap());
        Self { server, address, context, folder }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream, rest: Vec::new() }
    }

    /// One request on a connection of its own.
    fn exchange(&self, request: &str) -> Reply {
        let mut client = self.connect();
        client.send(request.as_bytes());
        client.receive(request.starts_with("HEAD"))
    }

    pub fn get(&self, target: &str) -> Reply {
        self.exchange(&format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }

    /// A hand-written, unsigned call.
    fn call(&self, query: &str) -> Value {
        let reply = self.get(&format!("/?Action={query}"));
        assert_eq!((reply.status, reply.header("Content-Type").as_deref()), (200, Some("application/json")), "{query}");
        reply.response()
    }

    pub fn json(&self, action: &str, version: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-TC-Action: {action}\r\nX-TC-Version: {version}\r\n");
        self.exchange(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).response()
    }

    pub fn code(&self, query: &str) -> String {
        code_of(&self.call(query))
    }
}

pub fn code_of(response: &Value) -> String {
    response["Error"]["Code"].as_str().unwrap_or("ok").to_owned()
}

struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn receive(&mut self, head_only: bool) -> Reply {
        let mut piece = [0; 4096];
        let mut fill = |rest: &mut Vec<u8>| {
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(rest));
            rest.extend_from_slice(&piece[..count]);
        };
        let end = loop {
            if let Some(end) = super::head::find_end(&self.rest, 0) {
                break end;
            }
            fill(&mut self.rest);
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        let length = if head_only { 0 } else { length };
        while self.rest.len() < length {
            fill(&mut self.rest);
        }
        Reply { body: self.rest.drain(..length).collect(), ..reply }
    }

    /// The server closes, with nothing more to say.
    fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let outcome = self.stream.read_to_end(&mut rest);
        // A reset is a close too; a time-out is not.
        let is_end = outcome.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
        is_end && self.rest.is_empty() && rest.is_empty()
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    }

    fn response(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.body).unwrap();
        let response = value["Response"].clone();
        assert_eq!(response["RequestId"].as_str().map(str::len), Some(36), "{value}");
        response
    }
}

#[test]
fn templates_from_creation_to_deletion() {
    let running = Running::start();
    let id = running.call("CreateLiveRecordTemplate&TemplateName=news-mp4&Mp4Param.Enable=1&Mp4Param.RecordInterval=3600")["TemplateId"].clone();
    assert_eq!(id, 1001);
    assert_eq!(running.context.policy.load().version, 1);
    assert!(running.context.policy.load().templates[&TemplateId(1001)].mp4.enable);
    let described = running.call("DescribeLiveRecordTemplate&TemplateId=1001&Version=2018-08-01");
    assert_eq!(described["Template"]["Mp4Param"]["RecordInterval"], 3600);
    let modified = running.json("ModifyLiveRecordTemplate", "2018-08-01", &json!({"TemplateId": 1001, "HlsParam": {"Enable": 1}}));
    assert_eq!(modified.as_object().unwrap().len(), 1);
    let policy = running.context.policy.load_full();
    assert!(policy.version == 2 && policy.templates[&TemplateId(1001)].hls.enable && policy.templates[&TemplateId(1001)].mp4.enable);
    running.call("CreateLiveRecordTemplate&TemplateName=slow&IsDelayLive=1");
    let ids =
        |query: &str| running.call(query)["Templates"].as_array().unwrap().iter().map(|template| template["TemplateId"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("DescribeLiveRecordTemplates"), [1001]);
    assert_eq!(ids("DescribeLiveRecordTemplates&IsDelayLive=1"), [1002]);
    for (query, code) in [
        ("DescribeLiveRecordTemplate&TemplateId=9", "FailedOperation.NotFound"),
        ("DescribeLiveRecordTemplate&TemplateId=-1", "FailedOperation.NotFound"),
        ("ModifyLiveRecordTemplate&TemplateId=9", "FailedOperation.NotFound"),
        ("DeleteLiveRecordTemplate&TemplateId=9", "InternalError.ConfNotFound"),
        ("DeleteLiveRecordTemplate&TemplateId=1001", "ok"),
        ("DeleteLiveRecordTemplate&TemplateId=1001", "InternalError.ConfNotFound"),
    ] {
        assert_eq!(running.code(query), code, "{query}");
    }
    for index in 0..4 {
        assert_eq!(running.call(&format!("CreateLiveRecordTemplate&TemplateName=t{index}"))["TemplateId"], 1003 + index);
    }
    assert_eq!(running.code("CreateLiveRecordTemplate&TemplateName=more"), "InternalError.ConfOutLimit");
}

#[test]
fn rules_from_creation_to_deletion() {
    let running = Running::start();
    running.context.catalog.enter_first_run(crate::domain::RecordTemplate::empty(TemplateId(0), "first"), now()).unwrap();
    for (query, code) in [
        ("CreateLiveRecordRule&DomainName=a.b&TemplateId=1001&AppName=live", "ok"),
        ("CreateLiveRecordRule&DomainName=A.B&TemplateId=1001&AppName=live&StreamName=", "FailedOperation.RuleAlreadyExist"),
        ("CreateLiveRecordRule&DomainName=a.b&TemplateId=7", "InvalidParameter.ConfNotFound"),
        ("CreateLiveRecordRule&DomainName=&TemplateId=1001", "InvalidParameter.DomainFormatError"),
        ("DeleteLiveRecordTemplate&TemplateId=1001", "FailedOperation.ConfInUsed"),
        ("DeleteLiveRecordRule&DomainName=a.b", "FailedOperation.NotFound"),
    ] {
        assert_eq!(running.code(query), code, "{query}");
    }
    let rules = running.call("DescribeLiveRecordRules")["Rules"].clone();
    assert_eq!(
        rules[0],
        json!({"DomainName": "", "AppName": "", "StreamName": "", "TemplateId": 1001, "CreateTime": "2026-01-01 16:00:00", "UpdateTime": "2026-01-01 16:00:00"})
    );
    assert_eq!((&rules[1]["DomainName"], &rules[1]["AppName"], rules.as_array().unwrap().len()), (&json!("a.b"), &json!("live"), 2));
    assert_eq!(running.context.policy.load().rules.len(), 2);
    assert_eq!(running.code("DeleteLiveRecordRule&DomainName="), "ok");
    assert_eq!(running.code("DeleteLiveRecordRule&DomainName=a.b&AppName=live"), "ok");
    assert_eq!(running.call("DescribeLiveRecordRules")["Rules"], json!([]));
    assert_eq!(running.context.policy.load().rules.len(), 0);
    for index in 0..5 {
        assert_eq!(running.code(&format!("CreateLiveRecordRule&DomainName=a.b&TemplateId=1001&AppName=a{index}")), "ok");
    }
    assert_eq!(running.code("CreateLiveRecordRule&DomainName=a.b&TemplateId=1001"), "InternalError.RuleOutLimit");
}

#[test]
fn tasks_from_creation_to_deletion() {
    let running = Running::start();
    let now_s = now().unix_seconds();
    let stream = "DomainName=a.b&AppName=live&StreamName=camera-1";
    let create = |tail: &str| running.call(&format!("CreateRecordTask&{stream}{tail}"));
    let task = create(&format!("&EndTime={}&TemplateId=9", now_s + 600))["TaskId"].as_str().unwrap().to_owned();
    let later = create(&format!("&StartTime={}&EndTime={}", now_s + 60, now_s + 600))["TaskId"].as_str().unwrap().to_owned();
    assert_eq!(running.context.policy.load().tasks[&StreamKey::new("a.b", "live", "camera-1")].len(), 2);
    let list = |tail: &str| running.call(&format!("DescribeRecordTask&StartTime={}&EndTime={}{tail}", now_s, now_s + 3600));
    let expected = json!([
        {"TaskId": task, "DomainName": "a.b", "AppName": "live", "StreamName": "camera-1", "StartTime": now_s, "EndTime": now_s + 600, "TemplateId": 9, "Stopped": 0},
        {"TaskId": later, "DomainName": "a.b", "AppName": "live", "StreamName": "camera-1", "StartTime": now_s + 60, "EndTime": now_s + 600, "TemplateId": 0, "Stopped": 0},
    ]);
    assert_eq!(list("")["TaskList"], expected);
    assert_eq!(list("&StreamName=camera-2")["TaskList"], json!([]));
    let token = format!("&ScrollToken={}.{task}", now().unix_micros());
    assert_eq!(list(&token)["TaskList"][0]["TaskId"], later);
    assert_eq!(running.code(&format!("StopRecordTask&TaskId={task}")), "ok");
    assert_eq!(running.code(&format!("StopRecordTask&TaskId={task}")), "ok");
    assert_eq!(list("")["TaskList"][0]["Stopped"], now_s);
    for (query, code) in [
        (format!("DeleteRecordTask&TaskId={later}"), "ok"),
        (format!("DeleteRecordTask&TaskId={later}"), "InvalidParameter"),
        (format!("StopRecordTask&TaskId={later}"), "InvalidParameter"),
        ("StopRecordTask&TaskId=none".to_owned(), "InvalidParameter"),
        ("StopRecordTask".to_owned(), "MissingParameter"),
        (format!("CreateRecordTask&{stream}&EndTime={}", now_s - 60), "InvalidParameter"),
    ] {
        assert_eq!(running.code(&query), code, "{query}");
    }
    for _ in 0..5 {
        create(&format!("&EndTime={}", now_s + 60));
    }
    assert_eq!(code_of(&create(&format!("&EndTime={}", now_s + 60))), "LimitExceeded.MaximumRunningTask");
}

#[test]
fn live_streams_are_listed() {
    let running = Running::start();
    running.context.live.lock().unwrap().begin(LiveStream {
        key: StreamKey::new("a.b", "live", "カメラ"),
        publication: PublicationId(1),
        core: 0,
        connection: 1,
        publish_time: now(),
        client: "127.0.0.1:5".to_owned(),
        stream_param: String::new(),
        figures: std::sync::Arc::default(),
    });
    let expected =
        json!([{"StreamName": "カメラ", "AppName": "live", "DomainName": "a.b", "PublishTimeList": [{"PublishTime": "2026-01-01T08:00:00Z"}]}]);
    assert_eq!(running.call("DescribeLiveStreamOnlineList&StreamName=%E3%82%AB%E3%83%A1%E3%83%A9")["OnlineInfo"], expected);
    // Typed into a shell: bytes beyond ASCII as they are.
    assert_eq!(running.call("DescribeLiveStreamOnlineList&StreamName=カメラ")["OnlineInfo"], expected);
    assert_eq!(running.call("DescribeLiveStreamOnlineList&StreamName=x")["TotalNum"], 0);
}

/// Enters a file and puts `bytes` where it is said to lie.
pub fn enter(running: &Running, format: Format, id: &str, bytes: &[u8]) {
    let mut row = row(format, true);
    row.file.identity.file_id = FileId::parse(id).unwrap();
    row.file.folder = format!("media/2026-01-01/{id}");
    let folder = running.folder.path().join(&row.file.folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&row.file.entry), bytes).unwrap();
    running.context.catalog.enter_file(row.file, row.name, now()).unwrap();
}

#[test]
fn files_are_found_and_fetched() {
    let running = Running::start();
    enter(&running, Format::Mp4, "387702290000000001", b"0123456789");
    enter(&running, Format::Hls, "387702290000000002", b"#EXTM3U\n");
    std::fs::write(running.folder.path().join("media/2026-01-01/387702290000000002/media-1.m4s"), b"segment").unwrap();
    let found = running.json("SearchMedia", "2018-07-17", &json!({"StreamIds": ["camera-1"], "MediaTypes": ["mp4"], "Filters": ["basicInfo"]}));
    assert_eq!((&found["TotalCount"], &found["MediaInfoSet"][0]["FileId"]), (&json!(1), &json!("387702290000000001")));
    assert!(found["MediaInfoSet"][0].get("MetaData").is_none());
    assert_eq!(running.call("SearchMedia&Tags.0=x")["MediaInfoSet"], json!([]));
    assert_eq!(running.call("SearchMedia&Names.0=CAMERA&Limit=1")["TotalCount"], 2);
    let described = running.call("DescribeMediaInfos&FileIds.0=5&FileIds.1=387702290000000002&FileIds.2=387702290000000001&FileIds.3=5");
    let ids: Vec<&Value> = described["MediaInfoSet"].as_array().unwrap().iter().map(|info| &info["FileId"]).collect();
    assert_eq!((ids, &described["NotExistFileIdSet"]), (vec![&json!("387702290000000002"), &json!("387702290000000001")], &json!(["5"])));

    let url = |index: usize| described["MediaInfoSet"][index]["BasicInfo"]["MediaUrl"].as_str().unwrap().replace("http://127.0.0.1:8080", "");
    let reply = running.get(&url(1));
    assert_eq!((reply.status, reply.header("Content-Type").as_deref(), &reply.body[..]), (200, Some("video/mp4"), &b"0123456789"[..]));
    let ranged = |header: &str| running.exchange(&format!("GET {} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n", url(1)));
    let part = ranged("Range: bytes=2-4");
    assert_eq!((part.status, part.header("Content-Range").as_deref(), &part.body[..]), (206, Some("bytes 2-4/10"), &b"234"[..]));
    assert_eq!(ranged("Range: bytes=99-").status, 416);
    let unchanged = ranged(&format!("If-None-Match: {}", reply.header("ETag").unwrap()));
    assert_eq!((unchanged.status, unchanged.header("Content-Length")), (304, None));
    let head = running.exchange(&format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", url(1)));
    assert_eq!((head.status, head.header("Content-Length").as_deref()), (200, Some("10")));
    let playlist = running.get(&url(0));
    assert_eq!((playlist.header("Content-Type").as_deref(), &playlist.body[..]), (Some("application/vnd.apple.mpegurl"), &b"#EXTM3U\n"[..]));
    let base = "/vod/1300000001/387702290000000002";
    assert_eq!(running.get(&format!("{base}/media-1.m4s")).body, b"segment");
    for path in ["init-1.m4s", "..%2f387702290000000001%2fcamera-1.mp4", "camera-1.mp4", ""] {
        let reply = running.get(&format!("{base}/{path}"));
        assert_eq!((reply.status, reply.header("Access-Control-Allow-Origin").as_deref()), (404, Some("*")), "{path}");
    }
    for path in ["/vod/1/387702290000000001/a.mp4", "/vod/1300000001/387702290000000009/a.mp4", "/vod/../catalog.sqlite", "/catalog.sqlite"] {
        assert_eq!(running.get(path).status, 404, "{path}");
    }
    let preflight = running.exchange(&format!("OPTIONS {} HTTP/1.1\r\nHost: x\r\n\r\n", url(1)));
    assert_eq!((preflight.status, preflight.header("Content-Length")), (204, None));
    assert_eq!(running.exchange(&format!("DELETE {} HTTP/1.1\r\nHost: x\r\n\r\n", url(1))).status, 405);
}

#[test]
fn pages_and_refusals() {
    let running = Running::with(|context| context.health = Box::new(|| Err("{\"disk\":\"full\"}".to_owned())));
    let unknown = running.call("DescribeNothing");
    assert_eq!(unknown["Error"], json!({"Code": "InvalidAction", "Message": "There is no action \"DescribeNothing\"."}));
    assert_eq!(running.code("CreateLiveTranscodeTemplate"), "UnsupportedOperation");
    assert_eq!(running.code("DescribeLiveRecordRules&Version=2017-01-01"), "NoSuchVersion");
    assert_eq!(running.code("DescribeLiveRecordRules&Version=2018-07-17"), "InvalidAction");
    assert_eq!(running.code("describeLiveRecordRules"), "ok");
    let put = running.exchange("PUT /?Action=X HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((put.status, code_of(&put.response()).as_str(), put.header("Allow").as_deref()), (405, "UnsupportedProtocol", Some("GET, POST")));
    assert_eq!(running.get("/nothing").status, 404);
    let health = running.get("/healthz");
    assert_eq!((health.status, &health.body[..]), (503, &b"{\"disk\":\"full\"}"[..]));
    let metrics = running.get("/metrics");
    let text = String::from_utf8(metrics.body.clone()).unwrap();
    assert_eq!(metrics.header("Content-Type").as_deref(), Some("text/plain; version=0.0.4"));
    assert!(text.starts_with("capstan_up 1\n"));
    assert!(text.contains("capstan_api_calls_total{action=\"DescribeLiveRecordRules\",code=\"ok\"} 1\n"), "{text}");
    assert_eq!(running.exchange("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status, 405);
}

#[test]
fn bodies_in_every_framing() {
    let running = Running::start();
    let mut client = running.connect();
    // Pipelined, chunked in the middle, on one connection; answers in order.
    client.send(b"\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nX-TC-Action: CreateLiveRecordTemplate\r\nContent-Length: 21\r\n\r\n{\"TemplateName\":\"aa\"}");
    client.send(b"POST /?Action=CreateLiveRecordTemplate HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nTempl\r\nA;x=y\r\nateName=bb\r\n0\r\n\r\nGET /?Action=DescribeLiveRecordTemplates HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(client.receive(false).response()["TemplateId"], 1001);
    assert_eq!(client.receive(false).response()["TemplateId"], 1002);
    let list = client.receive(false);
    assert_eq!(list.header("Connection").as_deref(), Some("close"));
    let names: Vec<Value> = list.response()["Templates"].as_array().unwrap().iter().map(|template| template["TemplateName"].clone()).collect();
    assert_eq!(names, ["aa", "bb"]);
    assert!(client.is_closed());

    let mut client = running.connect();
    client.send(b"POST /?Action=DescribeLiveRecordRules HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.receive(false).status, 100);
    client.send(b"{}");
    assert_eq!(code_of(&client.receive(false).response()), "ok");

    // A large body, far beyond what fits into socket buffers.
    let description = "x".repeat(3 << 20);
    let refused = running.json("CreateLiveRecordTemplate", "2018-08-01", &json!({"TemplateName": "big", "Description": description}));
    assert_eq!(code_of(&refused), "InvalidParameterValue");

    // HTTP/1.0, and a client that half-closes.
    let mut client = running.connect();
    client.send(b"GET /?Action=DescribeLiveRecordRules HTTP/1.0\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(code_of(&client.receive(false).response()), "ok");
    assert!(client.is_closed());
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let running = Running::start();
    let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let long_header = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(super::head::HEAD_BYTES_MAX));
    let long_query = format!("GET /?A={} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(33 << 10));
    for (request, status) in [
        ("\0\x03\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_owned(), 505),
        (head("Content-Length: 999999999999999999\r\n"), 413),
        (head("Content-Length: 99999999999999999999999\r\n"), 400),
        (head("Content-Length: 1048577\r\n"), 413),
        (head("Content-Type: application/json\r\nContent-Length: 10485761\r\n"), 413),
        (head("Transfer-Encoding: chunked\r\n") + "FFFFFFF\r\n", 413),
        (head("Transfer-Encoding: chunked\r\n") + "zz\r\n", 400),
        (head("Transfer-Encoding: gzip\r\n"), 501),
        (head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400),
        (head("Expect: a miracle\r\n"), 417),
        (long_header, 431),
        (long_query, 413),
    ] {
        let mut client = running.connect();
        client.send(request.as_bytes());
        let reply = client.receive(false);
        assert_eq!((reply.status, reply.header("Connection").as_deref()), (status, Some("close")), "{request:.60?}");
        assert_ne!(code_of(&reply.response()), "ok");
        assert!(client.is_closed(), "{request:.60?}");
    }
    assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
}

#[test]
fn idle_and_endless_clients_keep_nobody_out() {
    let running = Running::start();
    let mut idle: Vec<Client> = (0..200).map(|_| running.connect()).collect();
    for (index, client) in idle.iter_mut().enumerate() {
        // Some begin a request and never end it; writing to a connection that was closed for another may fail.
        let begun: [&[u8]; 3] = [b"", b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"];
        let _ = client.stream.write_all(begun[index % 3]);
    }
    for _ in 0..3 {
        assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
    }
    // The oldest made room.
    assert!(idle[0].is_closed());
}

#[test]
fn downloads_nobody_reads_do_not_stop_the_api() {
    let running = Running::start();
    let size = 32 << 20;
    enter(&running, Format::Mp4, "387702290000000001", &vec![7; size]);
    let target = "/vod/1300000001/387702290000000001/a.mp4";
    let mut clients: Vec<Client> = (0..12)
        .map(|_| {
            let mut client = running.connect();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            let mut first = [0];
            client.stream.read_exact(&mut first).unwrap();
            client.rest.extend_from_slice(&first);
            client
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
    }
    // Three quarters of the connections are downloads; the next one is refused, not the API.
    assert_eq!(running.get(target).status, 503);
    let whole = clients.pop().unwrap().receive(false);
    assert!(whole.status == 200 && whole.body.len() == size && whole.body.iter().all(|byte| *byte == 7));
}

#[test]
fn a_panic_ends_one_request() {
    let running = Running::with(|context| context.metrics_text = Box::new(|| panic!("out of figures")));
    assert_eq!(running.get("/metrics").status, 500);
    assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
    let running = Running::with(|context| {
        let live = context.live.clone();
        let poisoned = std::thread::spawn(move || {
            let _held = live.lock().unwrap();
            panic!("while holding the lock");
        });
        assert!(poisoned.join().is_err());
    });
    assert_eq!(running.code("DescribeLiveStreamOnlineList"), "ok");
}

#[test]
fn a_closed_catalog_is_an_internal_error() {
    let running = Running::start();
    running.context.catalog.close();
    let refused = running.call("CreateLiveRecordTemplate&TemplateName=a");
    assert_eq!(code_of(&refused), "InternalError");
    assert!(!refused["Error"]["Message"].as_str().unwrap().contains("closed"), "the detail is for the log");
    assert_eq!(running.context.policy.load().version, 0);
}

#[test]
fn with_credentials_calls_must_be_signed() {
    let keys = access(vec![key("id", "0123456789abcdef", Role::Admin)], Vec::new());
    let running = Running::with(|context| context.access = Arc::new(ArcSwap::from_pointee(keys)));
    assert_eq!(running.code("DescribeLiveRecordRules"), "AuthFailure.SignatureFailure");
    assert_eq!(running.code("DescribeNothing"), "AuthFailure.SignatureFailure");
    let forged = "GET /?Action=X HTTP/1.1\r\nHost: x\r\nX-Capstan-Peer: 127.0.0.1:1\r\nAuthorization: SKIP\r\n\r\n";
    assert_eq!(code_of(&running.exchange(forged).response()), "AuthFailure.SignatureFailure");
}

#[test]
fn domains_and_forbidden_streams_reach_the_policy() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let running = Running::with(|context| {
        let told = told.clone();
        context.end_stream = Box::new(move |stream, end| {
            told.lock().unwrap().push((stream.key.to_string(), end));
            // Core 1 takes no commands.
            stream.core == 0
        });
    });
    for (stream, core) in [("cam", 0), ("other", 0), ("stuck", 1)] {
        running.context.live.lock().unwrap().begin(LiveStream {
            key: StreamKey::new(if core == 0 { "a.example" } else { "b.example" }, "live", stream),
            publication: PublicationId(1),
            core,
            connection: 1,
            publish_time: now(),
            client: "192.0.2.1".to_owned(),
            stream_param: String::new(),
            figures: std::sync::Arc::default(),
        });
    }
    let named = |domain: &str, stream: &str| format!("DomainName={domain}&AppName=live&StreamName={stream}");
    let take = || std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(running.code("AddLiveDomain&DomainName=A.example&DomainType=0"), "ok");
    assert_eq!(running.code("ModifyLivePushAuthKey&DomainName=a.example&Enable=1&AuthDelta=5"), "ok");
    {
        let policy = running.context.policy.load();
        let domain = &policy.admission.domains["a.example"];
        assert!(domain.enabled && domain.auth.enabled && domain.auth.delta_s == 5 && domain.auth.master_key.len() == 32);
    }
    assert_eq!(running.code(&format!("DescribeLiveStreamState&{}", named("a.example", "cam"))), "ok");
    assert_eq!(running.call(&format!("DescribeLiveStreamState&{}", named("a.example", "cam")))["StreamState"], "active");
    assert_eq!(running.code(&format!("DropLiveStream&{}", named("A.example", "cam"))), "ok");
    assert_eq!(running.code(&format!("DropLiveStream&{}", named("a.example", "absent"))), "ok");
    assert_eq!(take(), [("a.example/live/cam".to_owned(), StreamEnd::Dropped)]);
    assert_eq!(running.code(&format!("DropLiveStream&{}", named("b.example", "stuck"))), "InternalError");
    take();
    assert_eq!(running.code(&format!("ForbidLiveStream&{}&ResumeTime=2026-01-02T08:00:00Z", named("a.example", "cam"))), "ok");
    assert_eq!(take(), [("a.example/live/cam".to_owned(), StreamEnd::Forbidden)]);
    assert_eq!(running.call(&format!("DescribeLiveStreamState&{}", named("a.example", "cam")))["StreamState"], "forbid");
    assert_eq!(running.context.policy.load().admission.forbidden.len(), 1);
    assert_eq!(running.code(&format!("ResumeLiveStream&{}", named("a.example", "cam"))), "ok");
    assert!(running.context.policy.load().admission.forbidden.is_empty());
    assert_eq!(running.code("ForbidLiveDomain&DomainName=a.example"), "ok");
    let mut ended = take();
    ended.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(ended, ["cam", "other"].map(|stream| (format!("a.example/live/{stream}"), StreamEnd::Forbidden)));
    assert!(!running.context.policy.load().admission.domains["a.example"].enabled);
    assert_eq!(running.code("AddLiveDomain&DomainName=a.example&DomainType=0"), "FailedOperation.DomainAdded");
    assert_eq!(running.code("AddLiveDomain&DomainName=p.example&DomainType=1"), "ok");
    assert_eq!(running.code("DescribeLivePushAuthKey&DomainName=p.example"), "ResourceNotFound.PushDomainNoRecord");
    assert_eq!(running.code("AddLiveDomain&DomainName=c.example&DomainType=0"), "ok");
    assert_eq!(running.code("AddLiveDomain&DomainName=d.example&DomainType=0"), "LimitExceeded");
    assert_eq!(running.code("DeleteLiveDomain&DomainName=a.example&DomainType=0"), "ok");
    assert!(running.context.policy.load().admission.domains.len() == 2);
}

#[test]
fn tokens_roles_and_rates() {
    let mut keys = access(Vec::new(), vec![token("r", "reader-token-0001", Role::Reader), token("o", "operator-token-01", Role::Operator)]);
    keys.requests_per_second = 1;
    let running = Running::with(|context| context.access = Arc::new(ArcSwap::from_pointee(keys)));
    let code = |token: &str, query: &str| {
        let request = format!("GET /?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        code_of(&running.exchange(&request).response())
    };
    let (reader, operator) = ("reader-token-0001", "operator-token-01");
    // The order: signature, version, action, role, rate, parameters.
    for (token, query, expected) in [
        ("nobodys-token-001", "Action=DescribeNothing&A=%FF", "AuthFailure.TokenFailure"),
        (reader, "Action=DescribeNothing&A=%FF", "InvalidParameter"),
        (reader, "Action=DescribeNothing&Version=1", "NoSuchVersion"),
        (reader, "Action=DescribeNothing", "InvalidAction"),
        (reader, "Action=DeleteLiveRecordRule&Nonsense=1", "AuthFailure.UnauthorizedOperation"),
        (reader, "Action=CreateLiveRecordTemplate&Nonsense=1", "AuthFailure.UnauthorizedOperation"),
        (operator, "Action=DeleteLiveRecordRule&Nonsense=1", "AuthFailure.UnauthorizedOperation"),
        (operator, "Action=CreateLiveRecordTemplate&Nonsense=1", "UnknownParameter"),
        (operator, "Action=CreateLiveRecordTemplate&TemplateName=a", "ok"),
        (operator, "Action=CreateLiveRecordTemplate&Nonsense=1", "RequestLimitExceeded"),
        (operator, "Action=DescribeLiveRecordRules", "ok"),
        (reader, "Action=DescribeLiveRecordRules", "ok"),
        (reader, "Action=DescribeLiveRecordRules&Token=x", "ok"),
        (reader, "Action=DescribeLiveRecordRules", "RequestLimitExceeded"),
    ] {
        assert_eq!(code(token, query), expected, "{query}");
    }
    // New keys count for the next call.
    running.context.access.store(Arc::new(access(Vec::new(), vec![token("n", "new-token-0000001", Role::Reader)])));
    assert_eq!(code(reader, "Action=DescribeLiveRecordRules"), "AuthFailure.TokenFailure");
    assert_eq!(code("new-token-0000001", "Action=DescribeLiveRecordRules"), "ok");
}

#[test]
fn changes_at_one_time_all_reach_the_policy() {
    let running = Running::with(|context| context.limits = ControlLimits { templates_max: 100, ..context.limits });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let running = &running;
            scope.spawn(move || {
                for index in 0..10 {
                    assert_eq!(running.code(&format!("CreateLiveRecordTemplate&TemplateName=t{thread}-{index}")), "ok");
                }
            });
        }
    });
    let policy = running.context.policy.load();
    assert_eq!((policy.version, policy.templates.len()), (40, 40));
}

#[test]
fn stopping_ends_everything() {
    let mut running = Running::start();
    let mut idle = running.connect();
    assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
    running.server.take().unwrap().stop();
    assert!(idle.is_closed());
    assert!(TcpStream::connect(running.address).is_err());
}
