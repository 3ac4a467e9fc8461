// Parts that several pages share.

import { h } from "./dom.js";

const PATHS = {
  overview: "M3 12h4l3-8 4 16 3-8h4",
  recordings: "M4 5h16v14H4zM10 9l5 3-5 3z",
  tasks: "M12 7v5l3 2M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18",
  templates: "M5 4h14v5H5zM5 13h6v7H5zM15 13h4v7h-4z",
  rules: "M5 6h8M5 12h14M5 18h5M16 4v4M13 16v4",
  processing: "M12 3v4M12 17v4M3 12h4M17 12h4M6 6l2.500 2.500M15.500 15.500L18 18M18 6l-2.500 2.500M8.500 15.500L6 18",
  definitions: "M4 6h10M4 12h16M4 18h7M17 4v4M14 16v4",
  callbacks: "M4 12h11M11 7l5 5-5 5M20 4v16",
  push: "M12 20V9M7 13l5-5 5 5M5 4h14",
  settings: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4",
  menu: "M4 7h16M4 12h16M4 17h16",
};

export const icon = (name) =>
  h("svg", { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" }, h("path", { d: PATHS[name] }));

export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

export const tile = (label, value, note) =>
  h("div", { class: "card tile" }, h("span", { class: "label" }, label), h("span", { class: "value num" }, value), h("span", { class: "note" }, note ?? "\u00a0"));

export const empty = (title, text, ...more) => h("div", { class: "empty" }, h("strong", {}, title), h("span", {}, text), ...more);

export const bar = (part) =>
  h("div", { class: "bar" }, h("span", { class: part > 0.9 ? "bad" : part > 0.7 ? "warn" : "", style: { width: `${Math.max(0, Math.min(1, part)) * 100}%` } }));

/** `columns`: `[title, cell(row), {label, right, wide}]`; on a phone every row is a card. */
export function table(columns, rows, key) {
  const head = columns.map(([title, , look = {}]) => h("th", { scope: "col", class: look.right ? "right" : null }, title || h("span", { class: "hidden-label" }, "Actions")));
  const body = rows.map((row) =>
    h("tr", { "data-key": key(row) },
      columns.map(([title, cell, look = {}]) => h("td", { class: `${look.right ? "right" : ""} ${look.wide ? "wide" : ""}`.trim() || null, "data-label": look.label === false ? null : title || null }, cell(row)))),
  );
  return h("div", { class: "scroll" }, h("table", { class: "table cards" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

export const field = (label, input, note) => h("label", { class: "field" }, label, input, note && h("small", {}, note));

export const check = (label, name, checked, more = {}) => h("label", { class: "check" }, h("input", { type: "checkbox", name, checked, ...more }), label);

/** `choices`: `[value, text]`. */
export const select = (name, choices, value, more = {}) =>
  h("select", { name, ...more }, choices.map(([known, text]) => h("option", { value: known, selected: String(known) === String(value) }, text)));

export const datalist = (id, values) => h("datalist", { id }, [...new Set(values)].map((value) => h("option", { value })));

/** The fields of a form: texts as they are, checkboxes as booleans. */
export function values(form) {
  const found = {};
  for (const element of form.elements) if (element.name) found[element.name] = element.type === "checkbox" ? element.checked : element.value.trim();
  return found;
}

export function toast(text, kind = "") {
  let place = document.querySelector(".toasts");
  if (!place) document.body.append((place = h("div", { class: "toasts", role: "status", "aria-live": "polite" })));
  const shown = h("div", { class: `toast ${kind}` }, text);
  place.append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 4000);
}

/** Tells an error where the person looks. */
export const complain = (error) => toast(error.code && error.code !== "Network" ? `${error.message} (${error.code})` : error.message, "bad");

/**
 * A dialog with a form. `submit(values)` may throw: the message is shown and the dialog stays. Resolves to what `submit` returned, or null.
 * Without `cancel` there is nothing to decide.
 */
export function dialog({ title, body, button = "Save", kind = "primary", size = "", cancel = true, submit }) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "notice bad", hidden: true, role: "alert" });
    const confirm = h("button", { class: kind, type: "submit" }, button);
    let result = null;
    const form = h("form", { method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      confirm.disabled = true;
      wrong.hidden = true;
      try {
        result = (await submit?.(values(form), form)) ?? true;
        box.close();
      } catch (error) {
        wrong.textContent = error.message;
        wrong.hidden = false;
      }
      confirm.disabled = false;
    } }, h("h2", {}, title), body, wrong, h("div", { class: "buttons" }, cancel && h("button", { type: "button", onclick: () => box.close() }, "Cancel"), confirm));
    const box = h("dialog", { class: size, "aria-label": title }, form);
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

export const sure = (title, text, button, submit) => dialog({ title, body: h("p", { class: "muted" }, text), button, kind: "danger", size: "small", submit });

export function copyable(text, label = "Copy") {
  return h("div", { class: "copy" }, h("code", {}, text), h("button", { type: "button", "aria-label": `${label}: ${text}`, onclick: () => copyText(text) }, "Copy"));
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS there is no clipboard interface; the older way works everywhere.
    const area = h("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied.");
}

export function sparkline(points) {
  if (points.length < 2) return h("svg", { class: "spark", "aria-hidden": "true" });
  const high = Math.max(...points, 1);
  const line = points.map((value, index) => `${((index / (points.length - 1)) * 84).toFixed(1)},${(22 - (value / high) * 20).toFixed(1)}`).join(" ");
  return h("svg", { class: "spark", viewBox: "0 0 84 24", preserveAspectRatio: "none", "aria-hidden": "true" }, h("polyline", { points: line }));
}
