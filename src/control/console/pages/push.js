import { call } from "../api.js";
import { hex, sha256 } from "../digest.js";
import { h } from "../dom.js";
import { moment } from "../format.js";
import { qr } from "../qr.js";
import { badge, complain, copyable, datalist, dialog, field, select, sure, table, toast } from "../widgets.js";

const LIVES = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"], ["31536000", "1 year"]];

/** A call for each of them. */
const KEYS_READ_MAX = 40;

export default (context) => {
  const [address, port] = /^(.*):(\d+)$/.exec(context.about.RtmpListen).slice(1);
  const host = /^(0\.0\.0\.0|\[::\]|127\..*|\[::1\])$/.test(address) ? location.hostname : address;
  let domains = [];
  let form = { domain: context.about.DefaultDomain, app: "live", stream: "camera-1", life: "86400", extra: "" };
  let [made, wrong] = [null, null];
  // Which domains ask for signatures; null where the caller's role may not see it.
  const signed = new Map();

  async function load() {
    domains = [];
    for (let page = 1; ; page++) {
      const answer = await call("DescribeLiveDomains", { DomainType: 0, PageSize: 100, PageNum: page });
      domains.push(...answer.DomainList);
      if (!answer.DomainList.length || domains.length >= answer.AllCount) break;
    }
    for (const { Name } of domains.slice(0, KEYS_READ_MAX)) {
      signed.set(Name, await call("DescribeLivePushAuthKey", { DomainName: Name }).then((answer) => Boolean(answer.PushAuthKeyInfo.Enable), () => null));
    }
    await build();
  }

  /** The key with which addresses of the domain are signed; null if they need no signature. */
  async function keyOf(domain) {
    if (!domains.some((known) => known.Name === domain)) return null;
    const { PushAuthKeyInfo } = await call("DescribeLivePushAuthKey", { DomainName: domain });
    return PushAuthKeyInfo.Enable ? PushAuthKeyInfo.MasterAuthKey : null;
  }

  async function build() {
    const { domain, app, stream, life } = form;
    [wrong, made] = [null, null];
    if (!domain || !app || !stream) return;
    try {
      const parameters = [];
      // The domain stands in the host of the address, or, where publishers reach us by another name, beside the stream.
      const byAddress = /^[\d.]+$|^\[|^localhost$/.test(host);
      if (domain !== host && !(byAddress && domain === context.about.DefaultDomain)) parameters.push(`vhost=${encodeURIComponent(domain)}`);
      const key = await keyOf(domain);
      let until = null;
      if (key !== null) {
        until = Math.floor(Date.now() / 1000) + Number(life);
        const time = until.toString(16).toUpperCase().padStart(8, "0");
        parameters.push(`txSecret=${hex(await sha256(key + stream + time))}`, `txTime=${time}`);
      }
      if (form.extra) parameters.push(form.extra.replace(/^[?&]+/, ""));
      const path = (text) => encodeURIComponent(text).replaceAll("%2F", "/");
      const server = `rtmp://${host}${port === "1935" ? "" : `:${port}`}/${path(app)}`;
      const streamKey = path(stream) + (parameters.length ? `?${parameters.join("&")}` : "");
      made = { server, streamKey, url: `${server}/${streamKey}`, until };
    } catch (error) {
      wrong = error.message;
    }
  }

  async function changed(event) {
    form = { ...form, [event.target.name]: event.target.value.trim() };
    await build();
    context.redraw();
  }

  async function addDomain() {
    const done = await dialog({ title: "New push domain", size: "small", body: field("Domain", h("input", { name: "DomainName", required: true, autofocus: true, spellcheck: "false", autocapitalize: "off" })), button: "Add", submit: ({ DomainName }) => call("AddLiveDomain", { DomainName, DomainType: 0 }) });
    if (done) context.refresh();
  }

  async function sign(domain, Enable) {
    try {
      await call("ModifyLivePushAuthKey", { DomainName: domain.Name, Enable });
      toast(Enable ? "Push addresses of the domain need a signature now." : "Anybody may push to the domain now.");
      context.refresh();
    } catch (error) {
      complain(error);
    }
  }

  async function forbid(domain) {
    const now = domain.Status === 1;
    const act = () => call(now ? "ForbidLiveDomain" : "EnableLiveDomain", { DomainName: domain.Name });
    const done = now ? await sure(`Forbid ${domain.Name}?`, "What is published on it ends, and new publications are refused.", "Forbid", act) : await act().catch(complain);
    if (done) context.refresh();
  }

  async function remove(domain) {
    if (await sure(`Delete ${domain.Name}?`, "Its key goes too: publishers need no signature for it any more. Rules stay.", "Delete", () => call("DeleteLiveDomain", { DomainName: domain.Name, DomainType: 0 }))) context.refresh();
  }

  const columns = [
    ["Domain", (domain) => h("span", { class: "title break" }, domain.Name), { label: false }],
    ["State", (domain) => (domain.Status === 1 ? badge("open", "good") : badge("forbidden", "bad"))],
    ["Signatures", (domain) => (signed.get(domain.Name) === true ? badge("asked for", "good") : signed.get(domain.Name) === false ? badge("not asked for", "warn") : h("span", { class: "muted" }, "–"))],
    ["Since", (domain) => h("span", { class: "muted nowrap" }, domain.CreateTime.slice(0, 10))],
    ["", (domain) => h("div", { class: "row" },
      context.mayChange() && signed.get(domain.Name) !== true && h("button", { class: "quiet", type: "button", onclick: () => sign(domain, 1) }, "Ask for signatures"),
      context.mayChange() && signed.get(domain.Name) !== false && h("button", { class: "quiet", type: "button", onclick: () => sign(domain, 0) }, "Ask for none"),
      context.mayChange() && h("button", { class: "quiet", type: "button", onclick: () => forbid(domain) }, domain.Status === 1 ? "Forbid" : "Allow"),
      context.mayDelete() && h("button", { class: "quiet danger", type: "button", onclick: () => remove(domain) }, "Delete")), { right: true, wide: true }],
  ];

  function result() {
    if (wrong) return h("p", { class: "notice bad" }, wrong);
    if (!made) return h("p", { class: "muted" }, "Name a domain, an app and a stream.");
    const part = (label, text, more) => h("div", { class: "stack", style: { gap: "4px" } }, h("span", { class: "muted small" }, label), copyable(text, `Copy ${label}`), more);
    return h("div", { class: "columns" },
      h("div", { class: "stack" },
        part("Address", made.url),
        part("OBS: server", made.server), part("OBS: stream key", made.streamKey),
        part("ffmpeg", `ffmpeg -re -i FILE -c copy -f flv '${made.url}'`),
        h("p", { class: "small muted" }, made.until ? `Signed; publishing may begin until ${moment(made.until)}.` : "Not signed: this domain asks for none.")),
      h("div", { class: "stack" }, h("span", { class: "muted small" }, "For an encoder on a phone"), h("div", { class: "qr" }, qr(made.url))));
  }

  return {
    title: "Push address",
    interval: 0,
    load,
    view: () => [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Push address"), h("p", { class: "muted" }, "What an encoder needs to publish a stream here."))),
      h("section", { class: "card stack" },
        h("form", { class: "grid", onsubmit: (event) => event.preventDefault() },
          field("Domain", h("input", { name: "domain", value: form.domain, list: "domains", oninput: changed, spellcheck: "false", autocapitalize: "off" })),
          field("App", h("input", { name: "app", value: form.app, oninput: changed, spellcheck: "false", autocapitalize: "off" })),
          field("Stream", h("input", { name: "stream", value: form.stream, oninput: changed, spellcheck: "false", autocapitalize: "off" })),
          field("Good for", select("life", LIVES, form.life, { onchange: changed })),
          field("More parameters", h("input", { name: "extra", value: form.extra, oninput: changed, placeholder: "a=b&c=d", spellcheck: "false", autocapitalize: "off" }))),
        datalist("domains", [context.about.DefaultDomain, ...domains.map((domain) => domain.Name)]),
        result()),
      h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Push domains"), context.mayChange() && h("button", { type: "button", onclick: addDomain }, "Add a domain")),
        domains.length ? table(columns, domains, (domain) => domain.Name) : h("p", { class: "muted", style: { padding: "0 18px 16px" } }, "None was added. A domain that is added can be protected by signatures and forbidden.")),
    ],
  };
};
