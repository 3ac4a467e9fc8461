// Elements, and bringing a tree up to date in place: focus, selection, scrolling and playing media stay.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "rect", "circle", "line", "polyline", "g"]);
const EVENTS = ["onclick", "onchange", "oninput", "onsubmit", "onkeydown"];

/** An element. `on...` take functions, `style` an object, `true` sets and `false` or null leaves an attribute out; children may be nested lists. */
export function h(tag, attributes, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (EVENTS.includes(name)) element[name] = value;
    else if (name === "style") for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
    else if (name === "value" && tag !== "option" && tag !== "progress" && tag !== "meter") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === "") continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const keyOf = (node) => node.dataset?.key ?? node.dataset?.keep ?? null;

/** Makes `old` look like `fresh`. What has the same `data-keep` in both stays as it is; `data-key` says which elements of a list are the same. */
export function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || keyOf(old) !== keyOf(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.dataset?.keep && old.dataset.keep === fresh.dataset.keep) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) {
    if (name === "style") old.style.cssText = value;
    else old.setAttribute(name, value);
  }
  for (const name of EVENTS) if (old[name] !== fresh[name]) old[name] = fresh[name];
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let cursor = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = keyOf(next);
    const known = key ? keyed.get(key) : cursor && !keyOf(cursor) && cursor.nodeName === next.nodeName ? cursor : null;
    if (!known || known.nodeName !== next.nodeName) {
      old.insertBefore(next, cursor);
      continue;
    }
    if (known === cursor) cursor = cursor.nextSibling;
    else old.insertBefore(known, cursor);
    morph(known, next);
  }
  while (cursor) {
    const gone = cursor;
    cursor = cursor.nextSibling;
    gone.remove();
  }
}
