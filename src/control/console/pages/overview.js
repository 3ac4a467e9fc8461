import { call, health, metrics } from "../api.js";
import { h } from "../dom.js";
import { bytes, codec, duration, number, rate, roughly } from "../format.js";
import { badge, bar, complain, dialog, empty, field, select, sparkline, sure, table, tile, toast } from "../widgets.js";

import { liveAddress, watchPage } from "./watch.js";

const HISTORY = 40;
const PAGE_SIZE = 100;

export default (context) => {
  let [state, before, sick, samples, failed] = [null, null, null, new Map(), false];
  let pageNum = 1;
  const history = new Map();

  async function load() {
    const next = await call("DescribeApplianceState", { PageNum: pageNum, PageSize: PAGE_SIZE });
    [before, state] = [state, next];
    const [known, text] = await Promise.all([health().catch(() => null), metrics().catch(() => new Map())]);
    [sick, samples] = [known && !known.ok ? known.state : null, text];
    const live = new Set();
    for (const stream of next.Streams) {
      const points = history.get(stream.PublicationId) ?? [];
      points.push(stream.BitsPerSecond);
      history.set(stream.PublicationId, points.slice(-HISTORY));
      live.add(stream.PublicationId);
    }
    for (const id of history.keys()) if (!live.has(id)) history.delete(id);
    // A recording into which no frame came is no failure.
    failed = (samples.get("capstan_files_failed_total") ?? []).some((sample) => sample.labels.reason !== "empty" && sample.value > 0);
  }

  const sum = (name) => (samples.get(name) ?? []).reduce((total, sample) => total + sample.value, 0);
  const ofCore = (name, core) => (samples.get(name) ?? []).find((sample) => sample.labels.core === String(core))?.value ?? 0;

  /** Cores' shares of a CPU since the answer before. */
  function cores() {
    const passed = before ? (state.UnixMillis - before.UnixMillis) / 1000 : 0;
    const spent = (answer, name) => answer?.Threads.find((thread) => thread.Name === name)?.CpuSeconds ?? 0;
    return state.Threads.filter((thread) => /^ingest-\d+$/.test(thread.Name)).map((thread) => {
      const core = Number(thread.Name.split("-")[1]);
      const load = passed > 0 ? (thread.CpuSeconds - spent(before, thread.Name)) / passed : null;
      return { core, load, streams: ofCore("capstan_publishers", core), free: ofCore("capstan_blocks_free", core), blocks: ofCore("capstan_blocks", core) };
    }).sort((left, right) => left.core - right.core);
  }

  /** When the disk is full at the rate of now: every open recording stores what the stream brings. */
  function forecast() {
    const stored = state.Streams.reduce((total, stream) => total + stream.BitsPerSecond * Math.max(filesOf(stream), 0), 0) / 8;
    if (state.TotalNum > state.Streams.length || stored === 0) return null;
    return state.Disk.FreeBytes / stored;
  }
  // MP4 and HLS of one template share their bytes on the disk.
  const filesOf = (stream) => new Set(stream.Recordings.map((recording) => `${recording.StartedBy} ${recording.TaskId} ${recording.Format === "hls" ? "mp4" : recording.Format}`)).size;

  function tiles() {
    const left = forecast();
    const dropped = sum("capstan_dropped_frames_total");
    const recording = state.Streams.filter((stream) => stream.Recordings.length).length;
    const used = state.Disk.TotalBytes ? 1 - state.Disk.FreeBytes / state.Disk.TotalBytes : 0;
    return h("div", { class: "tiles" },
      tile("Live streams", number(state.TotalNum), `${recording} being recorded`),
      tile("Coming in", rate(state.BitsPerSecond), `up for ${roughly((state.UnixMillis - Date.parse(state.StartTime)) / 1000)}`),
      h("div", { class: "card tile" }, h("span", { class: "label" }, "Disk free"), h("span", { class: "value num" }, bytes(state.Disk.FreeBytes)), bar(used),
        h("span", { class: "note" }, left === null ? `of ${bytes(state.Disk.TotalBytes)}` : `full in ${roughly(left)} at this rate`)),
      tile("Memory", bytes(state.Memory.ResidentBytes), dropped ? `${number(dropped)} frames in no file since the start` : "no frame lost since the start"));
  }

  function streams() {
    if (!state.TotalNum) {
      return h("section", { class: "card" }, empty("Nobody publishes at the moment", "Push a stream and it appears here.", h("a", { class: "button primary", href: "#/push" }, "Make a push address")));
    }
    const now = state.UnixMillis / 1000;
    const columns = [
      ["Stream", (stream) => h("div", {}, h("div", { class: "title break" }, stream.StreamName), h("div", { class: "muted small break" }, `${stream.DomainName}/${stream.AppName}`)), { label: false }],
      ["Video", (stream) => (stream.Video ? h("span", { class: "nowrap" }, codec(stream.Video.Codec), " ", stream.Video.Width ? h("span", { class: "muted num" }, `${stream.Video.Width}×${stream.Video.Height}`) : null) : h("span", { class: "muted" }, "none"))],
      ["Audio", (stream) => (stream.Audio ? h("span", { class: "nowrap" }, codec(stream.Audio.Codec), " ", h("span", { class: "muted num" }, `${stream.Audio.SampleRate / 1000} kHz`)) : h("span", { class: "muted" }, "none"))],
      ["Bitrate", (stream) => h("div", { class: "nowrap num" }, rate(stream.BitsPerSecond), sparkline(history.get(stream.PublicationId) ?? []))],
      ["Live for", (stream) => h("span", { class: "num nowrap" }, duration(now - Date.parse(stream.PublishTime) / 1000))],
      ["Recording", (stream) => h("div", { class: "formats" }, stream.Recordings.length ? stream.Recordings.map((recording) => h("span", { class: "badge rec", title: recording.StartedBy === "rule" ? `by rule, template ${recording.TemplateId}` : `by task ${recording.TaskId}` }, recording.Format.toUpperCase())) : badge("not recorded"), stream.DroppedFrames ? badge(`${number(stream.DroppedFrames)} frames lost`, "bad") : null)],
      ["", (stream) => !context.mayChange() ? h("div", { class: "row" }, watchable(stream)) : h("div", { class: "row" }, watchable(stream), h("button", { class: "quiet", type: "button", onclick: () => record(stream) }, "Record"), h("button", { class: "quiet danger", type: "button", onclick: () => drop(stream) }, "Drop")), { right: true, wide: true }],
    ];
    const pages = state.TotalPage > 1 && h("div", { class: "row", style: { padding: "12px 18px" } },
      h("button", { type: "button", disabled: pageNum <= 1, onclick: () => { pageNum--; context.refresh(); } }, "Previous"),
      h("span", { class: "muted" }, `Page ${state.PageNum} of ${state.TotalPage}`),
      h("button", { type: "button", disabled: pageNum >= state.TotalPage, onclick: () => { pageNum++; context.refresh(); } }, "Next"));
    return h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Live now")), table(columns, state.Streams, (stream) => stream.PublicationId), pages);
  }

  const watchable = (stream) => liveAddress(stream) && h("a", { class: "button quiet", href: watchPage(stream) }, "Watch");

  async function record(stream) {
    let templates;
    try {
      templates = (await call("DescribeLiveRecordTemplates")).Templates;
    } catch (error) {
      return complain(error);
    }
    const body = h("div", { class: "fields" },
      field("For", select("minutes", [[10, "10 minutes"], [30, "30 minutes"], [60, "1 hour"], [180, "3 hours"], [720, "12 hours"], [1440, "24 hours"]], 60)),
      field("As", select("template", [[0, "default format"], ...templates.map((template) => [template.TemplateId, template.TemplateName])], 0)));
    const made = await dialog({ title: `Record ${stream.StreamName} from now on`, body, button: "Record", submit: ({ minutes, template }) => call("CreateRecordTask", {
      DomainName: stream.DomainName, AppName: stream.AppName, StreamName: stream.StreamName, EndTime: Math.floor(Date.now() / 1000) + Number(minutes) * 60, TemplateId: Number(template) }) });
    if (made) {
      toast("The task has begun.");
      context.refresh();
    }
  }

  async function drop(stream) {
    const done = await sure(`Drop ${stream.StreamName}?`, "The publication ends and its files are finished. The publisher may come back.", "Drop",
      () => call("DropLiveStream", { DomainName: stream.DomainName, AppName: stream.AppName, StreamName: stream.StreamName }));
    if (done) context.refresh();
  }

  function coreLoad() {
    const shown = cores();
    return h("section", { class: "card" }, h("header", {}, h("h2", {}, "Load of the ingest cores"), h("span", { class: "muted small" }, "share of one CPU")),
      h("div", { class: "stack" }, shown.map(({ core, load, streams, free, blocks }) => h("div", { class: "core num" },
        h("span", {}, `Core ${core}`), bar(load ?? 0), h("span", { class: "right" }, load === null ? "…" : `${Math.round(load * 100)} %`),
        h("span", { class: "muted right", title: blocks ? `${number(free)} of ${number(blocks)} blocks of its arena are free` : null }, `${number(streams)} stream${streams === 1 ? "" : "s"}`)))));
  }

  function others() {
    const passed = before ? (state.UnixMillis - before.UnixMillis) / 1000 : 0;
    const shown = state.Threads.filter((thread) => !/^ingest-\d+$/.test(thread.Name)).map((thread) => {
      const earlier = before?.Threads.find((known) => known.Name === thread.Name)?.CpuSeconds ?? thread.CpuSeconds;
      return { name: thread.Name, count: thread.Count, load: passed > 0 ? (thread.CpuSeconds - earlier) / passed : 0 };
    });
    const load = shown.reduce((total, thread) => total + thread.load, 0);
    return h("section", { class: "card" }, h("header", {}, h("h2", {}, "Storage and the rest")),
      h("dl", { class: "facts num" },
        h("dt", {}, "Recordings open"), h("dd", {}, number(sum("capstan_open_files"))),
        h("dt", {}, "Recordings finished"), h("dd", {}, number(sum("capstan_files_finished_total")), " since the start"),
        h("dt", {}, "Waiting for the disk"), h("dd", {}, `${number(sum("capstan_disk_queue_depth"))} jobs`),
        h("dt", {}, "Other threads"), h("dd", {}, `${Math.round(load * 100)} % of one CPU`),
        state.Disks.map((disk) => [h("dt", {}, "Data"), h("dd", {}, h("span", { class: "mono" }, disk.Folder),
          state.Disks.length > 1 && ` ${bytes(disk.FreeBytes)} free `, disk.State !== "ok" && badge(disk.State, "bad"))])));
  }

  return {
    title: "Overview",
    interval: 2000,
    load,
    view: () => [
      h("div", { class: "head" }, h("h1", {}, "Overview"), state && !context.failing() && (sick ? badge("degraded", "bad") : badge("all well", "good"))),
      sick && h("p", { class: "notice bad" }, "The appliance is not well: ", Object.entries(sick).map(([name, value]) => `${name}: ${value}`).join("; ")),
      failed && h("p", { class: "notice" }, "Some recordings since the start could not be finished; the log says which and why."),
      state ? [tiles(), streams(), h("div", { class: "columns" }, coreLoad(), others())] : h("p", { class: "muted" }, "Loading…"),
    ],
  };
};
