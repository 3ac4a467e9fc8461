// The frame: login, navigation, and one page at a time that is brought up to date while somebody looks.

import { call, setLogin, whoAmI } from "./api.js";
import { h, morph } from "./dom.js";
import { icon } from "./widgets.js";
import callbacks from "./pages/callbacks.js";
import definitions from "./pages/definitions.js";
import login from "./pages/login.js";
import overview from "./pages/overview.js";
import processing from "./pages/processing.js";
import push from "./pages/push.js";
import recording from "./pages/recording.js";
import recordings from "./pages/recordings.js";
import rules from "./pages/rules.js";
import settings from "./pages/settings.js";
import tasks from "./pages/tasks.js";
import templates from "./pages/templates.js";
import watch from "./pages/watch.js";

const PAGES = [
  ["overview", "Overview", overview],
  ["recordings", "Recordings", recordings],
  ["tasks", "Tasks", tasks],
  ["templates", "Templates", templates],
  ["rules", "Rules", rules],
  ["processing", "Processing", processing],
  ["definitions", "Definitions", definitions],
  ["callbacks", "Callbacks", callbacks],
  ["push", "Push address", push],
  ["settings", "Settings", settings],
];

/** Pages that others lead to, and which of them is marked then. */
const BELOW = { recording: ["recordings", recording], watch: ["overview", watch] };

/** Actions without which a page has nothing to show. */
const NEEDS = { callbacks: "DescribeLiveCallbackTemplates", processing: "DescribeTasks", definitions: "DescribeTranscodeTemplates" };

const root = document.getElementById("app");
/** What the appliance says of itself: settings, actions, role. */
let about = null;
let page = null;
let turn = 0;

const theme = {
  get: () => localStorage.getItem("capstan.theme") ?? "auto",
  set(choice) {
    localStorage.setItem("capstan.theme", choice);
    document.documentElement.dataset.theme = choice;
  },
};
document.documentElement.dataset.theme = theme.get();

const has = (action) => about.Actions.includes(action);
const mayDelete = () => about.Role === "admin";
const mayChange = () => about.Role !== "reader";

function frame(name, content) {
  const shown = PAGES.filter(([key]) => !(key in NEEDS) || has(NEEDS[key]));
  const current = BELOW[name]?.[0] ?? name;
  const user = whoAmI();
  return h("div", { id: "app" }, h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); document.getElementById("main").focus(); } }, "Skip to content"),
    h("div", { class: "shell" },
      h("div", { class: "top" }, brand(),
        h("button", { class: "quiet", type: "button", "aria-label": "Menu", "aria-expanded": String(document.body.classList.contains("nav-open")), onclick: () => { document.body.classList.toggle("nav-open"); redraw(); } }, icon("menu"))),
      h("div", { class: "side" }, brand(),
        h("nav", { "aria-label": "Pages" }, shown.map(([key, title]) => h("a", { href: `#/${key}`, "aria-current": key === current ? "page" : null }, icon(key), title))),
        h("div", { class: "foot" },
          user && h("span", {}, user.kind === "key" ? `Logged in as ${user.id}` : "Logged in with a token", " (", about.Role, ")"),
          user && h("button", { type: "button", onclick: () => { setLogin(null); begin(); } }, "Log out"),
          h("label", { class: "field" }, "Colours",
            h("select", { onchange: (event) => theme.set(event.target.value) }, [["auto", "as the system"], ["light", "light"], ["dark", "dark"]].map(([value, text]) => h("option", { value, selected: theme.get() === value }, text)))),
          h("span", {}, `Capstan ${about.Version}`))),
      h("main", { class: "main", id: "main", tabindex: "-1" }, trouble(), content)));
}

/** What is shown is old, until the appliance answers again. */
const trouble = () => failing && h("div", { class: "notice bad spread", role: "alert" }, h("span", {}, failing, page.interval ? " What you see may be old; it is asked again." : ""),
  h("button", { type: "button", onclick: () => update(turn) }, "Try again"));

const brand = () => h("a", { class: "brand", href: "#/overview" }, h("img", { src: "/console/icon.svg", alt: "" }), "Capstan");

function draw(tree) {
  morph(root, tree);
}

function redraw() {
  if (page) draw(frame(page.name, page.view()));
}

/** Leaves the page before, shows the one that the address names, and keeps it up to date. */
async function show() {
  const mine = ++turn;
  page?.dispose?.();
  page = null;
  failing = null;
  // A question belongs to the page that asked it.
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  document.body.classList.remove("nav-open");
  const [, name = "overview", ...parts] = location.hash.split("/");
  const known = BELOW[name]?.[1] ?? PAGES.find(([key]) => key === name)?.[2];
  if (!known) {
    location.hash = "#/overview";
    return;
  }
  const context = { about, has, mayDelete, mayChange, parts: parts.map(decodeURIComponent), redraw: () => { if (mine === turn) redraw(); }, refresh: () => update(mine), failing: () => failing };
  page = { name, ...known(context) };
  // What belongs to the page before must not be taken over, however similar it looks.
  root.querySelector("main")?.replaceChildren();
  document.title = `${page.title} – Capstan`;
  window.scrollTo(0, 0);
  redraw();
  await update(mine);
  if (mine === turn) keep(mine);
}

/** The sentence of the error that the page met last; null while all goes well. */
let failing = null;
async function update(mine) {
  const current = page;
  try {
    await current.load();
    failing = null;
  } catch (error) {
    if (mine !== turn) return;
    if (error.isLogin) return ask(error);
    failing = error.code && error.code !== "Network" ? `${error.message} (${error.code})` : error.message;
  }
  if (mine === turn) redraw();
}

function keep(mine) {
  if (!page.interval) return;
  setTimeout(async () => {
    if (mine !== turn) return;
    if (!document.hidden) await update(mine);
    if (mine === turn) keep(mine);
  }, page.interval);
}

function ask(error) {
  turn++;
  page?.dispose?.();
  page = null;
  // That nobody has logged in yet is no news; that calls from here are not accepted without is.
  const form = login({ error: whoAmI() || error.code === "AuthFailure.UnauthorizedOperation" ? error : null, done: begin, draw: (tree) => draw(h("div", { id: "app" }, tree)) });
  root.replaceChildren();
  form();
}

async function begin() {
  try {
    about = await call("DescribeApplianceSettings");
  } catch (error) {
    if (error.isLogin) return ask(error);
    draw(h("div", { id: "app" }, h("div", { class: "login" }, brand(), h("p", { class: "notice bad" }, error.message), h("button", { type: "button", onclick: begin }, "Try again"))));
    return;
  }
  await show();
}

window.addEventListener("hashchange", () => (about ? show() : begin()));
document.addEventListener("visibilitychange", () => { if (!document.hidden && page?.interval) update(turn); });
begin();

