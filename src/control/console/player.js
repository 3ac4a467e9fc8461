// Plays what a browser can: files by themselves, HLS by the browser or by the embedded library.

import { h } from "./dom.js";

/** After a failed request a playlist is asked for again so much later. */
const AGAIN_MS = 3000;
/** Live is so far behind what comes in; the longest segment that a growing list allows for says nothing about how long they are. */
const BEHIND_S = 6;
const NATIVE_HLS = "application/vnd.apple.mpegurl";

let library = null;
/** Each player is its own, also of the same address. */
let players = 0;
/** The player library; null if this build has none. */
function loadLibrary(about) {
  if (!about.HlsPlayer) return Promise.resolve(null);
  library ??= import("/console/vendor/hls.mjs").then((module) => module.default);
  return library;
}

/**
 * `{element, media, ready, dispose}`. `address` is the file or the playlist; `ready` settles when the media is attached, with a sentence if it
 * cannot be played.
 */
export function player(about, address, format, { audioOnly = false, poster = null, live = false } = {}) {
  const media = h(audioOnly ? "audio" : "video", { controls: true, playsinline: true, preload: "metadata", poster, crossorigin: "anonymous", "aria-label": "Player" });
  const say = h("p", { class: "over", hidden: true, role: "alert" });
  const element = h("div", { class: "screen", "data-keep": `player-${++players}` }, media, say);
  let [hls, again] = [null, null];
  const tell = (text) => {
    say.textContent = text;
    say.hidden = false;
    return text;
  };
  media.addEventListener("error", () => tell(media.error?.code === 4 ? "This browser cannot play the file; it can be downloaded." : "The file could not be played to its end."));
  media.addEventListener("playing", () => (say.hidden = true));

  // Media that is attached anew stands still: who was watching goes on watching.
  const goOn = (begin) => {
    const isWatched = !media.paused;
    begin();
    if (isWatched) media.play().catch(() => {});
  };

  async function attach() {
    if (format === "flv") {
      // What no browser plays may be packaged for it.
      const playlist = address.replace(/\.flv(?=$|\?)/, ".m3u8");
      const known = await fetch(playlist, { method: "HEAD" }).then((answer) => answer.ok, () => false);
      if (!known) return tell("Browsers do not play FLV. Download the file, or have the stream recorded as MP4 or HLS too.");
      address = playlist;
    } else if (format !== "hls") {
      media.src = address;
      return null;
    }
    // The library first: it tells more of what goes wrong, and seeks alike everywhere. Where it cannot work (no Media Source Extensions) the browser plays itself.
    const Hls = await loadLibrary(about).catch(() => null);
    if (Hls?.isSupported()) {
      // No worker: the page's policy allows none, and there is little to unpack.
      hls = new Hls({ enableWorker: false, ...(live ? { liveSyncDuration: BEHIND_S } : {}) });
      hls.on(Hls.Events.ERROR, (_, data) => {
        if (!data.fatal) return;
        if (data.type === Hls.ErrorTypes.MEDIA_ERROR) return goOn(() => hls.recoverMediaError());
        tell(data.type === Hls.ErrorTypes.NETWORK_ERROR ? "The recording does not come; it is asked for again." : `The recording cannot be played: ${data.details}.`);
        // The appliance may just be starting again. Once, however many requests failed.
        clearTimeout(again);
        if (data.type === Hls.ErrorTypes.NETWORK_ERROR) again = setTimeout(() => (hls.levels?.length && !live ? hls.startLoad() : goOn(() => hls.loadSource(address))), AGAIN_MS);
      });
      hls.loadSource(address);
      hls.attachMedia(media);
      // Somebody who opens a live stream wants to see it; browsers that forbid it show their button.
      if (live) media.play().catch(() => {});
      return null;
    }
    if (media.canPlayType(NATIVE_HLS)) {
      media.src = address;
      if (live) media.play().catch(() => {});
      return null;
    }
    return tell(about.HlsPlayer ? "This browser cannot play HLS." : "This browser does not play HLS by itself, and Capstan was built without the player library (npm was missing). Record as MP4 too, or build again where npm is.");
  }

  return {
    element,
    media,
    ready: attach(),
    dispose() {
      clearTimeout(again);
      hls?.destroy();
      media.removeAttribute("src");
      media.load();
    },
  };
}
