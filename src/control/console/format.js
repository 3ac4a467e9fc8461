// Figures for people.

export function bytes(count) {
  if (!(count >= 0)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function rate(bitsPerSecond) {
  if (!(bitsPerSecond > 0)) return "–";
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(bitsPerSecond >= 1e8 ? 0 : 1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

/** `1:02:03` or `2:03`; from a minute on without fractions. */
export function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** With tenths, for handles. */
export const precise = (seconds) => `${duration(seconds)}.${Math.floor((seconds % 1) * 10)}`;

/** Roughly how long: `3 days`, `5 hours`. */
export function roughly(seconds) {
  for (const [name, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${name}${count === 1 ? "" : "s"}`;
  }
  return "less than a minute";
}

const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const shortClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

const asDate = (time) => (time instanceof Date ? time : new Date(typeof time === "number" ? time * 1000 : time));

/** Unix seconds, an ISO text or a Date, in the zone of the browser. */
export function moment(time) {
  const date = asDate(time);
  return isNaN(date) ? "–" : `${isToday(date) ? "today" : day.format(date)}, ${clock.format(date)}`;
}
export const dayOf = (time) => day.format(asDate(time));
export const clockOf = (time) => shortClock.format(asDate(time));

const isToday = (date) => new Date().toDateString() === date.toDateString();

/** For `<input type=datetime-local>`. */
export function localInput(date) {
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return shifted.toISOString().slice(0, 19);
}

export const number = (count) => new Intl.NumberFormat().format(count);

const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", vp8: "VP8", aac: "AAC", mp3: "MP3", opus: "Opus", flac: "FLAC", ac3: "AC-3", eac3: "E-AC-3" };
export const codec = (name) => CODECS[name] ?? name?.toUpperCase() ?? "–";
