import { call, reachable } from "../api.js";
import { h } from "../dom.js";
import { bytes, duration, moment, number } from "../format.js";
import { badge, complain, dialog, empty, table, toast } from "../widgets.js";
import { readQuery } from "../query.js";
import { liveAddress, watchPage } from "./watch.js";

const PAGE = 30;
const HITS_MAX = 5000;

/** When it was recorded: `[begin, end]` as Dates. */
export function timesOf(media) {
  const info = media.BasicInfo.SourceInfo?.LiveRecordInfo;
  const end = new Date(info?.RecordEndTime || media.BasicInfo.CreateTime);
  return [new Date(info?.RecordStartTime || end - (media.MetaData?.Duration ?? 0) * 1000), end];
}

export const formatOf = (media) => media.MetaData?.Container ?? media.BasicInfo.Type;

export function thumb(media) {
  const cover = media.BasicInfo.CoverUrl;
  return cover ? h("img", { class: "thumb", src: reachable(cover), alt: "", loading: "lazy" }) : h("span", { class: "thumb", "aria-hidden": "true" }, formatOf(media).toUpperCase());
}

export default (context) => {
  let text = context.parts[0] ?? "";
  let [found, total, offset, seen, timer] = [null, 0, 0, 0, null];
  const chosen = new Set();
  let live = [];

  /** From `offset` on, until a page is full: what does not overlap the time asked for is left out here. */
  async function more() {
    const { parameters, from, to } = readQuery(text);
    const order = parameters.Text ? {} : { Sort: { Field: "CreateTime", Order: from ? "Asc" : "Desc" } };
    const page = [];
    do {
      const answer = await call("SearchMedia", { ...parameters, ...order, Offset: offset, Limit: PAGE });
      [total, offset] = [answer.TotalCount, offset + answer.MediaInfoSet.length];
      const hits = answer.MediaInfoSet.filter((media) => !to || timesOf(media)[0] < to);
      page.push(...hits);
      if (!answer.MediaInfoSet.length) break;
      // Files of the time end soon after it; the first that begins a day later ends the search.
      if (to && timesOf(answer.MediaInfoSet.at(-1))[0] - to > 86400e3) { offset = total; break; }
    } while (page.length < PAGE && offset < Math.min(total, HITS_MAX - PAGE));
    return page;
  }

  async function search() {
    offset = 0;
    found = await more();
    seen = found.length;
  }

  async function load() {
    // While somebody has loaded more pages, the first is not pulled away.
    if (found && seen > PAGE) return;
    await search();
    live = (await call("DescribeApplianceState", { PageSize: 1000 })).Streams.filter((stream) => stream.Recordings.length);
  }

  function typed(event) {
    text = event.target.value;
    history.replaceState(null, "", `#/recordings/${encodeURIComponent(text)}`);
    clearTimeout(timer);
    timer = setTimeout(() => search().then(context.redraw, complain), 250);
    context.redraw();
  }

  async function remove() {
    const ids = [...chosen];
    const done = await dialog({ title: `Delete ${ids.length} recording${ids.length === 1 ? "" : "s"}?`, body: h("p", { class: "muted" }, "The files leave the disk. There is no way back."), button: "Delete", kind: "danger", size: "small", submit: async () => {
      for (const FileId of ids) {
        await call("DeleteMedia", { FileId });
        chosen.delete(FileId);
      }
      return true;
    } });
    await search().catch(complain);
    if (done) toast("Deleted.");
    context.redraw();
  }

  const columns = [
    ...(context.mayDelete() ? [["", (media) => h("input", { type: "checkbox", "aria-label": `Choose ${media.BasicInfo.Name}`, checked: chosen.has(media.FileId), onchange: (event) => { event.target.checked ? chosen.add(media.FileId) : chosen.delete(media.FileId); context.redraw(); } }), { label: false }]] : []),
    ["Recording", (media) => h("a", { class: "media-cell", href: `#/recording/${media.FileId}` }, thumb(media), h("span", {}, h("span", { class: "title break" }, media.BasicInfo.Name), h("span", { class: "muted small break" }, sourceOf(media)))), { label: false, wide: true }],
    ["Format", (media) => badge(formatOf(media).toUpperCase(), "accent")],
    ["Recorded", (media) => { const [begin, end] = timesOf(media); return h("span", { class: "num", title: `${moment(begin)} to ${moment(end)}` }, moment(begin)); }],
    ["Duration", (media) => h("span", { class: "num" }, duration(media.MetaData?.Duration)), { right: true }],
    ["Size", (media) => h("span", { class: "num nowrap" }, bytes(media.MetaData?.Size)), { right: true }],
  ];

  function sourceOf(media) {
    const info = media.BasicInfo.SourceInfo?.LiveRecordInfo;
    const tags = media.BasicInfo.TagSet?.length ? ` · ${media.BasicInfo.TagSet.join(", ")}` : "";
    return (info ? `${info.Domain}/${info.Path}/${info.StreamId}` : media.BasicInfo.SourceInfo?.SourceType ?? "") + tags;
  }

  function understood() {
    const query = readQuery(text);
    const chips = query.understood.map(([what, value]) => badge(`${what}: ${value}`, "accent"));
    if (query.from || query.to) chips.push(badge(`recorded ${query.from ? `from ${moment(query.from)}` : ""}${query.to ? ` to ${moment(query.to)}` : ""}`, "accent"));
    return h("div", { class: "chips small" }, chips.length ? chips : h("span", { class: "muted" }, "Try ", ["today", "mp4", "last 2h", "yesterday 14:00-15:30", "stream:NAME", "tag:NAME"].flatMap((word, index) => [index ? ", " : "", h("code", {}, word)])));
  }

  return {
    title: "Recordings",
    interval: 5000,
    load,
    dispose: () => clearTimeout(timer),
    view: () => [
      h("div", { class: "head" }, h("h1", {}, "Recordings"),
        h("div", { class: "actions" },
          found && h("span", { class: "muted num" }, `${number(Math.min(total, HITS_MAX))}${total >= HITS_MAX ? " or more" : ""} found`),
          chosen.size > 0 && h("button", { class: "danger", type: "button", onclick: remove }, `Delete ${chosen.size}`))),
      h("div", { class: "stack", style: { gap: "8px" } },
        h("div", { class: "searchbar", role: "search" }, h("input", { type: "search", "aria-label": "Search recordings", placeholder: "Stream, name, format or time", value: text, oninput: typed, spellcheck: "false", autocapitalize: "off" })),
        understood()),
      live.length > 0 && !text && h("p", { class: "muted small" }, `Being recorded now: `, live.slice(0, 8).flatMap((stream, index) => [index ? ", " : "", h("a", { class: "break", href: liveAddress(stream) ? watchPage(stream) : "#/overview" }, stream.StreamName)]), live.length > 8 ? ` and ${live.length - 8} more` : "", ". A file appears here when it is complete."),
      found && h("section", { class: "card flush" },
        found.length ? table(columns, found, (media) => media.FileId) : empty(text ? "Nothing fits" : "Nothing is recorded yet", text ? "Take a word out, or look at another time." : "A file appears when a stream ends or the interval of its template has passed."),
        found.length > 0 && offset < Math.min(total, HITS_MAX - PAGE) && h("div", { class: "row", style: { padding: "12px 18px" } }, h("button", { type: "button", onclick: async () => { try { found.push(...(await more())); seen = found.length; context.redraw(); } catch (error) { complain(error); } } }, "Show more"))),
    ],
  };
};
