import { call, reachable } from "../api.js";
import { h } from "../dom.js";
import { bytes, codec, duration, moment, number, precise, rate } from "../format.js";
import { player } from "../player.js";
import { badge, complain, copyable, dialog, field, sure, toast } from "../widgets.js";
import { startFlow } from "./processing.js";
import { formatOf, timesOf } from "./recordings.js";

const NEVER = "9999-12-31T23:59:59Z";

export default (context) => {
  const [FileId] = context.parts;
  let [media, receipt, missing, playing, token] = [null, null, false, null, null];
  let [from, to, now] = [0, 0, 0];

  async function load() {
    const answer = await call("DescribeMediaInfos", { FileIds: [FileId] });
    media = answer.MediaInfoSet[0] ?? null;
    missing = !media;
    if (!media) return;
    if (!receipt) [receipt, token] = await call("DescribeRecordingReceipt", { FileId }).then((answer) => [answer.Receipt, answer.DrmToken ?? null], () => [null, null]);
    if (!playing && media.BasicInfo.MediaUrl) {
      const cover = media.BasicInfo.CoverUrl;
      playing = player(context.about, playable(media.BasicInfo.MediaUrl), formatOf(media), { audioOnly: !media.MetaData?.VideoStreamSet?.length, poster: cover ? reachable(cover) : null });
      playing.media.addEventListener("timeupdate", () => { now = playing.media.currentTime; context.redraw(); });
      [from, to] = [0, length()];
    }
  }

  /** Where a playlist is for whoever has the token of an encrypted file; anything else as it is. */
  function playable(address) {
    const url = new URL(reachable(address));
    if (token && url.pathname.endsWith(".m3u8")) url.pathname = url.pathname.replace(/[^/]*$/, (name) => `voddrm.token.${token}.${name}`);
    return url.href;
  }

  const length = () => media.MetaData?.Duration || playing?.media.duration || 0;

  function facts() {
    const [begin, end] = timesOf(media);
    const info = media.BasicInfo.SourceInfo?.LiveRecordInfo;
    const video = media.MetaData?.VideoStreamSet?.[0];
    const audio = media.MetaData?.AudioStreamSet?.[0];
    const row = (name, ...value) => [h("dt", {}, name), h("dd", { class: "num" }, ...value)];
    return h("section", { class: "card" }, h("header", {}, h("h2", {}, "About it"), badge(formatOf(media).toUpperCase(), "accent"), (receipt?.Encryption ?? receipt?.Identity?.Encryption) && badge("encrypted", "accent")),
      h("dl", { class: "facts" },
        row("Recorded", `${moment(begin)} to ${moment(end)}`),
        row("Duration", duration(media.MetaData?.Duration), " · ", bytes(media.MetaData?.Size), media.MetaData?.Bitrate ? ` · ${rate(media.MetaData.Bitrate)}` : ""),
        info && row("Stream", h("a", { href: `#/recordings/${encodeURIComponent(`stream:${info.StreamId}`)}` }, `${info.Domain}/${info.Path}/${info.StreamId}`)),
        video && row("Video", `${codec(video.Codec)}, ${video.Width}×${video.Height}`, video.Fps ? `, ${video.Fps} frames/s` : "", video.Bitrate ? `, ${rate(video.Bitrate)}` : ""),
        audio && row("Audio", `${codec(audio.Codec)}, ${audio.SamplingRate / 1000} kHz`, audio.Bitrate ? `, ${rate(audio.Bitrate)}` : ""),
        media.BasicInfo.Description && row("Description", media.BasicInfo.Description),
        media.BasicInfo.TagSet?.length > 0 && row("Tags", media.BasicInfo.TagSet.map((tag) => [badge(tag), " "])),
        media.BasicInfo.ClassId ? row("Class", media.BasicInfo.ClassPath) : null,
        row("Kept", media.BasicInfo.ExpireTime === NEVER ? "for ever" : `until ${moment(media.BasicInfo.ExpireTime)}`),
        row("FileId", h("code", {}, media.FileId))),
      h("div", { class: "stack", style: { "margin-top": "12px" } }, copyable(reachable(media.BasicInfo.MediaUrl), "Copy the address")));
  }

  const REASONS = { Interval: "the interval of its template had passed", PublicationEnded: "the publication ended", ParametersChanged: "the encoder changed its parameters", TimestampJump: "the timestamps jumped", TaskEnded: "the task ended", Shutdown: "the appliance was stopped", Recovered: "found unfinished at a start, and completed", StorageFailed: "the disk could not follow, or failed" };

  /** Everything in the receipt that says that something was lost or odd; names end in what they count. */
  function losses() {
    const found = [];
    const walk = (value, name) => {
      if (Array.isArray(value)) {
        if (/gap|step|drop|late|lost|loss|jump/i.test(name) && value.length) found.push([name, `${value.length}`]);
      } else if (value && typeof value === "object") for (const [key, part] of Object.entries(value)) walk(part, key);
      else if (typeof value === "number" && value > 0 && /^(dropped|lost|late|gap|missing)/i.test(name)) found.push([name, number(value)]);
    };
    walk(receipt, "");
    return found;
  }

  function receiptCard() {
    if (!receipt) return null;
    const { Summary, Reason, SizeBytes } = receipt;
    const lost = losses();
    const track = (name, track) => track && h("tr", {}, h("td", {}, h("div", {}, name), h("div", { class: "muted" }, [codec(track.Codec), precise(track.DurationMs / 1000), name === "Video" && track.KeyFrames ? `${number(track.KeyFrames)} key frames` : ""].filter(Boolean).join(" · "))), h("td", { class: "right" }, number(track.Frames)), h("td", { class: "right" }, bytes(track.Bytes)));
    return h("section", { class: "card" }, h("header", {}, h("h2", {}, "Receipt"), lost.length ? badge("with losses", "bad") : badge("complete", "good")),
      h("div", { class: "scroll" }, h("table", { class: "table receipt num small" }, h("thead", {}, h("tr", {}, ["Track", "Frames", "Bytes"].map((title, index) => h("th", { scope: "col", class: index ? "right" : null }, title)))), h("tbody", {}, track("Video", Summary?.Video), track("Audio", Summary?.Audio)))),
      lost.length > 0 && h("ul", {}, lost.map(([name, value]) => h("li", {}, `${name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()}: ${value}`))),
      h("p", { class: "muted small", style: { "margin-top": "10px" } }, `Ended because ${REASONS[Reason] ?? Reason}. ${bytes(SizeBytes)} on disk.`));
  }

  /** What processing made of it: other forms to play or download, and pictures. */
  function resultsCard() {
    const renditions = (media.TranscodeInfo?.TranscodeSet ?? []).filter((item) => item.Definition !== 0);
    const streams = media.AdaptiveDynamicStreamingInfo?.AdaptiveDynamicStreamingSet ?? [];
    const sprites = media.ImageSpriteInfo?.ImageSpriteSet ?? [];
    const moving = media.AnimatedGraphicsInfo?.AnimatedGraphicsSet ?? [];
    const shots = [...(media.SnapshotByTimeOffsetInfo?.SnapshotByTimeOffsetSet ?? []).flatMap((set) => (set.PicInfoSet ?? []).map((picture) => picture.Url)), ...(media.SampleSnapshotInfo?.SampleSnapshotSet ?? []).flatMap((set) => set.ImageUrlSet ?? [])];
    if (!renditions.length && !streams.length && !sprites.length && !shots.length && !moving.length) return null;
    const line = (name, detail, url, format, encrypted) => h("div", { class: "spread" }, h("div", {}, h("div", { class: "title" }, name), h("div", { class: "muted small num" }, detail)),
      h("div", { class: "row" }, (!encrypted || token) && h("button", { class: "quiet", type: "button", onclick: () => playOther(url, format) }, "Play"), h("a", { class: "button quiet", href: reachable(url), download: "" }, "Get")));
    return h("section", { class: "card stack" }, h("h2", {}, "Made of it"),
      playing?.other && h("div", { class: "spread" }, h("span", { class: "muted small" }, "Another form is playing."), h("button", { class: "quiet", type: "button", onclick: () => playOther(null) }, "Play the recording")),
      renditions.map((item) => line(`${item.Width ? `${item.Width}×${item.Height} ` : ""}${(item.Container ?? "").toUpperCase()}`, `definition ${item.Definition} · ${bytes(item.Size)}${item.Bitrate ? ` · ${rate(item.Bitrate)}` : ""}`, item.Url, item.Container === "hls" || /\.m3u8/.test(item.Url) ? "hls" : "mp4")),
      streams.map((item) => line("Adaptive stream", `definition ${item.Definition} · ${(item.SubStreamSet ?? []).map((part) => `${part.Height}p`).join(", ")}${item.DrmType ? ` · encrypted (${item.DrmType})` : ""}`, item.Url, "hls", Boolean(item.DrmType))),
      sprites.map((item) => h("div", { class: "small" }, `${number(item.TotalCount)} pictures in ${item.ImageUrlSet.length} sprite sheet${item.ImageUrlSet.length === 1 ? "" : "s"}: `, item.ImageUrlSet.slice(0, 4).map((url, index) => [h("a", { href: reachable(url), target: "_blank", rel: "noopener" }, `sheet ${index + 1}`), " "]))),
      moving.length > 0 && h("div", { class: "row" }, moving.map((item) => h("a", { href: reachable(item.Url), target: "_blank", rel: "noopener" }, h("img", { class: "thumb", src: reachable(item.Url), alt: "Moving picture", loading: "lazy" })))),
      shots.length > 0 && h("div", { class: "row" }, shots.slice(0, 12).map((url) => h("a", { href: reachable(url), target: "_blank", rel: "noopener" }, h("img", { class: "thumb", src: reachable(url), alt: "Snapshot", loading: "lazy" })))));
  }

  /** Plays another form of the recording in the same place; null: the recording itself. */
  function playOther(url, format) {
    playing.dispose();
    const { CoverUrl, MediaUrl } = media.BasicInfo;
    playing = player(context.about, playable(url ?? MediaUrl), url ? format : formatOf(media), { audioOnly: !media.MetaData?.VideoStreamSet?.length, poster: CoverUrl ? reachable(CoverUrl) : null });
    playing.other = Boolean(url);
    playing.media.addEventListener("timeupdate", () => { now = playing.media.currentTime; context.redraw(); });
    context.redraw();
    const { ready, media: element } = playing;
    ready.then(() => element.play()).catch(() => {});
  }

  // Which call cuts depends on what the recording is.
  const clipAction = () => ["EditMedia", "SimpleHlsClip"].find((action) => context.has(action) && (action === "EditMedia" || formatOf(media) === "hls"));

  function setHandle(which, seconds) {
    const whole = length();
    if (which === "from") from = Math.max(0, Math.min(seconds, to - 0.1));
    else to = Math.min(whole, Math.max(seconds, from + 0.1));
    context.redraw();
  }

  function handle(which, label) {
    const value = which === "from" ? from : to;
    return h("button", { type: "button", class: "handle", "data-key": which, role: "slider", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": String(Math.round(length())), "aria-valuenow": value.toFixed(1), "aria-valuetext": precise(value),
      style: { left: `${(value / length()) * 100}%` },
      onkeydown: (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
        const end = { Home: 0, End: length() }[event.key];
        if (!step && end === undefined) return;
        event.preventDefault();
        setHandle(which, end ?? value + step * (event.shiftKey ? 0.1 : 1));
      } });
  }

  /** Dragging: with mouse and finger alike, by pointer events on the whole bar. */
  function drag(event) {
    const bar = event.currentTarget;
    const which = event.target.dataset?.key;
    const at = (moved) => Math.max(0, Math.min(1, (moved.clientX - bar.getBoundingClientRect().left) / bar.clientWidth)) * length();
    if (!which) {
      playing.media.currentTime = at(event);
      return;
    }
    bar.setPointerCapture(event.pointerId);
    const move = (moved) => setHandle(which, at(moved));
    bar.addEventListener("pointermove", move);
    bar.addEventListener("pointerup", () => {
      bar.removeEventListener("pointermove", move);
      playing.media.currentTime = which === "from" ? from : to;
    }, { once: true });
  }

  function clipCard() {
    const whole = length();
    if (!playing || !(whole > 0)) return null;
    const bar = h("div", { class: "track" },
      h("span", { class: "kept", style: { left: `${(from / whole) * 100}%`, width: `${((to - from) / whole) * 100}%` } }),
      h("span", { class: "now", style: { left: `${(now / whole) * 100}%` } }),
      handle("from", "Begin of the clip"), handle("to", "End of the clip"));
    bar.onpointerdown = drag;
    const action = clipAction();
    return h("section", { class: "card stack" }, h("div", { class: "spread" }, h("h2", {}, "Clip"), h("span", { class: "muted num small" }, `${precise(from)} – ${precise(to)} · ${precise(to - from)}`)), bar,
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => setHandle("from", now) }, "Begin here"),
        h("button", { type: "button", onclick: () => setHandle("to", now) }, "End here"),
        h("button", { type: "button", onclick: () => { playing.media.currentTime = from; playing.media.play().catch(() => {}); } }, "Play it"),
        h("button", { class: "primary", type: "button", disabled: !action || !context.mayChange(), onclick: () => clip(action) }, "Cut a clip")),
      !action && h("p", { class: "muted small" }, "This build has no call that cuts."));
  }

  async function clip(action) {
    const [begin, end] = [Number(from.toFixed(3)), Number(to.toFixed(3))];
    const body = [h("p", { class: "muted" }, `${precise(begin)} to ${precise(end)} becomes a recording of its own, without re-encoding.`), field("Name", h("input", { name: "name", required: true, maxlength: "64", value: `${media.BasicInfo.Name} clip`.slice(0, 64), autofocus: true }))];
    const done = await dialog({ title: "Cut a clip", body, button: "Cut", size: "small", submit: ({ name }) =>
      action === "EditMedia"
        ? call("EditMedia", { InputType: "File", FileInfos: [{ FileId, StartTimeOffset: begin, EndTimeOffset: end }], OutputConfig: { MediaName: name, Type: formatOf(media) === "hls" ? "hls" : "mp4" } })
        : call("SimpleHlsClip", { Url: media.BasicInfo.MediaUrl, StartTimeOffset: begin, EndTimeOffset: end, IsPersistence: 1 }) });
    if (!done) return;
    if (done.FileId) location.hash = `#/recording/${done.FileId}`;
    else if (done.TaskId) follow(done.TaskId);
  }

  /** Until the task has ended; then shows what came of it. */
  async function follow(TaskId) {
    toast("Cutting…");
    try {
      for (;;) {
        const { Status, EditMediaTask } = await call("DescribeTaskDetail", { TaskId });
        if (Status === "FINISH" && EditMediaTask) {
          if (EditMediaTask.ErrCode) throw new Error(EditMediaTask.Message || "The clip could not be cut.");
          location.hash = `#/recording/${EditMediaTask.Output.FileId}`;
          return;
        }
        if (Status === "ABORTED") throw new Error("The task was ended.");
        await new Promise((resolve) => setTimeout(resolve, 700));
      }
    } catch (error) {
      complain(error);
    }
  }

  async function edit() {
    const { Name, Description, TagSet, ExpireTime } = media.BasicInfo;
    const body = [
      field("Name", h("input", { name: "Name", value: Name, maxlength: "64", required: true, autofocus: true })),
      field("Description", h("input", { name: "Description", value: Description ?? "", maxlength: "128" })),
      field("Tags", h("input", { name: "tags", value: (TagSet ?? []).join(", ") }), "separated by commas"),
      field("Keep until", h("input", { name: "until", type: "datetime-local", value: ExpireTime === NEVER ? "" : new Date(new Date(ExpireTime) - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 16) }), "empty: as it is"),
    ];
    const done = await dialog({ title: "Change the entry", body, submit: ({ Name, Description, tags, until }) => {
      const wanted = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
      const known = TagSet ?? [];
      const parameters = { FileId, Name, Description };
      const [added, gone] = [wanted.filter((tag) => !known.includes(tag)), known.filter((tag) => !wanted.includes(tag))];
      if (added.length) parameters.AddTags = added;
      if (gone.length) parameters.DeleteTags = gone;
      if (until) parameters.ExpireTime = new Date(until).toISOString().replace(/\.\d+Z$/, "Z");
      return call("ModifyMediaInfo", parameters);
    } });
    if (done) context.refresh();
  }

  async function remove() {
    if (await sure(`Delete ${media.BasicInfo.Name}?`, "The file leaves the disk. There is no way back.", "Delete", () => call("DeleteMedia", { FileId }))) {
      toast("Deleted.");
      location.hash = "#/recordings";
    }
  }

  const fileName = () => decodeURIComponent(new URL(reachable(media.BasicInfo.MediaUrl)).pathname.split("/").pop());

  return {
    title: "Recording",
    interval: 0,
    load,
    dispose: () => playing?.dispose(),
    view: () => {
      if (missing) return h("section", { class: "card" }, h("h1", {}, "There is no such recording"), h("p", {}, h("a", { href: "#/recordings" }, "All recordings")));
      if (!media) return h("p", { class: "muted" }, "Loading…");
      return [
        h("div", { class: "head" },
          h("div", {}, h("a", { class: "small", href: "#/recordings" }, "← Recordings"), h("h1", { class: "break" }, media.BasicInfo.Name)),
          h("div", { class: "actions" },
            h("a", { class: "button", href: reachable(media.BasicInfo.MediaUrl), download: fileName() }, "Download"),
            context.mayChange() && context.has("ProcessMediaByProcedure") && h("button", { type: "button", onclick: () => startFlow(FileId).catch(complain) }, "Process"),
            context.mayChange() && h("button", { type: "button", onclick: edit }, "Edit"),
            context.mayDelete() && h("button", { class: "danger", type: "button", onclick: remove }, "Delete"))),
        h("div", { class: "watch" }, h("div", { class: "stack" }, playing?.element.isConnected ? h("div", { "data-keep": playing.element.dataset.keep, class: "screen" }) : playing?.element, clipCard()), h("div", { class: "stack" }, facts(), resultsCard(), receiptCard())),
      ];
    },
  };
};
