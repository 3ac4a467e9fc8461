//! Puts the console's HLS player into the build: hls.js (Apache-2.0), for browsers that do not play HLS themselves.
//!
//! It comes from the npm registry by the lock file in `src/control/console/vendor`, which holds its checksum. Without npm, or when the registry does not answer,
//! the build goes on without it, and the console says what is missing. `CAPSTAN_HLS_JS=FILE` embeds a `hls.min.mjs` that is there already
//! (builds without network), `CAPSTAN_HLS_JS=none` does not look for any.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

const VENDOR: &str = "src/control/console/vendor";
/// A registry that does not answer must not hold a build up.
const NPM_TIMEOUT: Duration = Duration::from_secs(30);

fn main() {
    // Only these: a build after any other change does not come here.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={VENDOR}/package-lock.json");
    println!("cargo::rerun-if-env-changed=CAPSTAN_HLS_JS");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let (player, license) = (out.join("hls-player.js"), out.join("hls-player.LICENSE"));
    let found = match env::var("CAPSTAN_HLS_JS") {
        Ok(choice) if choice == "none" => Err("CAPSTAN_HLS_JS=none".to_owned()),
        Ok(file) => copy(Path::new(&file), None, (&player, &license)).map_err(|error| format!("CAPSTAN_HLS_JS={file}: {error}")),
        Err(_) => from_npm(&out, (&player, &license)),
    };
    if let Err(reason) = found {
        println!("cargo::warning=the console gets no HLS player ({reason}); it plays HLS in browsers that can by themselves, and says so in others");
        for file in [&player, &license] {
            fs::write(file, "").expect("OUT_DIR can be written");
        }
    }
}

fn copy(from: &Path, license_from: Option<&Path>, (player, license): (&Path, &Path)) -> io::Result<()> {
    fs::copy(from, player)?;
    let text = license_from.map_or_else(|| Ok("hls.js, Apache-2.0\n".to_owned()), fs::read_to_string)?;
    fs::write(license, text)
}

fn from_npm(out: &Path, target: (&Path, &Path)) -> Result<(), String> {
    let folder = out.join("npm");
    let prepare = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(Path::new(VENDOR).join(name), folder.join(name))?;
        }
        Ok(())
    };
    prepare().map_err(|error| error.to_string())?;
    let log = fs::File::create(out.join("npm.log")).map_err(|error| error.to_string())?;
    let mut npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0", "--fetch-timeout=20000"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("npm: {error}"))?;
    let begun = Instant::now();
    let status = loop {
        match npm.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < NPM_TIMEOUT => thread::sleep(Duration::from_millis(20)),
            _ => {
                // Both fail only if it has ended meanwhile.
                let _ = npm.kill();
                let _ = npm.wait();
                return Err(format!("npm did not end within {} s", NPM_TIMEOUT.as_secs()));
            }
        }
    };
    if !status.success() {
        let said = fs::read_to_string(out.join("npm.log")).unwrap_or_default();
        return Err(format!("npm ci: {}", said.lines().next().unwrap_or("it failed")));
    }
    let package = folder.join("node_modules/hls.js");
    copy(&package.join("dist/hls.min.mjs"), Some(&package.join("LICENSE")), target).map_err(|error| format!("hls.js: {error}"))?;
    // 30 MiB of which one file was wanted; if it stays it does no harm.
    let _ = fs::remove_dir_all(folder.join("node_modules"));
    Ok(())
}
