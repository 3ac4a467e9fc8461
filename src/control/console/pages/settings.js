import { call } from "../api.js";
import { h } from "../dom.js";
import { badge } from "../widgets.js";

export default (context) => {
  let [answer, filter] = [context.about, ""];

  function section(name, settings) {
    return h("section", { class: "card flush", "data-key": name }, h("header", {}, h("h2", { class: "mono" }, name ? `[${name}]` : "top of the file")),
      h("div", { class: "scroll" }, h("table", { class: "table cards" }, h("thead", {}, h("tr", {}, ["Setting", "Value", "Meaning"].map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, settings.map((setting) => h("tr", { "data-key": setting.Name },
          h("td", {}, h("code", { class: "title" }, setting.Name.split(".").pop())),
          h("td", { class: "wide" }, h("code", { class: "break" }, setting.Value), setting.Unit ? ` ${setting.Unit}` : "", " ", setting.Value === setting.Default ? null : badge("changed", "accent")),
          h("td", { class: "wide small" }, h("span", {}, setting.Description.replaceAll("`", "")), h("div", { class: "muted" }, `Default ${setting.Default}${setting.Unit ? ` ${setting.Unit}` : ""}. Allowed: ${setting.Allowed}.`))))))));
  }

  return {
    title: "Settings",
    interval: 0,
    async load() {
      answer = await call("DescribeApplianceSettings");
    },
    view: () => {
      const words = filter.toLowerCase();
      const sections = new Map();
      for (const setting of answer.Settings) {
        if (words && !`${setting.Name} ${setting.Description}`.toLowerCase().includes(words)) continue;
        const name = setting.Name.includes(".") ? setting.Name.split(".")[0] : "";
        sections.set(name, [...(sections.get(name) ?? []), setting]);
      }
      return [
        h("div", { class: "head" }, h("div", {}, h("h1", {}, "Settings"), h("p", { class: "muted" }, `Capstan ${answer.Version}. As they are in effect; they are changed in the configuration file. Keys and tokens are not shown.`))),
        h("input", { type: "search", "aria-label": "Search settings", placeholder: "Search settings", value: filter, oninput: (event) => { filter = event.target.value; context.redraw(); } }),
        [...sections].map(([name, settings]) => section(name, settings)),
        h("p", { class: "muted small" }, answer.HlsPlayer ? ["HLS is played by hls.js, ", h("a", { href: "/console/vendor/hls.LICENSE" }, "its licence"), "."] : "This build has no player library: HLS is played by browsers that can by themselves. Build again where npm is, to have it everywhere."),
      ];
    },
  };
};
