import { call } from "../api.js";
import { h } from "../dom.js";
import { clockOf, dayOf, duration, localInput, moment } from "../format.js";
import { badge, datalist, dialog, empty, field, select, sure, table, toast } from "../widgets.js";
import { templateChoices } from "./templates.js";

const HOUR = 3600;
const SCALES = [["6", "6 hours"], ["24", "24 hours"], ["72", "3 days"], ["168", "7 days"]];
const TASKS_SHOWN_MAX = 500;

export default (context) => {
  let [tasks, templates, live, recording] = [null, [], [], new Set()];
  let scale = "24";
  let [domain, app, stream] = context.parts;

  async function load() {
    const now = Math.floor(Date.now() / 1000);
    // The list holds tasks that lie wholly within at most 7 days, and a task has at most one: from yesterday, and to the end of what may be planned.
    const found = new Map();
    for (const [from, to] of [[now - 24 * HOUR, now + 6 * 24 * HOUR], [now, now + 7 * 24 * HOUR]]) {
      let token;
      do {
        const page = await call("DescribeRecordTask", { StartTime: from, EndTime: to, ...(token ? { ScrollToken: token } : {}) });
        for (const task of page.TaskList) found.set(task.TaskId, task);
        token = page.ScrollToken;
      } while (token && found.size < TASKS_SHOWN_MAX);
    }
    const state = await call("DescribeApplianceState", { PageSize: 1000 });
    live = state.Streams;
    recording = new Set(state.Streams.flatMap((stream) => stream.Recordings.map((recording) => recording.TaskId)));
    if (!templates.length) templates = (await call("DescribeLiveRecordTemplates")).Templates;
    tasks = [...found.values()].sort((left, right) => right.StartTime - left.StartTime);
    if (stream) {
      const given = { DomainName: domain, AppName: app, StreamName: stream };
      [domain, app, stream] = [];
      create(given);
    }
  }

  /** `[what, look]` */
  function stateOf(task) {
    const now = Date.now() / 1000;
    if (task.Stopped) return [`stopped at ${clockOf(task.Stopped)}`, "past"];
    if (now >= task.EndTime) return ["ended", "past"];
    if (now < task.StartTime) return ["waiting", "waiting"];
    return recording.has(task.TaskId) ? ["recording", "running"] : ["waits for the stream", "waiting"];
  }

  async function create(given, old) {
    const now = new Date();
    const start = given?.StartTime ? new Date(given.StartTime * 1000) : null;
    const end = given?.EndTime ? new Date(given.EndTime * 1000) : new Date(now.getTime() + HOUR * 1000);
    const when = h("select", { name: "when", onchange: () => (startInput.parentElement.hidden = when.value === "now") }, [["now", "now"], ["later", "at a time"]].map(([value, text]) => h("option", { value, selected: (value === "later") === Boolean(start) }, text)));
    const startInput = h("input", { name: "start", type: "datetime-local", step: "1", value: localInput(start ?? new Date(now.getTime() + HOUR * 1000)) });
    const startField = field("Begin", startInput, "in the past: as far back as the stream is kept");
    startField.hidden = !start;
    const body = [
      h("div", { class: "fields" },
        field("Domain", h("input", { name: "DomainName", required: true, list: "domains", value: given?.DomainName ?? context.about.DefaultDomain, spellcheck: "false", autocapitalize: "off" })),
        field("App", h("input", { name: "AppName", required: true, list: "apps", value: given?.AppName ?? "live", spellcheck: "false", autocapitalize: "off" })),
        field("Stream", h("input", { name: "StreamName", required: true, list: "streams", value: given?.StreamName ?? "", autofocus: true, spellcheck: "false", autocapitalize: "off" })),
        field("Template", select("TemplateId", [[0, "default format"], ...templateChoices(templates)], given?.TemplateId ?? 0)),
        field("Begins", when), startField,
        field("End", h("input", { name: "end", type: "datetime-local", step: "1", required: true, value: localInput(end) }), "at most 24 hours after the begin")),
      datalist("domains", live.map((stream) => stream.DomainName)), datalist("apps", live.map((stream) => stream.AppName)), datalist("streams", live.map((stream) => stream.StreamName)),
    ];
    const done = await dialog({ title: old ? "Change the task" : "New task", body, button: old ? "Save" : "Create", submit: async (values) => {
      const seconds = (text) => Math.floor(new Date(text).getTime() / 1000);
      const parameters = { DomainName: values.DomainName, AppName: values.AppName, StreamName: values.StreamName, TemplateId: Number(values.TemplateId), EndTime: seconds(values.end) };
      if (values.when === "later") parameters.StartTime = seconds(values.start);
      const begin = parameters.StartTime ?? Date.now() / 1000;
      if (!(parameters.EndTime > begin && parameters.EndTime > Date.now() / 1000)) throw new Error("The end must be later than the begin, and than now.");
      if (parameters.EndTime > begin + 24 * HOUR + 1) throw new Error("A task records for 24 hours at most.");
      // A task cannot be changed: the new one first, so that a refusal loses nothing.
      const made = await call("CreateRecordTask", parameters);
      if (old) await call("DeleteRecordTask", { TaskId: old.TaskId });
      return made;
    } });
    if (done) {
      toast(old ? "Changed." : "The task is set.");
      context.refresh();
    }
  }

  async function stop(task) {
    if (await sure("Stop this task?", "What it has recorded becomes a finished file at once.", "Stop", () => call("StopRecordTask", { TaskId: task.TaskId }))) context.refresh();
  }

  async function remove(task) {
    if (await sure("Delete this task?", "It goes from the list. Files that it made stay; what it records at the moment goes on to the end of the publication.", "Delete", () => call("DeleteRecordTask", { TaskId: task.TaskId }))) context.refresh();
  }

  function timeline() {
    const now = Date.now() / 1000;
    const span = Number(scale) * HOUR;
    const begin = now - span * (scale === "168" ? 1 / 7 : 0.25);
    const place = (time) => ((time - begin) / span) * 100;
    const shown = tasks.filter((task) => (task.Stopped || task.EndTime) > begin && task.StartTime < begin + span).sort((left, right) => left.StartTime - right.StartTime);
    if (!shown.length) return h("p", { class: "muted" }, "No task in this time.");
    // Each window goes to the first lane that is free then.
    const lanes = [];
    for (const task of shown) {
      const end = task.Stopped || task.EndTime;
      const lane = lanes.find((lane) => lane.until <= task.StartTime) ?? lanes[lanes.push({ until: 0, tasks: [] }) - 1];
      lane.tasks.push(task);
      lane.until = Math.max(end, task.StartTime + span / 100);
    }
    const step = { 6: 1, 24: 3, 72: 12, 168: 24 }[scale] * HOUR;
    const ticks = [];
    const zone = new Date().getTimezoneOffset() * 60;
    for (let time = Math.ceil((begin - zone) / step) * step + zone; time < begin + span; time += step) ticks.push(time);
    return h("div", { class: "lanes", tabindex: "0", role: "group", "aria-label": "Windows of the tasks over time" }, h("div", { class: "inner" },
      ticks.map((time) => h("span", { class: "tick", style: { left: `${place(time)}%` } }, step >= 24 * HOUR ? dayOf(time) : clockOf(time))),
      lanes.slice(0, 12).map((lane) => h("div", { class: "lane" }, lane.tasks.map((task) => {
        const [what, look] = stateOf(task);
        const left = Math.max(0, place(task.StartTime));
        const right = Math.min(100, place(task.Stopped || task.EndTime));
        return h("span", { class: `window ${look}`, "data-key": task.TaskId, title: `${task.StreamName}: ${moment(task.StartTime)} to ${moment(task.EndTime)}, ${what}`, style: { left: `${left}%`, width: `${Math.max(0.4, right - left)}%` } }, task.StreamName);
      }))),
      h("span", { class: "nowline", style: { left: `${place(now)}%` }, title: "now" })));
  }

  const columns = [
    ["Stream", (task) => h("div", {}, h("div", { class: "title break" }, task.StreamName), h("div", { class: "muted small break" }, `${task.DomainName}/${task.AppName}`)), { label: false }],
    ["State", (task) => { const [what, look] = stateOf(task); return badge(what, { running: "rec", waiting: "warn", past: "" }[look]); }],
    ["Begin", (task) => h("span", { class: "num" }, moment(task.StartTime))],
    ["End", (task) => h("span", { class: "num" }, moment(task.EndTime))],
    ["Length", (task) => h("span", { class: "num muted" }, duration(task.EndTime - task.StartTime))],
    ["Template", (task) => templates.find((template) => template.TemplateId === task.TemplateId)?.TemplateName ?? h("span", { class: "muted" }, "default format")],
    ["", (task) => {
      const [, look] = stateOf(task);
      const begun = Date.now() / 1000 >= task.StartTime;
      return h("div", { class: "row" },
        context.mayChange() && context.mayDelete() && look === "waiting" && !begun && h("button", { class: "quiet", type: "button", onclick: () => create(task, task) }, "Edit"),
        context.mayChange() && look !== "past" && h("button", { class: "quiet", type: "button", onclick: () => stop(task) }, "Stop"),
        h("a", { class: "button quiet", href: `#/recordings/${encodeURIComponent(`stream:${task.StreamName}`)}` }, "Files"),
        context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => remove(task) }, "Delete"));
    }, { right: true, wide: true }],
  ];

  return {
    title: "Tasks",
    interval: 4000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Tasks"), h("p", { class: "muted" }, "Record one stream from one time to another, whatever the rules say.")),
        context.mayChange() && h("button", { class: "primary", type: "button", onclick: () => create(null) }, "New task")),
      tasks && h("section", { class: "card" },
        h("header", {}, h("h2", {}, "Windows"), h("label", { class: "row small muted" }, "Show", h("select", { onchange: (event) => { scale = event.target.value; context.redraw(); }, style: { width: "auto" } }, SCALES.map(([value, text]) => h("option", { value, selected: value === scale }, text))))),
        timeline()),
      tasks && h("section", { class: "card flush" }, tasks.length ? table(columns, tasks, (task) => task.TaskId) : empty("No tasks from yesterday to next week", "A task takes a stream that is live already, too.")),
    ],
  };
};
