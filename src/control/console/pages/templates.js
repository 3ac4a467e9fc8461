import { call } from "../api.js";
import { h } from "../dom.js";
import { roughly } from "../format.js";
import { badge, check, dialog, empty, field, sure, table, toast } from "../widgets.js";

// Name in the API, what people call it, longest interval in seconds (none: never cut).
const FORMATS = [["Mp4", "MP4", 43200], ["Hls", "HLS", null], ["Flv", "FLV", 43200], ["Aac", "AAC", 7200], ["Mp3", "MP3", 7200]];

export const kept = (seconds) => (seconds ? `kept ${roughly(seconds)}` : "kept for ever");

export default (context) => {
  let [templates, rules] = [null, []];

  async function load() {
    templates = (await call("DescribeLiveRecordTemplates")).Templates;
    rules = (await call("DescribeLiveRecordRules")).Rules;
  }

  const usesOf = (template) => rules.filter((rule) => rule.TemplateId === template.TemplateId).length;

  function formats(template) {
    const shown = FORMATS.filter(([name]) => template[`${name}Param`]?.Enable).map(([name, text, longest]) => {
      const param = template[`${name}Param`];
      return badge([text, longest ? `${roughly(param.RecordInterval)} a file` : null, kept(param.StorageTime)].filter(Boolean).join(" · "), "accent");
    });
    if (template.HlsEncryption) shown.push(badge(`encrypted${template.HlsEncryption.RotationSegments ? `, a key for ${template.HlsEncryption.RotationSegments} segments` : ""}`, "accent"));
    if (template.PreRecordDuration) shown.push(badge(`keeps the last ${roughly(template.PreRecordDuration)}`, "accent"));
    return h("div", { class: "formats" }, shown.length ? shown : badge("records nothing", "warn"));
  }

  async function edit(template) {
    const given = template ?? { TemplateName: "", Description: "", Mp4Param: { Enable: 1 } };
    const fieldsets = FORMATS.map(([name, text, longest]) => {
      const param = given[`${name}Param`] ?? {};
      const key = (part) => `${name}.${part}`;
      return h("fieldset", {}, h("legend", {}, check(text, key("Enable"), Boolean(param.Enable))),
        h("div", { class: "fields" },
          longest ? field("File length, minutes", h("input", { name: key("RecordInterval"), type: "number", min: "0.5", max: String(longest / 60), step: "any", value: (param.RecordInterval ?? 1800) / 60 }), "cut at the next key frame") : null,
          field("Keep, days", h("input", { name: key("StorageTime"), type: "number", min: "0", max: "1500", step: "any", value: +((param.StorageTime ?? 0) / 86400).toFixed(4) }), "0: for ever"),
          field("Name of the files", h("input", { name: key("VodFileName"), value: param.VodFileName ?? "", placeholder: "{StreamID}_{StartYear}-…", maxlength: "255", spellcheck: "false" }), "empty: stream, begin and end"),
          field("Task flow", h("input", { name: key("Procedure"), value: param.Procedure ?? "", spellcheck: "false" }), "runs on every file")));
    });
    const body = [
      h("div", { class: "fields" },
        field("Name", h("input", { name: "TemplateName", required: true, value: given.TemplateName, maxlength: "255", autofocus: true }), "letters, digits, _ and -"),
        field("Description", h("input", { name: "Description", value: given.Description ?? "" })),
        field("An HLS recording waits for its stream, seconds", h("input", { name: "Flow", type: "number", min: "0", max: "1800", value: given.HlsSpecialParam?.FlowContinueDuration ?? 0 })),
        field("Keep the last minutes of every stream", h("input", { name: "PreRecord", type: "number", min: "0", max: "1440", step: "any", value: +((given.PreRecordDuration ?? 0) / 60).toFixed(2) }), "so that a task may begin in the past; 0: none"),
        check("Encrypt (HLS alone, AES-128)", "Encrypt", Boolean(given.HlsEncryption)),
        field("Segments to a key", h("input", { name: "Rotation", type: "number", min: "0", max: "100000", value: given.HlsEncryption?.RotationSegments ?? 0 }), "0: one key for all")),
      ...fieldsets,
    ];
    const done = await dialog({ title: template ? `Template ${template.TemplateId}` : "New template", body, button: template ? "Save" : "Create", submit: (values) => {
      const parameters = { TemplateName: values.TemplateName, Description: values.Description, HlsSpecialParam: { FlowContinueDuration: Number(values.Flow) }, PreRecordDuration: Math.round(Number(values.PreRecord) * 60) };
      if (values.Encrypt || template?.HlsEncryption) parameters.HlsEncryption = { Type: values.Encrypt ? "SimpleAES" : "", RotationSegments: Number(values.Rotation) };
      for (const [name, , longest] of FORMATS) {
        const value = (part) => values[`${name}.${part}`];
        parameters[`${name}Param`] = {
          Enable: value("Enable") ? 1 : 0,
          ...(longest ? { RecordInterval: Math.round(Number(value("RecordInterval")) * 60) } : {}),
          StorageTime: Math.round(Number(value("StorageTime")) * 86400),
          VodFileName: value("VodFileName"),
          Procedure: value("Procedure"),
        };
      }
      return template ? call("ModifyLiveRecordTemplate", { TemplateId: template.TemplateId, ...parameters }) : call("CreateLiveRecordTemplate", parameters);
    } });
    if (done) {
      toast(template ? "Saved. It counts for publications that begin from now on." : "The template is there; a rule or a task puts it to use.");
      context.refresh();
    }
  }

  async function remove(template) {
    if (await sure(`Delete ${template.TemplateName}?`, "Recordings that run keep their copy. A template that a rule uses cannot be deleted.", "Delete", () => call("DeleteLiveRecordTemplate", { TemplateId: template.TemplateId }))) context.refresh();
  }

  const columns = [
    ["Template", (template) => h("div", {}, h("div", { class: "title break" }, template.TemplateName, " ", h("span", { class: "muted num" }, template.TemplateId)), template.Description && h("div", { class: "muted small break" }, template.Description)), { label: false }],
    ["Records", formats, { wide: true }],
    ["Used by", (template) => h("span", { class: "nowrap" }, `${usesOf(template)} rule${usesOf(template) === 1 ? "" : "s"}`)],
    ["", (template) => h("div", { class: "row" },
      context.mayChange() && h("button", { class: "quiet", type: "button", onclick: () => edit(template) }, "Edit"),
      context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => remove(template) }, "Delete")), { right: true, wide: true }],
  ];

  return {
    title: "Templates",
    interval: 10000,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Templates"), h("p", { class: "muted" }, "Which formats are written, how long a file is, and how long it is kept.")),
        context.mayChange() && h("button", { class: "primary", type: "button", onclick: () => edit(null) }, "New template")),
      templates && h("section", { class: "card flush" }, templates.length ? table(columns, templates, (template) => template.TemplateId) : empty("There are no templates", "Make one, then bind it with a rule.")),
    ],
  };
};

/** Choices for a select. */
export const templateChoices = (templates) => templates.map((template) => [template.TemplateId, `${template.TemplateName} (${FORMATS.filter(([name]) => template[`${name}Param`]?.Enable).map(([, text]) => text).join(", ") || "nothing"})`]);
