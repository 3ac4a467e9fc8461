//! Servers that the load generator starts itself: Capstan, and nginx with the RTMP module to compare with. Each has a folder of its own on the disk
//! under test, ports of its own, records FLV, and is gone with everything it wrote when it is dropped.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::Pids;

/// From the start of the process until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Open recordings are finished within this.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

pub struct Server {
    pub name: &'static str,
    child: Child,
    pub pids: Pids,
    pub target: String,
    /// Where [`crate::verify`] finds the recordings.
    pub recordings: String,
    /// Base of its HTTP addresses; nginx has none.
    pub http: Option<String>,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM: both finish what is open.
        let stopped = rustix::process::Pid::from_raw(self.child.id() as i32).is_some_and(|pid| {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let deadline = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < deadline {
                if let Ok(Some(_)) = self.child.try_wait() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        });
        if !stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("loadtest: removing {}: {error}", self.folder.display());
        }
    }
}

/// Ports that are free now.
fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|error| format!("no free port: {error}"))?.port();
    }
    Ok(ports)
}

/// A new empty folder on the disk under test.
fn new_folder(disk: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = disk.join(format!("loadtest-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Starts the command with its output in `log`, and waits until `port` accepts.
fn start(mut command: Command, log: &Path, port: u16, files: u64) -> Result<Child, String> {
    let out = std::fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = out.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    // Inherited by the child.
    crate::process::raise_file_limit(files);
    let begun = Instant::now();
    // Ctrl-C is for this program, which stops the server when it has seen enough.
    command.process_group(0);
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn().map_err(|error| format!("starting {command:?}: {error}"))?;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{command:?} ended with {status}: {}", text.trim()));
        }
        if begun.elapsed() > START_TIMEOUT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{command:?} does not listen after {} s", START_TIMEOUT.as_secs()));
        }
        std::thread::sleep(POLL);
    }
    Ok(child)
}

/// Where the server's program is: named, beside this one (as cargo builds them), or in the path.
fn capstan_binary(named: Option<&Path>) -> PathBuf {
    if let Some(path) = named {
        return path.to_owned();
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.parent()?.join("capstan")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("capstan"))
}

/// Capstan with its default settings, on these ingest cores, recording every stream in the given formats.
pub fn capstan(binary: Option<&Path>, disk: &Path, cores: &[usize], formats: &[String], streams: usize) -> Result<Server, String> {
    let binary = capstan_binary(binary);
    let [rtmp, http, media] = free_ports()?;
    let folder = new_folder(disk, "capstan")?;
    let settings = folder.join("capstan.toml");
    write(
        &settings,
        &format!(
            "data_folder = {:?}\n[ingest]\nrtmp_listen = \"127.0.0.1:{rtmp}\"\ncores = {cores:?}\npublishers_max = {}\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [delivery]\nlisten = \"127.0.0.1:{media}\"\n[record]\nfirst_run_rule = false\n",
            folder.join("data"),
            streams.max(10_000),
        ),
    )?;
    let mut command = Command::new(&binary);
    command.arg("serve").arg("--config").arg(&settings);
    let child = start(command, &folder.join("log"), rtmp, 4 * streams as u64 + 1024).inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))?;
    let base = format!("http://127.0.0.1:{http}");
    let pids = Pids(vec![child.id()]);
    let server =
        Server { name: "capstan", child, pids, target: format!("rtmp://127.0.0.1:{rtmp}/live"), recordings: base.clone(), http: Some(base), folder };
    let switches: String = formats
        .iter()
        .map(|format| {
            let (first, rest) = format.split_at(1);
            format!("&{}{rest}Param.Enable=1", first.to_uppercase())
        })
        .collect();
    let template = server.call(&format!("/?Action=CreateLiveRecordTemplate&Version=2018-08-01&TemplateName=loadtest{switches}"))?;
    let id = template["TemplateId"].as_u64().ok_or("no TemplateId in the answer")?;
    server.call(&format!("/?Action=CreateLiveRecordRule&Version=2018-08-01&DomainName=localhost&TemplateId={id}"))?;
    Ok(server)
}

impl Server {
    fn text(&self, path: &str) -> Result<String, String> {
        let base = self.http.as_ref().ok_or("this server has no HTTP address")?;
        let mut answer = crate::verify::get(base, path, None).map_err(|error| {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            format!("{} does not answer ({error}); the last it said: {}", self.name, log.trim_end().lines().last().unwrap_or("nothing"))
        })?;
        let mut text = String::new();
        answer.read_to_string(&mut text).map_err(|error| format!("GET {path}: {error}"))?;
        Ok(text)
    }

    fn call(&self, path: &str) -> Result<Value, String> {
        let answer: Value = serde_json::from_str(&self.text(path)?).map_err(|error| format!("GET {path}: {error}"))?;
        match answer["Response"].get("Error") {
            Some(error) => Err(format!("GET {path}: {error}")),
            None => Ok(answer["Response"].clone()),
        }
    }

    /// The sum over all series of a metric.
    pub fn metric(&self, name: &str) -> Result<f64, String> {
        let text = self.text("/metrics")?;
        let values = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// nginx with the RTMP module as Debian ships them, one worker on one core, recording every stream as FLV.
pub fn nginx(disk: &Path, core: Option<usize>, streams: usize) -> Result<Server, String> {
    if !Path::new(MODULE).exists() {
        eprintln!("loadtest: installing nginx and libnginx-mod-rtmp");
        let done = Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", "nginx-core", "libnginx-mod-rtmp"])
            .stdout(Stdio::null())
            .status();
        if !done.is_ok_and(|status| status.success()) || !Path::new(MODULE).exists() {
            return Err("nginx with its RTMP module is not here and cannot be installed: as root, apt-get install nginx libnginx-mod-rtmp".to_owned());
        }
    }
    let [rtmp] = free_ports()?;
    let folder = new_folder(disk, "nginx")?;
    let recordings = folder.join("recordings");
    std::fs::create_dir_all(&recordings).map_err(|error| format!("{}: {error}", recordings.display()))?;
    let affinity = core.map(|core| format!("worker_cpu_affinity 1{};\n", "0".repeat(core))).unwrap_or_default();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let settings = folder.join("nginx.conf");
    write(
        &settings,
        &format!(
            "load_module {MODULE};\n{user}daemon off;\nworker_processes 1;\n{affinity}worker_rlimit_nofile {files};\npid {folder}/nginx.pid;\n\
             error_log {folder}/error.log warn;\nevents {{ worker_connections {files}; }}\n\
             rtmp {{ access_log off; server {{ listen 127.0.0.1:{rtmp}; chunk_size 4096; max_message 8M;\n\
             application live {{ live on; record all; record_path {recordings}; record_unique off; record_append off; }} }} }}\n",
            files = 2 * streams + 1024,
            folder = folder.display(),
            recordings = recordings.display(),
        ),
    )?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&settings).arg("-e").arg(folder.join("error.log"));
    let child = start(command, &folder.join("log"), rtmp, 2 * streams as u64 + 1024).inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))?;
    let pids = Pids(vec![child.id()]);
    let target = format!("rtmp://127.0.0.1:{rtmp}/live");
    let mut server = Server { name: "nginx-rtmp", child, pids, target, recordings: recordings.display().to_string(), http: None, folder };
    server.pids.0.push(worker_of(&server.child)?);
    Ok(server)
}

/// The one child of a process. It may come a moment after the process listens: the kernel takes connections for it meanwhile.
fn worker_of(child: &Child) -> Result<u32, String> {
    let begun = Instant::now();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().find_map(|pid| pid.parse().ok()) {
            return Ok(pid);
        }
        if begun.elapsed() > START_TIMEOUT {
            return Err(format!("process {} has no worker after {} s", child.id(), START_TIMEOUT.as_secs()));
        }
        std::thread::sleep(POLL);
    }
}
