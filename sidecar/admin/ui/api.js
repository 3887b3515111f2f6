// Client for the admin API: JSON requests with a time limit, problems as errors, the session's token, the event stream.

import { learnClock } from "./format.js";

const LIMIT_MS = 4000;
const SILENCE_MS = 40000; // the stream sends data at least every 15 s
const KEY = "sidecar.token";

let memory = null;
let ask = async () => false;

/** `asker` asks the user for a token. It resolves to false if the user cancels. */
export function onTokenWanted(asker) {
  ask = asker;
}

function token() {
  try { return sessionStorage.getItem(KEY) ?? memory; } catch { return memory; }
}

export function setToken(value) {
  memory = value;
  try { sessionStorage.setItem(KEY, value); } catch { /* storage is forbidden: the token stays in memory until the page closes */ }
}

/** An error response of the API: a problem document (RFC 9457), or another body. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `the API answered ${status}`);
    this.status = status;
    this.reason = body?.reason ?? null;
    this.errors = body?.errors ?? [];
  }
}

function headers(more = {}) {
  const bearer = token();
  return bearer ? { ...more, Authorization: `Bearer ${bearer}` } : more;
}

async function once(path, options) {
  const response = await fetch(path, {
    cache: "no-store",
    credentials: "omit",
    ...options,
    headers: headers(options.headers),
    signal: options.signal ? AbortSignal.any([options.signal, AbortSignal.timeout(LIMIT_MS)]) : AbortSignal.timeout(LIMIT_MS),
  });
  learnClock(response.headers.get("date"));
  const text = await response.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* not JSON; the status is enough */ }
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

let asking = null;

async function call(path, options) {
  for (;;) {
    try {
      return await once(path, options);
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      asking ??= ask(token() !== null).finally(() => { asking = null; });
      if (!(await asking)) throw error;
    }
  }
}

export const get = (path, signal) => call(path, { method: "GET", signal });

export const post = (path, body = {}) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const servicePath = (name) => `services/${encodeURIComponent(name)}`;

/** Reads Server-Sent Events until the stream ends; `onEvent` gets the data of each. EventSource cannot send a token. */
export async function stream(lastId, onEvent, signal) {
  const silence = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  heard();
  try {
    const more = { Accept: "text/event-stream" };
    if (lastId !== null) more["Last-Event-ID"] = String(lastId);
    const response = await fetch("events", {
      cache: "no-store", credentials: "omit", headers: headers(more), signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok) throw new Problem(response.status, null);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) onEvent(JSON.parse(data.join("\n")));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
