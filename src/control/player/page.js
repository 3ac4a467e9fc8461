// Plays one file by its FileId: /player/<appId>/<fileId>?psign=…, also in an iframe of another page.

const $ = (id) => document.getElementById(id);
const video = $("video");
const [, , appId, fileId] = location.pathname.split("/");
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

const clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

/** Where an encrypted stream's playlist is for whoever has the token. */
function withToken(address, token) {
  const url = new URL(address);
  const at = url.pathname.lastIndexOf("/") + 1;
  url.pathname = `${url.pathname.slice(0, at)}voddrm.token.${token}.${url.pathname.slice(at)}`;
  return url.href;
}

function choose(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
}

let info = null;

async function begin() {
  const query = new URLSearchParams(location.search);
  const answer = await fetch(`/getplayinfo/v4/${appId}/${fileId}?${query}`).then((reply) => reply.json());
  if (answer.code !== 0) return tell(answer.message);
  info = answer.media;
  document.title = info.basicInfo.name || "Player";
  if (info.basicInfo.coverUrl) video.poster = info.basicInfo.coverUrl;
  const { plainOutput, drmOutput, drmToken } = info.streamingInfo;
  const output = plainOutput ?? drmOutput?.[0];
  const address = plainOutput ? plainOutput.url : withToken(output.url, drmToken);
  const isHls = new URL(address).pathname.endsWith(".m3u8");
  if (info.imageSpriteInfo?.webVttUrl) previews(info.imageSpriteInfo.webVttUrl).catch(() => {});
  if (!isHls) {
    video.src = address;
  } else {
    await attach(address, output);
  }
  if (query.get("autoplay") === "1") video.play().catch(() => {});
}

async function attach(address, output) {
  const Hls = await import("/console/vendor/hls.mjs").then((module) => module.default).catch(() => null);
  if (!Hls?.isSupported()) {
    if (video.canPlayType("application/vnd.apple.mpegurl")) video.src = address;
    else tell("This browser cannot play HLS.");
    return;
  }
  const hls = new Hls({ enableWorker: false });
  let recovered = 0;
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && recovered++ < 3) {
      // Media that is attached anew stands still: who was watching goes on watching.
      const isWatched = !video.paused;
      hls.recoverMediaError();
      if (isWatched) video.play().catch(() => {});
    } else if (data.details === "keyLoadError") tell("The key of this stream was refused: the link has expired.");
    else tell(`The file cannot be played: ${data.details}.`);
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    const name = (level) => {
      const known = (output.subStreams ?? []).find((stream) => stream.width === level.width && stream.height === level.height);
      return known?.resolutionName ? `${known.resolutionName} (${level.height}p)` : `${level.height || "?"}p`;
    };
    const levels = hls.levels.map((level, index) => [index, name(level)]).reverse();
    choose($("quality"), [[-1, "Auto"], ...levels], -1);
    $("quality-label").hidden = hls.levels.length < 2;
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => {
    document.body.dataset.level = level;
    $("quality").options[0].text = hls.autoLevelEnabled && hls.levels[level] ? `Auto (${hls.levels[level].height}p)` : "Auto";
  });
  $("quality").addEventListener("change", () => (hls.nextLevel = Number($("quality").value)));
  hls.loadSource(address);
  hls.attachMedia(video);
}

/** Pictures of the time line, from their WebVTT file. */
let cues = [];
async function previews(address) {
  const text = await fetch(address).then((reply) => (reply.ok ? reply.text() : Promise.reject(reply.status)));
  const seconds = (stamp) => stamp.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  for (const [, begin, end, name, box] of text.matchAll(/(\S+) --> (\S+)\n(\S+)#xywh=([\d,]+)/g)) {
    const [x, y, width, height] = box.split(",").map(Number);
    cues.push({ begin: seconds(begin), end: seconds(end), url: new URL(name, address).href, x, y, width, height });
  }
}

const timeline = $("timeline");
const moment = (event) => {
  const box = timeline.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (video.duration || info?.basicInfo.duration || 0);
};
const seek = (time) => {
  if (Number.isFinite(video.duration)) video.currentTime = Math.min(video.duration, Math.max(0, time));
};
timeline.addEventListener("pointermove", (event) => {
  const time = moment(event);
  const cue = cues.find((cue) => time >= cue.begin && time < cue.end) ?? cues.at(-1);
  $("preview").hidden = false;
  $("preview").style.left = `${event.clientX - timeline.getBoundingClientRect().left}px`;
  $("moment").textContent = clock(time);
  $("picture").hidden = !cue;
  if (cue) {
    Object.assign($("picture").style, { width: `${cue.width}px`, height: `${cue.height}px`, backgroundImage: `url("${cue.url}")`, backgroundPosition: `-${cue.x}px -${cue.y}px` });
  }
  if (event.buttons & 1) seek(time);
});
timeline.addEventListener("pointerleave", () => ($("preview").hidden = true));
timeline.addEventListener("pointerdown", (event) => seek(moment(event)));

const toggle = () => (video.paused ? video.play().catch((error) => tell(error.message)) : video.pause());
$("play").addEventListener("click", toggle);
video.addEventListener("click", toggle);
$("mute").addEventListener("click", () => (video.muted = !video.muted));
$("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : $("player").requestFullscreen?.()));
choose($("speed"), SPEEDS.map((speed) => [speed, `${speed}×`]), 1);
$("speed").addEventListener("change", () => (video.playbackRate = Number($("speed").value)));
document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLButtonElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = { " ": toggle, k: toggle, ArrowLeft: () => seek(video.currentTime - 5), ArrowRight: () => seek(video.currentTime + 5), m: () => $("mute").click(), f: () => $("full").click() };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});

function show() {
  const { currentTime: time, duration } = video;
  const part = (value) => `${duration > 0 ? (value / duration) * 100 : 0}%`;
  $("played").style.width = part(time);
  $("buffered").style.width = part(video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0);
  $("time").textContent = `${clock(time)} / ${clock(duration || info?.basicInfo.duration)}`;
  timeline.setAttribute("aria-valuemax", String(Math.round(duration || 0)));
  timeline.setAttribute("aria-valuenow", String(Math.round(time)));
  timeline.setAttribute("aria-valuetext", clock(time));
  $("player").classList.toggle("paused", video.paused);
  $("play").textContent = video.paused ? "▶" : "⏸";
  $("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
  $("mute").textContent = video.muted ? "🔇" : "🔊";
  $("mute").setAttribute("aria-label", video.muted ? "Sound on" : "Sound off");
}
for (const name of ["timeupdate", "durationchange", "progress", "play", "pause", "ended", "volumechange", "seeked"]) video.addEventListener(name, show);
video.addEventListener("playing", () => tell(""));
video.addEventListener("error", () => video.error && tell("The file could not be played."));
show();
begin().catch((error) => tell(`The player could not begin: ${error.message}.`));
