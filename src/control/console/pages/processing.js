// What is made of recordings: the queue of task flows and clips, with their progress.

import { call } from "../api.js";
import { h } from "../dom.js";
import { moment } from "../format.js";
import { badge, complain, dialog, empty, sure, table, toast } from "../widgets.js";

const PAGE = 30;
/** Tasks whose progress is asked for; each is a call. */
const DETAILS_MAX = 12;
const STATES = [["", "all"], ["PROCESSING", "running"], ["WAITING", "waiting"], ["FINISH", "finished"]];
const KINDS = {
  Transcode: "Transcoding", AdaptiveDynamicStreaming: "Adaptive stream", SnapshotByTimeOffset: "Snapshots", SampleSnapshot: "Sampled snapshots", ImageSprites: "Sprite sheet",
  ImageSprite: "Sprite sheet", CoverBySnapshot: "Cover", AnimatedGraphics: "Animated picture", EditMedia: "Clip", Procedure: "Task flow",
};

/** What of a flow has failed, as it was asked for: a flow of its own. Null: nothing. */
export function failedOf(detail) {
  const sets = { Transcode: "TranscodeTaskSet", AdaptiveDynamicStreaming: "AdaptiveDynamicStreamingTaskSet", SnapshotByTimeOffset: "SnapshotByTimeOffsetTaskSet", SampleSnapshot: "SampleSnapshotTaskSet", ImageSprites: "ImageSpriteTaskSet", CoverBySnapshot: "CoverBySnapshotTaskSet", AnimatedGraphics: "AnimatedGraphicTaskSet" };
  const again = {};
  for (const result of detail?.ProcedureTask?.MediaProcessResultSet ?? []) {
    const part = Object.values(result).find((value) => value?.Status);
    if (part?.Status === "FAIL" && sets[result.Type]) (again[sets[result.Type]] ??= []).push(part.Input);
  }
  return Object.keys(again).length ? again : null;
}

/** The parts of a task: `{name, status, progress, error}`. */
export function partsOf(detail) {
  const task = detail.ProcedureTask ?? detail.EditMediaTask;
  if (!task) return [];
  if (detail.EditMediaTask) return [{ name: "Clip", status: task.ErrCode ? "FAIL" : task.Status, progress: task.Progress ?? 0, error: task.ErrCode ? task.Message : "" }];
  return (task.MediaProcessResultSet ?? []).map((result) => {
    const [field] = Object.keys(result).filter((name) => name.endsWith("Task") && result[name]);
    const part = result[field] ?? {};
    const definition = part.Input?.Definition ? ` ${part.Input.Definition}` : "";
    return { name: (KINDS[result.Type] ?? result.Type) + definition, status: part.Status, progress: part.Status === "SUCCESS" ? 100 : part.Progress ?? 0, error: part.ErrCode ? part.Message || part.ErrCodeExt : "" };
  });
}

export default (context) => {
  let [tasks, state, token, tokens] = [null, "", "", []];
  const details = new Map();

  async function load() {
    const answer = await call("DescribeTasks", { Limit: PAGE, ...(state ? { Status: state } : {}), ...(tokens.length ? { ScrollToken: tokens.at(-1) } : {}) });
    [tasks, token] = [answer.TaskSet, answer.ScrollToken];
    const asked = tasks.filter((task) => task.Status !== "FINISH" || details.get(task.TaskId)?.Status !== "FINISH").slice(0, DETAILS_MAX);
    for (const { TaskId } of asked) details.set(TaskId, await call("DescribeTaskDetail", { TaskId }).catch(() => null));
  }

  function progress(task) {
    const detail = details.get(task.TaskId);
    if (!detail) return h("span", { class: "muted" }, "–");
    return h("div", { class: "stack", style: { gap: "5px", "min-width": "180px" } }, partsOf(detail).map((part) => h("div", { class: "small" },
      h("div", { class: "spread" }, h("span", {}, part.name), part.status === "FAIL" ? badge("failed", "bad") : part.status === "SUCCESS" || part.status === "FINISH" ? badge("done", "good") : h("span", { class: "muted num" }, `${part.progress} %`)),
      part.status !== "FAIL" && part.status !== "SUCCESS" && part.status !== "FINISH" && h("div", { class: "bar", role: "progressbar", "aria-label": part.name, "aria-valuenow": part.progress, "aria-valuemin": "0", "aria-valuemax": "100" }, h("span", { style: { width: `${part.progress}%` } })),
      part.error && (part.error.length > 160 ? h("details", { class: "muted" }, h("summary", {}, `${part.error.slice(0, 120)}…`), h("pre", { class: "code" }, part.error)) : h("div", { class: "muted break" }, part.error)))));
  }

  async function abort(task) {
    if (await sure("End this task?", "What it has not finished is given up; results that are there stay.", "End it", () => call("ManageTask", { TaskId: task.TaskId, OperationType: "Abort" }))) context.refresh();
  }

  async function retry(task) {
    try {
      await call("ProcessMedia", { FileId: task.FileId, MediaProcessTask: failedOf(details.get(task.TaskId)) });
      toast("What had failed is done again.");
      context.refresh();
    } catch (error) {
      complain(error);
    }
  }

  async function look(task) {
    try {
      const { RequestId, ...detail } = await call("DescribeTaskDetail", { TaskId: task.TaskId });
      dialog({ title: "Task", button: "Close", kind: "", cancel: false, body: h("pre", { class: "code" }, JSON.stringify(detail, (_, value) => (value === null || (Array.isArray(value) && !value.length) ? undefined : value), 2)), submit: () => true });
    } catch (error) {
      complain(error);
    }
  }

  const LOOKS = { WAITING: ["waiting", "warn"], PROCESSING: ["running", "accent"], FINISH: ["finished", ""], ABORTED: ["ended", "bad"] };
  const columns = [
    ["Task", (task) => h("div", {}, h("div", { class: "title" }, KINDS[task.TaskType] ?? task.TaskType), task.FileId ? h("a", { class: "small num", href: `#/recording/${task.FileId}` }, task.FileId) : null), { label: false }],
    ["State", (task) => badge(...(LOOKS[task.Status] ?? [task.Status, ""]))],
    ["Parts", progress, { wide: true }],
    ["Made", (task) => h("span", { class: "num nowrap" }, moment(task.CreateTime))],
    ["Ended", (task) => h("span", { class: "num nowrap" }, task.FinishTime ? moment(task.FinishTime) : "–")],
    ["", (task) => h("div", { class: "row" }, h("button", { class: "quiet", type: "button", onclick: () => look(task) }, "Look"), context.mayChange() && ["FINISH", "ABORTED"].includes(task.Status) && failedOf(details.get(task.TaskId)) && h("button", { class: "quiet", type: "button", onclick: () => retry(task) }, "Retry"), context.mayChange() && context.has("ManageTask") && ["WAITING", "PROCESSING"].includes(task.Status) && h("button", { class: "quiet danger", type: "button", onclick: () => abort(task) }, "End")), { right: true, wide: true }],
  ];

  const choose = (event) => {
    [state, tokens] = [event.target.value, []];
    context.refresh();
  };

  return {
    title: "Processing",
    interval: 2000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Processing"), h("p", { class: "muted" }, "Task flows and clips of the last three days.")),
        h("select", { "aria-label": "Which tasks", style: { width: "auto" }, onchange: choose }, STATES.map(([value, text]) => h("option", { value, selected: value === state }, text)))),
      tasks && h("section", { class: "card flush" }, tasks.length ? table(columns, tasks, (task) => task.TaskId) : empty("Nothing here", "A template's task flow, a recording's page or a clip starts one."),
        (token || tokens.length > 0) && h("div", { class: "row", style: { padding: "12px 18px" } },
          tokens.length > 0 && h("button", { type: "button", onclick: () => { tokens.pop(); context.refresh(); } }, "Newer"),
          token && h("button", { type: "button", onclick: () => { tokens.push(token); context.refresh(); } }, "Older"))),
    ],
  };
};

/** Starts a task flow on a recording, after asking which. */
export async function startFlow(FileId) {
  const flows = (await call("DescribeProcedureTemplates", { Limit: 100 })).ProcedureTemplateSet;
  const choice = h("select", { name: "ProcedureName" }, flows.map((flow) => h("option", { value: flow.Name }, flow.Comment ? `${flow.Name}: ${flow.Comment}` : flow.Name)));
  const made = await dialog({ title: "Process the recording", size: "small", button: "Start", body: h("label", { class: "field" }, "Task flow", choice), submit: ({ ProcedureName }) => call("ProcessMediaByProcedure", { FileId, ProcedureName }) });
  if (made) {
    toast("It has begun.");
    location.hash = "#/processing";
  }
}
