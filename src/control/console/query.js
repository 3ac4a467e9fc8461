// The search box: what people write, as fields of SearchMedia.
//
//   camera-1 mp4 yesterday          stream:camera-1 2026-01-31 14:00-15:30
//   last 2h hls                     tag:news after:2026-01-01 "morning show"

const FORMATS = ["mp4", "hls", "flv", "aac", "mp3"];
const FIELDS = { stream: "StreamIds", domain: "StreamDomains", app: "StreamPaths", tag: "Tags", id: "FileIds", format: "MediaTypes" };
const HOUR = 3600e3;
const DAY = 24 * HOUR;

const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
const nextDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate() + 1);

function readDay(word, now) {
  if (word === "today") return midnight(now);
  if (word === "yesterday") return midnight(new Date(midnight(now) - HOUR));
  const found = /^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(word);
  if (!found) return null;
  const date = new Date(Number(found[1]), Number(found[2]) - 1, Number(found[3]));
  return date.getMonth() === Number(found[2]) - 1 ? date : null;
}

/** Milliseconds into a day. */
function readClock(word) {
  const found = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(word);
  if (!found || Number(found[1]) > 24 || Number(found[2]) > 59) return null;
  return (Number(found[1]) * 3600 + Number(found[2]) * 60 + Number(found[3] ?? 0)) * 1000;
}

/** `2026-01-31`, `2026-01-31T14:00`, `14:00`. */
function readMoment(word, now) {
  const [date, clock] = word.split("T");
  const day = readDay(date, now);
  if (day) return new Date(day.getTime() + (clock ? readClock(clock) ?? 0 : 0));
  const time = readClock(word);
  return time === null ? null : new Date(midnight(now).getTime() + time);
}

function readSpan(word) {
  const found = /^(\d+)(m|min|h|d|w)$/.exec(word);
  if (!found) return null;
  return Number(found[1]) * { m: 60e3, min: 60e3, h: HOUR, d: DAY, w: 7 * DAY }[found[2]];
}

/**
 * `{parameters, from, to, understood}`: fields for SearchMedia, the time in which it was recorded (Date or null), and what was understood
 * as `[what, value]`.
 */
export function readQuery(input, now = new Date()) {
  const words = [...input.matchAll(/(\w+):"([^"]*)"|"([^"]*)"|(\S+)/g)].map((found) => (found[1] ? `${found[1]}:${found[2]}` : found[3] ?? found[4]));
  const parameters = {};
  const understood = [];
  const free = [];
  let [from, to, day, clocks] = [null, null, null, null];
  const add = (field, what, value) => {
    (parameters[field] ??= []).push(value);
    understood.push([what, value]);
  };
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    const lower = word.toLowerCase();
    const [, name, value] = /^(\w+):(.+)$/.exec(word) ?? [];
    const field = name?.toLowerCase();
    if (field in FIELDS && !readClock(word)) add(FIELDS[field], field, field === "format" ? value.toLowerCase() : value);
    else if (field === "after" && readMoment(value, now)) from = readMoment(value, now);
    else if (field === "before" && readMoment(value, now)) to = readMoment(value, now);
    else if (FORMATS.includes(lower)) add("MediaTypes", "format", lower);
    else if (readDay(lower, now)) day = readDay(lower, now);
    else if (lower === "last" && readSpan(words[index + 1]?.toLowerCase() ?? "")) from = new Date(now - readSpan(words[++index].toLowerCase()));
    else if (lower === "since" && readMoment(words[index + 1] ?? "", now)) from = readMoment(words[++index], now);
    else if (/^\d{1,2}:\d{2}(:\d{2})?-\d{1,2}:\d{2}(:\d{2})?$/.test(word)) clocks = word.split("-").map(readClock);
    else if (readClock(word) !== null) clocks = [readClock(word), null];
    else free.push(word);
  }
  if (day || clocks) {
    const base = day ?? midnight(now);
    if (!clocks) [from, to] = [base, nextDay(base)];
    // A time alone is the moment: what was on then.
    else [from, to] = [new Date(base.getTime() + clocks[0]), new Date(base.getTime() + (clocks[1] ?? clocks[0] + 1000) + (clocks[1] !== null && clocks[1] < clocks[0] ? DAY : 0))];
  }
  if (free.length) {
    parameters.Text = free.join(" ").slice(0, 64);
    understood.push(["name", parameters.Text]);
  }
  // A file enters the catalog when it ends; one that was recorded in the time has ended after its begin.
  if (from) parameters.CreateTime = { After: from.toISOString().replace(/\.\d+Z$/, "Z") };
  return { parameters, from, to, understood };
}
