#!/usr/bin/env python3
"""What it costs to deliver recordings: CPU seconds for each GB (10^9 bytes), against nginx with the same files and clients, in turn (A B A B).

    cargo build --release && python3 benches/delivery.py

Needs nginx, wrk and ffmpeg (Debian: nginx-light wrk ffmpeg). Everything runs on loopback, in a folder that is removed afterwards. Prints medians and the ratio;
a run with a failed request fails.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")

# Whole files in turn, or stretches of them anywhere, as players seek. `done` tells what came of it.
WRK = """
local paths, length, size = {}, %d, %d
for path in string.gmatch([[%s]], "%%S+") do paths[#paths + 1] = path end
local number = 0
math.randomseed(7)
request = function()
    number = number + 1
    local headers = {}
    if length > 0 then
        local from = math.random(0, size - length)
        headers["Range"] = "bytes=" .. from .. "-" .. (from + length - 1)
    end
    return wrk.format("GET", paths[number %% #paths + 1], headers)
end
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format('RESULT {"bytes": %%d, "requests": %%d, "us": %%d, "failed": %%d, "timeouts": %%d, "p99_us": %%d}\\n', summary.bytes, summary.requests,
        summary.duration, errors.connect + errors.read + errors.write + errors.status, errors.timeout, latency:percentile(99)))
end
"""

NGINX = """
daemon off; worker_processes auto; pid %(folder)s/nginx.pid; error_log %(folder)s/error.log; worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; keepalive_timeout 60; types { video/mp4 mp4; }
    client_body_temp_path %(folder)s; proxy_temp_path %(folder)s; fastcgi_temp_path %(folder)s; uwsgi_temp_path %(folder)s; scgi_temp_path %(folder)s;
    server { listen 127.0.0.1:%(port)d backlog=4096; root %(root)s; }
}
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def processes(pid):
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def cpu_s(pid):
    total = 0
    for one in processes(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def wait_for(port):
    until = time.monotonic() + 15
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def call(port, action, **parameters):
    query = urllib.parse.urlencode({"Action": action, **parameters})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{query}", timeout=10) as answer:
        return json.load(answer)["Response"]


def record(capstan_http, rtmp, folder, count):
    """Recordings of some seconds at 8 Mbit/s; returns their addresses and files."""
    source = folder / "source.flv"
    made = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=10", "-vf", "noise=alls=60:allf=t", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([*made, "-b:v", "8M", "-maxrate", "8M", "-bufsize", "8M", "-g", "50", "-pix_fmt", "yuv420p", source], check=True)
    for number in range(count):
        push = ["ffmpeg", "-v", "error", "-i", source, "-c", "copy", "-f", "flv", f"rtmp://127.0.0.1:{rtmp}/live/bench-{number}"]
        subprocess.run(push, check=True)
    until = time.monotonic() + 30
    while (found := call(capstan_http, "SearchMedia", **{"MediaTypes.0": "mp4", "Limit": 100}))["TotalCount"] < count:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return [media["BasicInfo"]["MediaUrl"] for media in found["MediaInfoSet"]], min(media["MetaData"]["Size"] for media in found["MediaInfoSet"])


def load(port, paths, size, length, connections, seconds, folder):
    script = folder / "load.lua"
    script.write_text(WRK % (length, size, "\n".join(paths)))
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "20s", "-s", str(script), f"http://127.0.0.1:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.split("RESULT ", 1)[1].splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--capstan", default=REPOSITORY / "target" / "release" / "capstan", type=Path)
    parser.add_argument("--seconds", default=5, type=int, help="of each measurement")
    parser.add_argument("--rounds", default=2, type=int)
    parser.add_argument("--readers", default=2000, type=int, help="connections of the third load")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="capstan-delivery-"))
    running = []
    try:
        rtmp, http, media, nginx_port = (free_port() for _ in range(4))
        (folder / "capstan.toml").write_text(
            f'data_folder = "{folder}/data"\n[ingest]\nrtmp_listen = "127.0.0.1:{rtmp}"\narena_mib = 64\n[http]\nlisten = "127.0.0.1:{http}"\n[delivery]\nlisten = "127.0.0.1:{media}"\n'
        )
        capstan = subprocess.Popen([options.capstan, "serve", "--config", folder / "capstan.toml"], stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
        running.append(capstan)
        wait_for(media)
        urls, size = record(http, rtmp, folder, 8)
        (folder / "nginx.conf").write_text(NGINX % {"folder": folder, "port": nginx_port, "root": folder / "data" / "media"})
        # The workers may not be root's: others have to reach the folder.
        folder.chmod(0o755)
        nginx = subprocess.Popen(["nginx", "-e", f"{folder}/error.log", "-p", folder, "-c", folder / "nginx.conf"])
        running.append(nginx)
        wait_for(nginx_port)
        files = [next((folder / "data" / "media").glob(f"*/{url.split('/')[-2]}/*.mp4")) for url in urls]
        ours = [urllib.parse.urlsplit(url).path for url in urls]
        theirs = ["/" + str(file.relative_to(folder / "data" / "media")) for file in files]
        print(f"{len(files)} files of {size / 1e6:.1f} MB and more, {options.rounds} rounds of {options.seconds} s each, {os.cpu_count()} CPUs shared with the client\n")
        print(f"{'load':<34} {'server':<8} {'CPU s/GB':>9} {'MB/s':>8} {'requests/s':>11} {'p99 ms':>8}")
        worst = 0
        for name, length, connections in [("whole files", 0, 16), ("ranges of 256 KiB", 256 << 10, 64), (f"ranges of 64 KiB, {options.readers} readers", 64 << 10, options.readers)]:
            costs = {}
            for _ in range(options.rounds):
                for server, process, port, paths in [("capstan", capstan, media, ours), ("nginx", nginx, nginx_port, theirs)]:
                    before = cpu_s(process.pid)
                    result = load(port, paths, size, length, connections, options.seconds, folder)
                    cost = (cpu_s(process.pid) - before) / (result["bytes"] / 1e9)
                    if result["failed"] or result["timeouts"] or not result["requests"]:
                        sys.exit(f"{server}, {name}: {result}")
                    costs.setdefault(server, []).append(cost)
                    rate, requests = result["bytes"] / result["us"], result["requests"] * 1e6 / result["us"]
                    print(f"{name:<34} {server:<8} {cost:>9.3f} {rate:>8.0f} {requests:>11.0f} {result['p99_us'] / 1000:>8.1f}", flush=True)
            ratio = statistics.median(costs["capstan"]) / statistics.median(costs["nginx"])
            worst = max(worst, ratio)
            print(f"{name:<34} {'ratio':<8} {ratio:>9.2f}   capstan / nginx, medians\n", flush=True)
        return worst
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(20)
        subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
