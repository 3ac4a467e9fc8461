// A stream that is live, from its HLS recording: now, and back to its beginning.

import { call, reachable } from "../api.js";
import { h } from "../dom.js";
import { codec, duration, moment, rate } from "../format.js";
import { player } from "../player.js";
import { badge } from "../widgets.js";

/** Where the recording that grows is played; null if there is none to play. */
export const liveAddress = (stream) => (stream.LiveUrl ? reachable(stream.LiveUrl) : null);

export const watchPage = (stream) => `#/watch/${[stream.DomainName, stream.AppName, stream.StreamName].map(encodeURIComponent).join("/")}`;

export default (context) => {
  const [DomainName, AppName, StreamName] = context.parts;
  let [stream, playing, loaded] = [null, null, false];

  async function load() {
    const answer = await call("DescribeApplianceState", { DomainName, AppName, StreamName });
    [stream, loaded] = [answer.Streams[0] ?? null, true];
    const address = stream && liveAddress(stream);
    // In its first second nobody knows yet whether there is a picture.
    const isKnown = Boolean(stream?.Video || stream?.Audio);
    const isOther = playing && (playing.publication !== stream?.PublicationId || (playing.audioOnly && stream.Video));
    if (address && isKnown && (!playing || isOther)) {
      playing?.dispose();
      playing = Object.assign(player(context.about, address, "hls", { audioOnly: !stream.Video, live: true }), { audioOnly: !stream.Video, publication: stream.PublicationId });
      playing.media.addEventListener("timeupdate", context.redraw);
    }
  }

  /** How far behind what comes in, s. */
  function behind() {
    const { seekable, currentTime } = playing.media;
    return seekable.length ? Math.max(0, seekable.end(seekable.length - 1) - currentTime) : 0;
  }
  const begin = () => (playing.media.seekable.length ? playing.media.seekable.start(0) : 0);
  const edge = () => (playing.media.seekable.length ? Math.max(begin(), playing.media.seekable.end(playing.media.seekable.length - 1) - 3) : 0);
  const go = (seconds) => {
    playing.media.currentTime = Math.max(begin(), Math.min(edge(), seconds));
    // Who leaves the page before it plays has changed their mind.
    playing.media.play().catch(() => {});
  };

  const controls = () => h("section", { class: "card row" },
    h("button", { type: "button", onclick: () => go(begin()) }, "To the beginning"),
    h("button", { type: "button", onclick: () => go(playing.media.currentTime - 30) }, "30 s back"),
    h("button", { type: "button", onclick: () => go(playing.media.currentTime + 30) }, "30 s on"),
    h("button", { class: "primary", type: "button", onclick: () => go(edge()) }, "Live"),
    h("span", { class: "muted num" }, behind() < 15 ? badge("live", "rec") : `${duration(behind())} behind`));

  return {
    title: "Watch",
    interval: 2000,
    load,
    dispose: () => playing?.dispose(),
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("a", { class: "small", href: "#/overview" }, "← Overview"), h("h1", { class: "break" }, StreamName)),
        stream && h("a", { class: "button", href: `#/recordings/${encodeURIComponent(`stream:${StreamName}`)}` }, "Its recordings")),
      !loaded ? h("p", { class: "muted" }, "Loading…")
        : h("div", { class: "stack" },
          !stream && h("p", { class: "notice" }, "The stream has ended; what was recorded is among the recordings."),
          stream && !playing && liveAddress(stream) && h("p", { class: "muted" }, "Loading…"),
          stream && !playing && !liveAddress(stream) && h("p", { class: "notice" }, "There is nothing to watch: the stream is not recorded as HLS. A template with HLS, bound by a rule or used by a task, changes that."),
          playing && (playing.element.isConnected ? h("div", { "data-keep": playing.element.dataset.keep, class: "screen" }) : playing.element),
          playing && stream && controls(),
          stream && h("section", { class: "card" }, h("dl", { class: "facts num" },
            h("dt", {}, "Stream"), h("dd", {}, `${DomainName}/${AppName}/${StreamName}`),
            h("dt", {}, "Live since"), h("dd", {}, moment(stream.PublishTime)),
            stream.Video && [h("dt", {}, "Video"), h("dd", {}, `${codec(stream.Video.Codec)}, ${stream.Video.Width}×${stream.Video.Height}`)],
            stream.Audio && [h("dt", {}, "Audio"), h("dd", {}, `${codec(stream.Audio.Codec)}, ${stream.Audio.SampleRate / 1000} kHz`)],
            h("dt", {}, "Bitrate"), h("dd", {}, rate(stream.BitsPerSecond)),
            h("dt", {}, "From"), h("dd", {}, stream.ClientIp)))),
    ],
  };
};
