// The Action API as everybody calls it: JSON by POST, signed (TC3-HMAC-SHA256) or with a bearer token where somebody has logged in.

import { hex, hmacSha256, sha256 } from "./digest.js";

const LIVE = "2018-08-01";
const VOD = "2018-07-17";
const VOD_ACTIONS = new Set(
  ("SearchMedia DescribeMediaInfos ModifyMediaInfo DeleteMedia DescribeRecordingReceipt DescribeSubAppIds DescribeAllClass CreateClass EditMedia SimpleHlsClip " +
    "LiveRealTimeClip DescribeTasks DescribeTaskDetail DescribeEventConfig ModifyEventConfig ProcessMedia ProcessMediaByProcedure DescribeProcedureTemplates " +
    "ManageTask CreateProcedureTemplate ResetProcedureTemplate DeleteProcedureTemplate").split(" "),
);
const KINDS = ["Transcode", "AdaptiveDynamicStreaming", "SnapshotByTimeOffset", "SampleSnapshot", "ImageSprite", "AnimatedGraphics"];
for (const kind of KINDS) for (const action of [`Create${kind}Template`, `Describe${kind}Templates`, `Modify${kind}Template`, `Delete${kind}Template`]) VOD_ACTIONS.add(action);

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
  /** Somebody has to log in (again). */
  get isLogin() {
    return this.code.startsWith("AuthFailure") && !(this.code === "AuthFailure.UnauthorizedOperation" && /role/.test(this.message));
  }
}

// For this tab and until it is closed; nobody else can read it.
const STORE = "capstan.login";
let login = JSON.parse(sessionStorage.getItem(STORE) ?? "null");

/** `{kind: "key", id, key}`, `{kind: "token", token}`, or null. */
export const whoAmI = () => login;

export function setLogin(next) {
  login = next;
  if (next) sessionStorage.setItem(STORE, JSON.stringify(next));
  else sessionStorage.removeItem(STORE);
}

async function authorization(body, seconds) {
  if (login === null) return null;
  if (login.kind === "token") return `Bearer ${login.token}`;
  const date = new Date(seconds * 1000).toISOString().slice(0, 10);
  const canonical = ["POST", "/", "", "content-type:application/json", `host:${location.host}`, "", "content-type;host", hex(await sha256(body))].join("\n");
  const toSign = ["TC3-HMAC-SHA256", seconds, `${date}/live/tc3_request`, hex(await sha256(canonical))].join("\n");
  let key = `TC3${login.key}`;
  for (const part of [date, "live", "tc3_request"]) key = await hmacSha256(key, part);
  const signature = hex(await hmacSha256(key, toSign));
  return `TC3-HMAC-SHA256 Credential=${login.id}/${date}/live/tc3_request, SignedHeaders=content-type;host, Signature=${signature}`;
}

// The clock of a browser may be off by more than a signature forgives: what the appliance answers says by how much.
let clockOff = 0;

/** The answer's fields; throws [`ApiError`]. */
export async function call(action, parameters = {}) {
  const body = JSON.stringify(parameters);
  const seconds = Math.floor(Date.now() / 1000 + clockOff);
  const headers = {
    "Content-Type": "application/json",
    "X-TC-Action": action,
    "X-TC-Version": VOD_ACTIONS.has(action) ? VOD : LIVE,
    "X-TC-Timestamp": String(seconds),
  };
  const proof = await authorization(body, seconds);
  if (proof) headers.Authorization = proof;
  let response;
  try {
    response = await fetch("/", { method: "POST", headers, body, cache: "no-store" });
  } catch {
    throw new ApiError("Network", "The appliance does not answer.");
  }
  let answer;
  try {
    answer = (await response.json()).Response;
  } catch {
    throw new ApiError("Network", `The appliance answered with HTTP ${response.status}.`);
  }
  if (answer.Error) {
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (answer.Error.Code === "AuthFailure.SignatureExpire" && date && Math.abs(clockOff - (date - Date.now()) / 1000) > 60) {
      clockOff = (date - Date.now()) / 1000;
      return call(action, parameters);
    }
    throw new ApiError(answer.Error.Code, answer.Error.Message);
  }
  return answer;
}

/** Samples of /metrics by name: `[{labels, value}]`. */
export async function metrics() {
  const samples = new Map();
  const answer = await fetch("/metrics", { cache: "no-store" });
  for (const line of (await answer.text()).split("\n")) {
    const found = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    if (!samples.has(found[1])) samples.set(found[1], []);
    samples.get(found[1]).push({ labels, value: Number(found[3]) });
  }
  return samples;
}

/** `{ok, state}` of /healthz. */
export async function health() {
  const answer = await fetch("/healthz", { cache: "no-store" });
  return { ok: answer.ok, state: await answer.json().catch(() => ({})) };
}

/** An address of a file as this browser reaches it: where the appliance names an address of its own machine, files come from where this page came from. */
export function reachable(address) {
  const url = new URL(address, location.href);
  const own = ["127.0.0.1", "0.0.0.0", "localhost", "[::1]", "[::]"];
  if (own.includes(url.hostname) && url.hostname !== location.hostname) {
    return location.origin + url.pathname + url.search;
  }
  return url.href;
}
