import { setLogin } from "../api.js";
import { h } from "../dom.js";
import { field, values } from "../widgets.js";

/** `done` is called when there is something to try; `draw` shows the form. */
export default ({ error, done, draw }) => {
  let kind = "key";
  const view = () => draw(
    h("main", { class: "login" },
      h("span", { class: "brand" }, h("img", { src: "/console/icon.svg", alt: "" }), "Capstan"),
      h("div", { class: "card stack" },
        h("p", { class: "muted small" }, "This appliance wants to know who you are. Credentials and tokens stand in its configuration file. They stay in this tab and are forgotten when it closes."),
        h("div", { class: "tabs", role: "group", "aria-label": "How to log in" },
          [["key", "Credential"], ["token", "Token"]].map(([name, text]) => h("button", { type: "button", "aria-pressed": String(kind === name), onclick: () => { kind = name; error = null; view(); } }, text))),
        error && h("p", { class: "notice bad", role: "alert" }, error.message),
        h("form", { class: "stack", "data-key": kind, onsubmit: submit },
          kind === "key"
            ? [field("SecretId", h("input", { name: "id", required: true, autocomplete: "username", autofocus: true, spellcheck: "false", autocapitalize: "off" })),
              field("SecretKey", h("input", { name: "key", type: "password", required: true, autocomplete: "current-password" }))]
            : field("Token", h("input", { name: "token", type: "password", required: true, autocomplete: "current-password", autofocus: true })),
          h("button", { class: "primary", type: "submit" }, "Log in")))));

  function submit(event) {
    event.preventDefault();
    setLogin({ kind, ...values(event.target) });
    done();
  }
  return view;
};
