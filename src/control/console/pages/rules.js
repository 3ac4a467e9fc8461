import { call } from "../api.js";
import { h } from "../dom.js";
import { badge, datalist, dialog, empty, field, select, sure, table, toast } from "../widgets.js";
import { templateChoices } from "./templates.js";

export default (context) => {
  let [rules, templates, live] = [null, [], []];

  async function load() {
    rules = (await call("DescribeLiveRecordRules")).Rules;
    templates = (await call("DescribeLiveRecordTemplates")).Templates;
    live = (await call("DescribeLiveStreamOnlineList", { PageSize: 100 })).OnlineInfo;
  }

  const any = (text) => (text ? h("span", { class: "break" }, text) : h("span", { class: "muted" }, "any"));
  // The order in which rules are looked at: the first that matches counts.
  const rank = (rule) => (rule.StreamName ? (rule.AppName ? 1 : 2) : rule.AppName ? 3 : 4);

  async function create() {
    const body = [
      h("div", { class: "fields" },
        field("Domain", h("input", { name: "DomainName", required: true, list: "domains", autofocus: true, spellcheck: "false", autocapitalize: "off", value: context.about.DefaultDomain })),
        field("App", h("input", { name: "AppName", list: "apps", spellcheck: "false", autocapitalize: "off" }), "empty: any"),
        field("Stream", h("input", { name: "StreamName", list: "streams", spellcheck: "false", autocapitalize: "off" }), "empty: any"),
        field("Template", select("TemplateId", templateChoices(templates), templates[0]?.TemplateId))),
      datalist("domains", live.map((stream) => stream.DomainName)), datalist("apps", live.map((stream) => stream.AppName)), datalist("streams", live.map((stream) => stream.StreamName)),
    ];
    const done = await dialog({ title: "New rule", body, button: "Create", submit: ({ TemplateId, ...names }) => call("CreateLiveRecordRule", { ...names, TemplateId: Number(TemplateId) }) });
    if (done) {
      toast("The rule counts for publications that begin from now on.");
      context.refresh();
    }
  }

  async function remove({ DomainName, AppName, StreamName }) {
    const text = "Recordings that run go on to their end; publications that begin from now on are not recorded by it.";
    if (await sure("Delete this rule?", text, "Delete", () => call("DeleteLiveRecordRule", { DomainName, AppName, StreamName }))) context.refresh();
  }

  function template(rule) {
    const found = templates.find((known) => known.TemplateId === rule.TemplateId);
    const formats = found ? ["Mp4", "Hls", "Flv", "Aac", "Mp3"].filter((name) => found[`${name}Param`]?.Enable) : [];
    return h("div", { class: "row" }, h("a", { href: "#/templates" }, found?.TemplateName ?? rule.TemplateId), formats.length ? formats.map((name) => badge(name.toUpperCase(), "accent")) : badge("records nothing", "warn"));
  }

  const columns = [
    ["Domain", (rule) => (rule.DomainName ? h("span", { class: "title break" }, rule.DomainName) : h("span", { class: "title" }, "every domain"))],
    ["App", (rule) => any(rule.AppName)],
    ["Stream", (rule) => any(rule.StreamName)],
    ["Template", template, { wide: true }],
    ["Since", (rule) => h("span", { class: "muted nowrap" }, rule.CreateTime.slice(0, 10))],
    ["", (rule) => context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => remove(rule) }, "Delete"), { right: true, wide: true }],
  ];

  return {
    title: "Rules",
    interval: 10000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Rules"), h("p", { class: "muted" }, "Which streams are recorded by which template. Of several that match, the most exact one counts.")),
        context.mayChange() && h("button", { class: "primary", type: "button", disabled: !templates.length, onclick: create }, "New rule")),
      rules && h("section", { class: "card flush" },
        rules.length
          ? table(columns, [...rules].sort((left, right) => rank(left) - rank(right) || left.DomainName.localeCompare(right.DomainName)), (rule) => [rule.DomainName, rule.AppName, rule.StreamName].join("/"))
          : empty("There are no rules", "Without a rule only tasks record.")),
    ],
  };
};
