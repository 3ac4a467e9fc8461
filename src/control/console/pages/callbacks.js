import { call } from "../api.js";
import { h } from "../dom.js";
import { moment, number } from "../format.js";
import { badge, complain, dialog, empty, field, select, sure, table, toast } from "../widgets.js";

const PAGE = 50;
const EVENTS = { 0: "Stream ended", 1: "Stream began", 100: "Recording ready", 321: "Errors in the stream", 332: "Recording state", 341: "Trouble while recording" };

const ADDRESSES = [
  ["RecordNotifyUrl", "A recording is ready"],
  ["StreamBeginNotifyUrl", "A stream began"],
  ["StreamEndNotifyUrl", "A stream ended"],
  ["RecordStatusNotifyUrl", "A recording changed its state"],
  ["RecordExceptionNotifyUrl", "Trouble while recording"],
  ["PushExceptionNotifyUrl", "Errors in a published stream"],
];

export default (context) => {
  let [templates, rules, deliveries, total, state, offset] = [null, [], [], 0, "", 0];
  const hasDeliveries = context.has("DescribeCallbackDeliveries");

  async function load() {
    // Templates hold keys: whoever may only look does not see them.
    templates = context.mayChange() ? (await call("DescribeLiveCallbackTemplates")).Templates : [];
    rules = (await call("DescribeLiveCallbackRules")).Rules;
    if (hasDeliveries) {
      const answer = await call("DescribeCallbackDeliveries", { Offset: offset, Limit: PAGE, ...(state ? { State: state } : {}) });
      [deliveries, total] = [answer.Deliveries, answer.TotalCount];
    }
  }

  async function replay(parameters) {
    try {
      const { Count } = await call("ReplayCallbackDeliveries", parameters);
      toast(Count === 1 ? "It is sent again." : `${number(Count)} are sent again.`);
      context.refresh();
    } catch (error) {
      complain(error);
    }
  }

  function show(delivery) {
    let body = delivery.Body ?? "";
    try {
      body = JSON.stringify(JSON.parse(body), null, 2);
    } catch {
      // Shown as it is.
    }
    dialog({ title: `Delivery ${delivery.DeliveryId}`, button: "Close", kind: "", cancel: false, body: [
      h("dl", { class: "facts" }, h("dt", {}, "To"), h("dd", { class: "mono" }, delivery.Url), h("dt", {}, "State"), h("dd", {}, delivery.State), h("dt", {}, "Attempts"), h("dd", {}, delivery.Attempts),
        delivery.LastAnswer && [h("dt", {}, "Last answer"), h("dd", {}, delivery.LastAnswer)], delivery.NextTime && [h("dt", {}, "Next attempt"), h("dd", {}, moment(delivery.NextTime))]),
      body && h("pre", { class: "code" }, body)], submit: () => true });
  }

  const LOOKS = { delivered: "good", failed: "bad", waiting: "warn" };
  const deliveryColumns = [
    ["Event", (delivery) => h("div", {}, h("div", { class: "title" }, EVENTS[delivery.EventType] ?? delivery.EventType), h("div", { class: "muted small break" }, delivery.Stream)), { label: false }],
    ["To", (delivery) => h("span", { class: "mono break" }, delivery.Url), { wide: true }],
    ["State", (delivery) => h("div", {}, badge(delivery.State, LOOKS[delivery.State]), delivery.LastAnswer && delivery.State !== "delivered" && h("div", { class: "muted small break" }, delivery.LastAnswer))],
    ["Attempts", (delivery) => h("span", { class: "num" }, delivery.Attempts), { right: true }],
    ["Made", (delivery) => h("span", { class: "num nowrap" }, moment(delivery.CreateTime))],
    ["", (delivery) => h("div", { class: "row" }, h("button", { class: "quiet", type: "button", onclick: () => show(delivery) }, "Look"), context.mayChange() && (delivery.State !== "waiting" || delivery.NextTime) && h("button", { class: "quiet", type: "button", onclick: () => replay({ DeliveryIds: [delivery.DeliveryId] }) }, delivery.State === "waiting" ? "Send now" : "Send again")), { right: true, wide: true }],
  ];

  const deliveriesCard = () => h("section", { class: "card flush" },
    h("header", {}, h("h2", {}, "Deliveries"), h("div", { class: "row" },
      state === "failed" && total > 0 && context.mayChange() && h("button", { type: "button", onclick: () => replay({ State: "failed" }) }, "Send all failed again"),
      h("select", { "aria-label": "Which deliveries", style: { width: "auto" }, onchange: (event) => { [state, offset] = [event.target.value, 0]; context.refresh(); } }, [["", "all"], ["waiting", "waiting"], ["delivered", "delivered"], ["failed", "failed"]].map(([value, text]) => h("option", { value, selected: value === state }, text))))),
    deliveries.length ? table(deliveryColumns, deliveries, (delivery) => delivery.DeliveryId) : empty("No deliveries", "What is sent is listed here."),
    total > PAGE && h("div", { class: "row", style: { padding: "12px 18px" } },
      h("button", { type: "button", disabled: offset === 0, onclick: () => { offset -= PAGE; context.refresh(); } }, "Newer"),
      h("span", { class: "muted num" }, `${number(offset + 1)} to ${number(Math.min(total, offset + PAGE))} of ${number(total)}`),
      h("button", { type: "button", disabled: offset + PAGE >= total, onclick: () => { offset += PAGE; context.refresh(); } }, "Older")));

  async function edit(template) {
    const body = [
      h("div", { class: "fields" },
        field("Name", h("input", { name: "TemplateName", required: true, value: template?.TemplateName ?? "", autofocus: true })),
        field("Description", h("input", { name: "Description", value: template?.Description ?? "" })),
        field("Key", h("input", { name: "CallbackKey", value: template?.CallbackKey ?? "", spellcheck: "false", autocomplete: "off" }), "signs what is sent")),
      ...ADDRESSES.map(([name, text]) => field(text, h("input", { name, type: "url", value: template?.[name] ?? "", placeholder: "http://…", spellcheck: "false" }))),
    ];
    const done = await dialog({ title: template ? `Callback template ${template.TemplateId}` : "New callback template", body, button: template ? "Save" : "Create", submit: (values) =>
      template ? call("ModifyLiveCallbackTemplate", { TemplateId: template.TemplateId, ...values }) : call("CreateLiveCallbackTemplate", Object.fromEntries(Object.entries(values).filter(([, value]) => value))) });
    if (done) context.refresh();
  }

  async function bind() {
    const body = h("div", { class: "fields" },
      field("Domain", h("input", { name: "DomainName", required: true, value: context.about.DefaultDomain, spellcheck: "false", autocapitalize: "off", autofocus: true })),
      field("App", h("input", { name: "AppName", spellcheck: "false", autocapitalize: "off" }), "empty: any"),
      field("Template", select("TemplateId", templates.map((template) => [template.TemplateId, template.TemplateName]), templates[0]?.TemplateId)));
    const done = await dialog({ title: "New callback rule", body, button: "Create", submit: ({ TemplateId, ...names }) => call("CreateLiveCallbackRule", { ...names, TemplateId: Number(TemplateId) }) });
    if (done) {
      toast("From now on it is told.");
      context.refresh();
    }
  }

  const removeTemplate = async (template) => { if (await sure(`Delete ${template.TemplateName}?`, "A template that a rule uses cannot be deleted.", "Delete", () => call("DeleteLiveCallbackTemplate", { TemplateId: template.TemplateId }))) context.refresh(); };
  const removeRule = async ({ DomainName, AppName }) => { if (await sure("Delete this rule?", "What happens there is told to nobody then.", "Delete", () => call("DeleteLiveCallbackRule", { DomainName, AppName }))) context.refresh(); };

  const templateColumns = [
    ["Template", (template) => h("div", {}, h("div", { class: "title break" }, template.TemplateName, " ", h("span", { class: "muted num" }, template.TemplateId)), template.Description && h("div", { class: "muted small" }, template.Description)), { label: false }],
    ["Tells", (template) => h("div", { class: "stack small", style: { gap: "4px" } }, ADDRESSES.filter(([name]) => template[name]).map(([name, text]) => h("div", {}, badge(text, "accent"), " ", h("span", { class: "mono break" }, template[name])))), { wide: true }],
    ["", (template) => h("div", { class: "row" }, context.mayChange() && h("button", { class: "quiet", type: "button", onclick: () => edit(template) }, "Edit"), context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => removeTemplate(template) }, "Delete")), { right: true, wide: true }],
  ];
  const ruleColumns = [
    ["Domain", (rule) => h("span", { class: "title break" }, rule.DomainName)],
    ["App", (rule) => rule.AppName || h("span", { class: "muted" }, "any")],
    ["Template", (rule) => templates.find((template) => template.TemplateId === rule.TemplateId)?.TemplateName ?? rule.TemplateId],
    ["", (rule) => context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => removeRule(rule) }, "Delete"), { right: true, wide: true }],
  ];

  return {
    title: "Callbacks",
    interval: 5000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Callbacks"), h("p", { class: "muted" }, "Who is told, by HTTP, when streams begin and end and when files are ready.")),
        context.mayChange() && h("div", { class: "actions" }, h("button", { type: "button", disabled: !templates?.length, onclick: bind }, "New rule"), h("button", { class: "primary", type: "button", onclick: () => edit(null) }, "New template"))),
      templates && h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Templates")), templates.length ? table(templateColumns, templates, (template) => template.TemplateId) : empty("Nobody is told", "A template names the addresses; a rule says for which domain.")),
      templates && rules.length > 0 && h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Rules")), table(ruleColumns, rules, (rule) => `${rule.DomainName}/${rule.AppName}`)),
      templates && hasDeliveries && deliveriesCard(),
    ],
  };
};
