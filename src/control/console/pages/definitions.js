// What can be made of recordings: parameters of renditions, adaptive streams and pictures, and the task flows that name them.

import { call } from "../api.js";
import { h } from "../dom.js";
import { badge, check, dialog, empty, field, select, sure, table, toast } from "../widgets.js";

const number = (text) => (text === "" || text === undefined ? 0 : Number(text));
const size = (item) => (item.Width || item.Height ? `${item.Width || "auto"}×${item.Height || "auto"}` : "as the source");
const rate = (kbps) => (kbps ? `${kbps} kbit/s` : "");
const listed = (...parts) => parts.filter(Boolean).join(" · ");
const every = (item) => (item.SampleType === "Percent" ? `every ${item.SampleInterval} %` : `every ${item.SampleInterval} s`);

const CODECS = { libx264: "H.264", libx265: "HEVC", libfdk_aac: "AAC", libmp3lame: "MP3", ac3: "AC-3", flac: "FLAC" };
const codec = (name) => CODECS[name] ?? name;

const NAMING = [["Name", "Name", { maxlength: "64", autofocus: true }], ["Comment", "Remark", { maxlength: "256" }]];
const SHAPE = [["Width", "Width, pixels", { type: "number", min: "0", note: "0: by the shape" }], ["Height", "Height, pixels", { type: "number", min: "0" }]];
const PICTURE = [...SHAPE, ["Format", "Format", { choices: ["jpg", "png", "webp"] }]];
const SAMPLING = [["SampleType", "Distance in", { choices: [["Time", "seconds"], ["Percent", "percent of the duration"]] }], ["SampleInterval", "Distance", { type: "number", min: "1", value: 10 }]];
const NUMBERS = new Set(["Width", "Height", "SampleInterval", "RowCount", "ColumnCount", "Fps", "Quality"]);

/** Name in the API, what people call it, how a list shows one, its fields, and a body made of them where that is not one field for one parameter. */
const KINDS = [
  { api: "Transcode", key: "TranscodeTaskSet", title: "Renditions", about: "One file of another size, codec or container.", fields: transcodeFields, body: transcodeBody,
    say: (item) => listed(item.Container.toUpperCase(), item.RemoveVideo ? "" : item.VideoTemplate?.Codec ? listed(codec(item.VideoTemplate.Codec), size(item.VideoTemplate), item.VideoTemplate.Fps ? `${item.VideoTemplate.Fps} frames/s` : "", rate(item.VideoTemplate.Bitrate)) : "as it is", item.RemoveAudio || !item.AudioTemplate?.Codec ? "" : listed(codec(item.AudioTemplate.Codec), rate(item.AudioTemplate.Bitrate))) },
  { api: "AdaptiveDynamicStreaming", key: "AdaptiveDynamicStreamingTaskSet", title: "Adaptive streams", about: "HLS of several qualities that a player changes between.", fields: adaptiveFields, body: adaptiveBody,
    say: (item) => listed(item.Format, item.StreamInfos.map((step) => `${step.Video.Height || step.Video.Width || "source"}p`).join(", "), item.SegmentType === "mp4" ? "fMP4" : "TS", item.DrmType ? `encrypted (${item.DrmType})` : "") },
  { api: "SnapshotByTimeOffset", key: "SnapshotByTimeOffsetTaskSet", title: "Pictures at times, covers", about: "Single pictures.", fields: () => [...NAMING, ...PICTURE], say: (item) => listed(item.Format, size(item)) },
  { api: "SampleSnapshot", key: "SampleSnapshotTaskSet", title: "Sampled pictures", about: "Pictures at equal distances.", fields: () => [...NAMING, ...PICTURE, ...SAMPLING], say: (item) => listed(item.Format, size(item), every(item)) },
  { api: "ImageSprite", key: "ImageSpriteTaskSet", title: "Sprite sheets", about: "Small pictures for a player's time line.", say: (item) => listed(size(item), `${item.RowCount} rows of ${item.ColumnCount}`, every(item)),
    fields: () => [...NAMING, ...PICTURE, ...SAMPLING, ["RowCount", "Rows", { type: "number", min: "1", max: "100", value: 10 }], ["ColumnCount", "Columns", { type: "number", min: "1", max: "100", value: 10 }]] },
  { api: "AnimatedGraphics", key: "AnimatedGraphicTaskSet", title: "Moving pictures", about: "Short ones without sound.", say: (item) => listed(item.Format, size(item), `${item.Fps} frames/s`),
    fields: () => [...NAMING, ...SHAPE, ["Format", "Format", { choices: ["gif", "webp"] }], ["Fps", "Pictures a second", { type: "number", min: "1", max: "30", value: 5 }], ["Quality", "Quality (WebP)", { type: "number", min: "1", max: "100", value: 75 }]] },
];

function transcodeFields(item) {
  const video = item?.VideoTemplate ?? {};
  const audio = item?.AudioTemplate ?? {};
  return [...NAMING,
    ["Container", "Container", { choices: ["mp4", "hls", "flv", "mp3", "m4a", "flac", "ogg", "wav"] }], ["SegmentType", "HLS segments", { choices: [["ts", "MPEG-TS"], ["fmp4", "fragmented MP4"]] }],
    ["RemoveVideo", "Without video", { check: true }], ["RemoveAudio", "Without sound", { check: true }],
    ["v.Codec", "Video codec", { choices: [["libx264", "H.264"], ["libx265", "HEVC"]], value: video.Codec }],
    ["v.Width", "Width, pixels", { type: "number", min: "0", value: video.Width ?? 0, note: "0: by the shape" }], ["v.Height", "Height, pixels", { type: "number", min: "0", value: video.Height ?? 720 }],
    ["v.Fps", "Frames a second", { type: "number", min: "0", max: "100", value: video.Fps ?? 0, note: "0: as the source" }], ["v.Bitrate", "Video, kbit/s", { type: "number", min: "0", value: video.Bitrate ?? 1800, note: "0: as the source" }],
    ["a.Codec", "Sound codec", { choices: [["libfdk_aac", "AAC"], ["libmp3lame", "MP3"], ["ac3", "AC-3"], ["flac", "FLAC"]], value: audio.Codec }],
    ["a.Bitrate", "Sound, kbit/s", { type: "number", min: "0", max: "256", value: audio.Bitrate ?? 64 }], ["a.SampleRate", "Sample rate", { choices: ["44100", "48000", "32000"], value: audio.SampleRate }],
    ["a.AudioChannel", "Channels", { choices: [["2", "stereo"], ["1", "mono"], ["6", "5.1"]], value: audio.AudioChannel }]];
}

function transcodeBody(form) {
  const body = { Name: form.Name, Comment: form.Comment, Container: form.Container, RemoveVideo: Number(form.RemoveVideo), RemoveAudio: Number(form.RemoveAudio) };
  if (form.Container === "hls") body.SegmentType = form.SegmentType;
  if (!form.RemoveVideo && ["mp4", "hls", "flv"].includes(form.Container)) body.VideoTemplate = { Codec: form["v.Codec"], ...Object.fromEntries(["Width", "Height", "Fps", "Bitrate"].map((name) => [name, number(form[`v.${name}`])])) };
  if (!form.RemoveAudio) body.AudioTemplate = { Codec: form["a.Codec"], ...Object.fromEntries(["Bitrate", "SampleRate", "AudioChannel"].map((name) => [name, number(form[`a.${name}`])])) };
  return body;
}

const STEPS = "240 256\n480 512\n720 1024\n1080 2500";

function adaptiveFields(item) {
  const steps = item?.StreamInfos?.map(({ Video }) => [Video.Height, Video.Bitrate, Video.Fps].filter((value, index) => value || index < 2).join(" ")).join("\n");
  return [...NAMING, ["SegmentType", "Segments", { choices: [["mp4", "fragmented MP4 (CMAF)"], ["ts", "MPEG-TS"]] }], ["SegmentDuration", "Length of a segment, s", { type: "number", min: "1", max: "10", value: 6 }],
    ["DrmType", "Encryption", { choices: [["", "none"], ["SimpleAES", "SimpleAES (AES-128)"]] }],
    ["steps", "Qualities: lines, kbit/s and, if you want, frames/s", { area: true, value: steps ?? STEPS, note: "one a line; none above the source is made" }]];
}

function adaptiveBody(form, item) {
  const known = item?.StreamInfos?.[0]?.Audio;
  const Audio = known?.Codec ? known : { Codec: "libfdk_aac", Bitrate: 64, SampleRate: 44100, AudioChannel: 2 };
  const StreamInfos = form.steps.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [Height, Bitrate, Fps] = line.split(/[\s,]+/).map(Number);
    if (!(Height > 0) || !(Bitrate >= 0)) throw new Error(`"${line}" is no quality: lines and kbit/s, like 720 1800.`);
    return { Video: { Codec: "libx264", Height, Bitrate, Fps: Fps || 0 }, Audio };
  });
  const body = { Name: form.Name, Comment: form.Comment, DrmType: form.DrmType, SegmentType: form.SegmentType, SegmentDuration: number(form.SegmentDuration), StreamInfos };
  return item?.Definition ? body : { ...body, Format: "HLS" };
}

/** An input of a form from its line in the tables above. */
function input([name, label, look], item) {
  const { choices, check: isCheck, area, note, value, ...more } = look;
  const known = item?.[name] ?? value;
  if (isCheck) return check(label, name, Boolean(known));
  if (choices) return field(label, select(name, choices.map((choice) => (Array.isArray(choice) ? choice : [choice, choice])), known));
  if (area) return field(label, h("textarea", { name, rows: "6", spellcheck: "false" }, known ?? ""), note);
  return field(label, h("input", { name, value: known ?? (look.type === "number" ? 0 : ""), step: look.type === "number" ? "any" : null, ...more }), note);
}

const FLOW_FIELD = { Transcode: "Renditions", AdaptiveDynamicStreaming: "Adaptive streams", ImageSprite: "Sprite sheets", SampleSnapshot: "Sampled pictures" };

export default (context) => {
  const sets = new Map();
  let flows = null;

  async function load() {
    const lists = await Promise.all(KINDS.map((kind) => call(`Describe${kind.api}Templates`, { Limit: 100 })));
    KINDS.forEach((kind, index) => sets.set(kind.api, lists[index][`${kind.api}TemplateSet`]));
    flows = (await call("DescribeProcedureTemplates", { Limit: 100 })).ProcedureTemplateSet;
  }

  /** `item` without a number: a new one that begins like it. */
  async function edit(kind, item) {
    const isNew = !item?.Definition;
    const fields = kind.fields(item);
    const done = await dialog({ title: isNew ? `${kind.title}: new definition` : `Definition ${item.Definition}`, button: isNew ? "Create" : "Save", body: h("div", { class: "fields" }, fields.map((line) => input(line, item))), submit: (form) => {
      const body = kind.body ? kind.body(form, item) : Object.fromEntries(fields.map(([name]) => [name, NUMBERS.has(name) ? number(form[name]) : form[name]]));
      return call(`${isNew ? "Create" : "Modify"}${kind.api}Template`, isNew ? body : { Definition: Number(item.Definition), ...body });
    } });
    if (!done) return;
    toast(isNew ? `The definition ${done.Definition} is there; a task flow puts it to use.` : "Saved.");
    context.refresh();
  }

  const copy = (kind, { Definition, ...item }) => edit(kind, { ...item, Name: item.Name ? `${item.Name} copy`.slice(0, 64) : "" });

  async function remove(kind, item) {
    if (await sure(`Delete the definition ${item.Definition}?`, "Results that are there stay. A task flow that names it fails at that point.", "Delete", () => call(`Delete${kind.api}Template`, { Definition: Number(item.Definition) }))) context.refresh();
  }

  function what(process) {
    const parts = [...KINDS.flatMap((kind) => (process[kind.key] ?? []).map((task) => `${kind.title} ${task.Definition}`)), ...(process.CoverBySnapshotTaskSet ?? []).map((task) => `cover at ${task.PositionValue} ${task.PositionType === "Percent" ? "%" : "s"}`)];
    return h("div", { class: "formats" }, parts.map((part) => badge(part, "accent")));
  }

  async function editFlow(flow) {
    const process = flow?.MediaProcessTask ?? {};
    const isNew = !flow || flow.Type === "Preset";
    const choose = (api) => {
      const kind = KINDS.find((known) => known.api === api);
      const chosen = new Set((process[kind.key] ?? []).map((task) => Number(task.Definition)));
      const offered = (sets.get(api) ?? []).filter((item) => api !== "AdaptiveDynamicStreaming" || (item.Format === "HLS" && ["", "SimpleAES"].includes(item.DrmType)));
      return h("fieldset", {}, h("legend", {}, FLOW_FIELD[api]), h("div", { class: "stack", style: { gap: "4px", "max-height": "180px", overflow: "auto" } }, offered.map((item) => check(`${item.Definition} · ${item.Name || kind.say(item)}`, `${kind.key}.${item.Definition}`, chosen.has(Number(item.Definition))))));
    };
    const cover = process.CoverBySnapshotTaskSet?.[0];
    const body = [
      h("div", { class: "fields" }, field("Name", h("input", { name: "Name", required: true, maxlength: "20", value: isNew ? "" : flow.Name, readonly: !isNew, autofocus: true })), field("Remark", h("input", { name: "Comment", value: flow?.Comment ?? "", maxlength: "256" }))),
      h("fieldset", {}, h("legend", {}, check("Cover", "cover", Boolean(cover))), h("div", { class: "fields" }, field("Taken at", h("input", { name: "coverAt", type: "number", min: "0", step: "any", value: cover?.PositionValue ?? 0 })), field("in", select("coverIn", [["Time", "seconds"], ["Percent", "percent"]], cover?.PositionType ?? "Time")))),
      ...Object.keys(FLOW_FIELD).map(choose),
    ];
    const done = await dialog({ title: isNew ? "New task flow" : `Task flow ${flow.Name}`, body, button: isNew ? "Create" : "Save", submit: (form) => {
      const made = Object.fromEntries(["SnapshotByTimeOffsetTaskSet", "AnimatedGraphicTaskSet"].filter((key) => process[key]?.length).map((key) => [key, process[key]]));
      for (const api of Object.keys(FLOW_FIELD)) {
        const { key } = KINDS.find((kind) => kind.api === api);
        const known = new Map((process[key] ?? []).map((task) => [Number(task.Definition), task]));
        const wanted = Object.keys(form).filter((name) => name.startsWith(`${key}.`) && form[name]).map((name) => Number(name.split(".")[1]));
        if (wanted.length) made[key] = wanted.map((Definition) => ({ ...known.get(Definition), Definition }));
      }
      if (form.cover) made.CoverBySnapshotTaskSet = [{ ...cover, Definition: cover?.Definition ?? 10, PositionType: form.coverIn, PositionValue: number(form.coverAt) }];
      if (!Object.keys(made).length) throw new Error("Choose what the flow is to make.");
      return call(isNew ? "CreateProcedureTemplate" : "ResetProcedureTemplate", { Name: form.Name, Comment: form.Comment, MediaProcessTask: made });
    } });
    if (!done) return;
    toast("Saved. A template's field “Task flow” runs it on every file.");
    context.refresh();
  }

  async function removeFlow(flow) {
    if (await sure(`Delete the task flow ${flow.Name}?`, "Tasks that run go on. Templates that name it record on; their files are not processed.", "Delete", () => call("DeleteProcedureTemplate", { Name: flow.Name }))) context.refresh();
  }

  const button = (text, kind, onclick) => h("button", { class: `quiet ${kind}`, type: "button", onclick }, text);
  const isPreset = (item) => item.Type === "Preset";
  const flowColumns = [
    ["Task flow", (flow) => h("div", {}, h("div", { class: "title break" }, flow.Name, " ", isPreset(flow) && badge("preset")), flow.Comment && h("div", { class: "muted small break" }, flow.Comment)), { label: false }],
    ["Makes", (flow) => what(flow.MediaProcessTask), { wide: true }],
    ["", (flow) => h("div", { class: "row" }, context.mayChange() && button(isPreset(flow) ? "Copy" : "Edit", "", () => editFlow(flow)), context.mayDelete() && !isPreset(flow) && button("Delete", "danger", () => removeFlow(flow))), { right: true, wide: true }],
  ];
  const columns = (kind) => [
    ["Definition", (item) => h("div", {}, h("div", { class: "title break" }, h("span", { class: "num" }, item.Definition), " ", item.Name), item.Comment && h("div", { class: "muted small break" }, item.Comment)), { label: false }],
    ["What it makes", (item) => h("span", { class: "num" }, kind.say(item)), { wide: true }],
    ["", (item) => h("div", { class: "row" }, isPreset(item) && badge("preset"), context.mayChange() && button(isPreset(item) ? "Copy" : "Edit", "", () => (isPreset(item) ? copy(kind, item) : edit(kind, item))), context.mayDelete() && !isPreset(item) && button("Delete", "danger", () => remove(kind, item))), { right: true, wide: true }],
  ];
  const section = (title, about, add, content) => h("section", { class: "card flush" }, h("header", { style: { padding: "14px 18px" } }, h("div", {}, h("h2", {}, title), h("p", { class: "muted small" }, about)), context.mayChange() && add), content);

  /** Those of one's own, and the presets behind a line: there are many. */
  function definitions(kind) {
    const [own, presets] = [false, true].map((wanted) => (sets.get(kind.api) ?? []).filter((item) => isPreset(item) === wanted));
    const list = (items) => table(columns(kind), items, (item) => `${kind.api}-${item.Definition}`);
    return [own.length > 0 && list(own), presets.length > 0 && h("details", { style: { padding: "10px 18px" } }, h("summary", {}, presets.length === 1 ? "1 preset" : `${presets.length} presets`), list(presets))];
  }

  return {
    title: "Definitions",
    interval: 10000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Definitions"), h("p", { class: "muted" }, "What can be made of recordings, and the task flows that do it."))),
      flows && section("Task flows", "What is done with a file, by itself after recording or by hand.", h("button", { class: "primary", type: "button", onclick: () => editFlow(null) }, "New task flow"), flows.length ? table(flowColumns, flows, (flow) => flow.Name) : empty("No task flows", "Make one.")),
      ...(flows ? KINDS.map((kind) => section(kind.title, kind.about, h("button", { type: "button", onclick: () => edit(kind, null) }, "New"), definitions(kind))) : []),
    ],
  };
};
