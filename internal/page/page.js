// The page. It is served by the API it uses.
import { DownloadError, cancel, download, follow, randomKey } from "./client.js";

const api = location.origin + location.pathname.replace(/\/*$/, "/");

/** What a caller must show: NONE, API_KEY, JWT or IAM, the stack's ApiAuth. */
const auth = document.documentElement.dataset.auth ?? "NONE";

/**
 * @typedef {"idle" | "locked" | "asking" | "copying" | "cancelling" | "ready" | "failed" | "cancelled"} Phase
 *   locked: a download that continues when the credentials have been entered again
 *
 * @typedef {object} Kept what a reload needs; in this tab only, and never the signed URL
 * @property {string} path as entered
 * @property {string} key of this attempt, so that asking again starts no second copy
 * @property {string} hash of the page's address when it was started
 * @property {import("./client.js").Job} [job]
 * @property {boolean} [cancelled] whether Cancel was pressed
 * @property {boolean} [saved] whether the browser has been given the file
 * @property {boolean} [over] whether there is nothing to continue
 */

const advice = /** @type {Record<string, string>} */ ({
  ORIGIN_UNREACHABLE: "The file server may be down. Try again later.",
  ORIGIN_CHANGED: "Try again to get the new version.",
  ORIGIN_TRUNCATED: "Try again. If it happens again, the file server has a problem with this file.",
  ORIGIN_TOO_SLOW: "Try again when the file server is less busy. If it happens again, contact the people who run this service.",
  TOO_LARGE: "The people who run this service can raise the limit (MaxFileBytes).",
  BLOCKED_ADDRESS: "The people who run this service have to allow the file server’s address (OriginIsPrivate) or the host it redirects to (OriginRedirectHosts).",
  DIGEST_MISMATCH: "Try again. If it happens again, the file is damaged on the file server.",
  EXPIRED: "The copy is no longer kept. Start the download again.",
  NOT_FOUND: "The service no longer knows this download. Start it again.",
  INVALID_PATH: "Enter the part after the file server’s address, such as reports/2026.pdf, without a server name and without “..”. The service may also allow only some folders.",
  THROTTLED: "Many downloads are being started. Try again in a minute.",
  UNREACHABLE: "Check your connection and try again.",
});

/** @param {string} code @param {string} message */
function adviceFor(code, message) {
  if (code === "UNAUTHORIZED" && auth === "JWT") return "Enter a token that is valid for this service, then try again.";
  if (code === "UNAUTHORIZED" && auth === "API_KEY") return "Enter a key that is valid for this service, then try again.";
  if (code === "UNAUTHORIZED") return "This service doesn’t let this page in. Contact the people who run it.";
  if (code !== "ORIGIN_STATUS") return advice[code] ?? "Try again. If it happens again, contact the people who run this service.";
  const status = Number(/\b[1-5]\d\d\b/.exec(message)?.[0]);
  if (status === 401 || status === 403) return "The file server doesn’t allow access to this file. Check the path, or ask the people who run this service for access.";
  if (status === 404 || status === 410) return "There is no such file. Check the path; upper and lower case may matter.";
  if (status === 408 || status === 429 || status >= 500) return "The file server has a problem. Try again in a few minutes.";
  return "The file server doesn’t accept this request. Check the path and what follows its question mark.";
}

const lines = {
  live: "",
  polling: "No live connection, so progress arrives every few seconds.",
  lost: "Connection lost, trying again. The copy continues.",
  offline: "You’re offline. The copy continues, and this page reconnects when you’re back online.",
};

/**
 * The elements by id.
 *
 * @type {{
 *   form: HTMLFormElement, path: HTMLInputElement, start: HTMLButtonElement,
 *   credential: HTMLElement, credentialLabel: HTMLElement, secret: HTMLInputElement, unsigned: HTMLElement,
 *   job: HTMLElement, title: HTMLElement, what: HTMLElement, copying: HTMLElement, percent: HTMLElement,
 *   progress: HTMLProgressElement, bytes: HTMLElement, pace: HTMLElement, line: HTMLElement, note: HTMLElement,
 *   message: HTMLElement, advice: HTMLElement, save: HTMLAnchorElement, copy: HTMLButtonElement,
 *   again: HTMLButtonElement, cancel: HTMLButtonElement, live: HTMLElement,
 * }}
 */
const page = /** @type {any} */ (Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element])));

// Where the browser stores nothing (cookies blocked), only continuing after a reload is lost.
const storage = {
  key: "download " + api,
  /** @returns {Kept | null} */
  read() {
    try { return JSON.parse(sessionStorage.getItem(this.key) ?? "null"); } catch { return null; }
  },
  /** @param {Kept} kept */
  write(kept) {
    try { sessionStorage.setItem(this.key, JSON.stringify(kept)); } catch { /* as above */ }
  },
};

/** The rate of a copy, from its bytes as they pass. */
class Pace {
  constructor() {
    /** @type {{at: number, bytes: number}[]} of the last 10 seconds, and the one before them */
    this.samples = [];
  }

  /** @param {number} bytes copied in all @param {number} at when, in milliseconds */
  add(bytes, at) {
    this.samples.push({ at, bytes });
    while (this.samples.length > 2 && at - this.samples[1].at >= 10_000) this.samples.shift();
  }

  /**
   * Bytes per second; 0 while nobody knows: before there are 4 seconds to judge by, and after 10 without news.
   *
   * @param {number} now in milliseconds
   */
  rate(now) {
    const first = this.samples[0], last = this.samples.at(-1);
    if (!first || !last || now - last.at > 10_000 || last.at - first.at < 4_000) return 0;
    return (last.bytes - first.bytes) / (last.at - first.at) * 1_000;
  }
}

const view = {
  phase: /** @type {Phase} */ ("idle"),
  copied: 0,
  total: /** @type {number | null} */ (null),
  pace: new Pace(),
  line: /** @type {import("./client.js").Connection} */ ("live"),
  link: /** @type {import("./client.js").CopiedFile | null} */ (null),
  since: 0, // when the link came
  error: /** @type {{code: string, message: string} | null} */ (null),
  note: "",
};
let running = new AbortController();
let kept = attempt("");

/** @param {string} path @returns {Kept} */
function attempt(path) {
  return { path, key: randomKey(), hash: location.hash };
}

/** @param {Partial<Kept>} change */
function keep(change) {
  kept = { ...kept, ...change };
  storage.write(kept);
}

/** Header of the credentials, which are kept in their field and nowhere else. @returns {Record<string, string>} */
function headers() {
  const secret = page.secret.value.trim();
  if (auth === "API_KEY") return { "X-Api-Key": secret };
  if (auth === "JWT") return { Authorization: `Bearer ${secret.replace(/^Bearer\s+/i, "")}` };
  return {};
}

/** Starts a download, or continues it. @param {Kept} start */
async function run(start) {
  kept = start;
  keep({});
  running = new AbortController();
  show({ phase: kept.job ? "copying" : "asking", copied: 0, total: null, pace: new Pace(), line: "live", link: null, error: null, note: "" });
  const options = {
    headers: headers(),
    signal: running.signal,
    /** @param {{bytesCopied: number, bytesTotal: number | null}} progress */
    onProgress({ bytesCopied, bytesTotal }) {
      view.pace.add(bytesCopied, Date.now());
      show({ copied: bytesCopied, total: bytesTotal });
    },
    /** @param {import("./client.js").Connection} line */
    onConnection(line) {
      show({ line });
    },
  };
  /** @param {import("./client.js").Job} job */
  const onStart = (job) => {
    keep({ job });
    show({ phase: "copying", line: "live" });
  };
  const tick = setInterval(() => show({}), 1_000); // a rate without news goes
  try {
    const link = await (kept.job ? follow(kept.job, options) : download(api, kept.path, { onStart, idempotencyKey: kept.key, ...options }));
    show({ phase: "ready", link, since: performance.now(), note: kept.cancelled && !kept.saved ? "Not cancelled: the copy was finished first. Nothing was saved." : "" });
    if (!kept.saved && !kept.cancelled) page.save.click();
  } catch (error) {
    fail(error);
  } finally {
    clearInterval(tick);
  }
}

/** @param {unknown} error */
function fail(error) {
  const expected = error instanceof DownloadError;
  // Of a file that Cancel has deleted, the service knows nothing any more.
  const cancelled = running.signal.aborted || expected && (error.code === "CANCELLED" || !!kept.cancelled && ["EXPIRED", "NOT_FOUND"].includes(error.code));
  if (!cancelled && !expected) console.error(error);
  const { code, message } = expected ? error : { code: "INTERNAL", message: "this page has a bug; the browser’s console shows it" };
  // Where the answer was lost or the credentials refused, the copy may be under way.
  keep({ over: cancelled || !(code === "UNREACHABLE" || code === "UNAUTHORIZED" || code === "INTERNAL" && !kept.job) });
  show({ phase: cancelled ? "cancelled" : "failed", note: "", error: { code, message } });
}

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (busy()) return;
  const path = page.path.value.trim();
  run(view.phase === "locked" && path === kept.path ? kept : attempt(path));
});
page.again.addEventListener("click", () => {
  run(kept.over ? attempt(kept.path) : { ...kept, cancelled: false });
});
page.cancel.addEventListener("click", async () => {
  if (view.phase === "asking") return running.abort(); // a copy that has been started ends without a client
  if (view.phase !== "copying" || !kept.job) return;
  keep({ cancelled: true });
  show({ phase: "cancelling", note: "" });
  try {
    await cancel(kept.job, { headers: headers(), signal: running.signal });
  } catch (error) {
    // Too late, or not reached. follow() brings what happens next, if it hasn't already.
    const message = error instanceof DownloadError ? error.message : "";
    if (/** @type {Phase} */ (view.phase) === "cancelling") show({ phase: "copying", note: `Not cancelled: ${message}` });
  }
});
page.save.addEventListener("click", async (event) => {
  keep({ saved: true });
  if (fresh()) return; // the browser follows the link
  event.preventDefault();
  await renew();
  if (view.phase === "ready") page.save.click();
});
page.copy.addEventListener("click", async () => {
  const link = (async () => {
    if (!fresh()) await renew();
    if (!view.link) throw new Error("no link");
    return new Blob([view.link.url], { type: "text/plain" });
  })();
  try {
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": link })]); // a promise, since Safari allows no wait before the call
    show({ note: "Link copied." });
  } catch {
    if (view.phase === "ready") show({ note: "The browser doesn’t allow this page to copy. Use the context menu of “Save the file”." });
  }
});
addEventListener("hashchange", fill);

/** Whether the link has just come, and so works. This computer's clock may not know what is left of an older one. */
function fresh() {
  return performance.now() - view.since < 1_000;
}

/** Asks for a fresh link. */
async function renew() {
  if (!kept.job) return;
  const note = "Asking for a fresh link…";
  show({ note });
  try {
    const link = await follow(kept.job, { headers: headers(), onConnection: (line) => show({ note: lines[line] || note }) });
    show({ link, since: performance.now(), note: "" });
  } catch (error) {
    fail(error);
  }
}

/** Takes the path from the page's address: …#reports/2026.pdf */
function fill() {
  if (!busy() && location.hash.length > 1) page.path.value = location.hash.slice(1);
}

function busy() {
  return ["asking", "copying", "cancelling"].includes(view.phase);
}

/** Changes the view and draws it. @param {Partial<typeof view>} change */
function show(change) {
  const before = { ...view, title: page.title.textContent };
  const focused = document.activeElement;
  Object.assign(view, change);
  const { phase, copied, total, link, error } = view;
  const name = link?.fileName || fileName(kept.path);
  const part = copied && total ? copied / total : null; // before the first bytes the bar only moves
  const rate = view.line === "lost" || view.line === "offline" ? 0 : view.pace.rate(Date.now());

  page.start.setAttribute("aria-disabled", String(busy()));
  page.path.readOnly = page.secret.readOnly = busy();
  page.job.hidden = phase === "idle";
  page.job.dataset.phase = phase;
  page.title.textContent = {
    idle: "", locked: "Not finished yet", asking: "Starting…", copying: copied || total !== null ? `Copying ${name}…` : "Waiting for the file server…",
    cancelling: "Cancelling…", ready: `Ready: ${name}`, failed: "The download failed", cancelled: "The download was cancelled",
  }[phase];
  text(page.what, phase === "ready" && link ? facts(link) : kept.path || "the file server’s address itself");

  page.copying.hidden = !busy();
  if (part === null) page.progress.removeAttribute("value");
  else page.progress.value = part;
  page.percent.textContent = part === null ? "" : percent(part);
  page.bytes.textContent = total !== null ? `${bytes(copied)} of ${bytes(total)}` : copied ? bytes(copied) : "";
  page.pace.textContent = [rate > 0 && `${bytes(rate)}/s`, rate > 0 && total !== null && total > copied && `${duration((total - copied) / rate)} left`].filter(Boolean).join(" · ");

  text(page.line, busy() ? connection() : "");
  text(page.note, view.note);
  page.message.textContent = "";
  if (phase === "failed" && error) page.message.append(tag("code", error.code), ` ${error.message}`);
  if (phase === "ready" && !view.note) page.message.append(kept.saved ? "The file is kept for a while; you can save it again." : "Your browser saves it now. If it doesn’t, save it here.");
  if (phase === "locked") page.message.append(`Enter the ${auth === "JWT" ? "token" : "key"} again and press Download to continue. This page doesn’t store it.`);
  page.message.hidden = !page.message.textContent;
  text(page.advice, phase === "failed" && error ? adviceFor(error.code, error.message) : "");

  page.save.hidden = page.copy.hidden = phase !== "ready";
  if (link) page.save.href = link.url;
  else page.save.removeAttribute("href");
  page.again.hidden = phase !== "failed" && phase !== "cancelled";
  page.cancel.hidden = !busy();
  page.cancel.setAttribute("aria-disabled", String(phase === "cancelling"));
  const state = { copying: part ? percent(part) : "Copying", ready: "Ready", failed: "Failed", cancelled: "Cancelled" }[/** @type {string} */ (phase)] ?? "Download";
  document.title = phase === "idle" ? "Download a file" : `${state} – ${name}`;

  announce(before, part);
  // At a high zoom the form fills the screen.
  if (phase !== before.phase && phase !== "idle") for (const element of [page.job, page.title]) element.scrollIntoView({ block: "nearest" });
  if (view.note && view.note !== before.note) page.note.scrollIntoView({ block: "nearest" });
  // A control that had the focus and is gone would send it back to the top of the page.
  if (focused instanceof HTMLElement && focused.hidden) page.title.focus();
}

function connection() {
  if (view.phase === "asking" && view.line === "offline") return "You’re offline. The download starts when you’re back online.";
  if (view.phase === "asking" && view.line === "lost") return "Connection lost, trying again.";
  return lines[view.line];
}

let announced = { at: 0, part: /** @type {number | null} */ (0) };

/**
 * Announces every change of the state to screen readers, and progress every 15 seconds at most.
 *
 * @param {typeof view & {title: string | null}} before
 * @param {number | null} part
 */
function announce(before, part) {
  const { phase, line, note } = view;
  if (note && note !== before.note) return say([page.title.textContent, note].join(". "));
  if (phase !== before.phase || page.title.textContent !== before.title) {
    announced = { at: Date.now(), part };
    return say([page.title.textContent, ...(phase === "failed" || phase === "locked" ? [page.message.textContent, page.advice.textContent] : [])].filter(Boolean).join(". "));
  }
  if (busy() && line !== before.line) return say(connection() || "The connection is back.");
  if (phase !== "copying" || Date.now() - announced.at < 15_000 || part === announced.part) return;
  announced = { at: Date.now(), part };
  say(part === null ? `${page.bytes.textContent} copied` : [`${page.percent.textContent} copied`, page.pace.textContent].filter(Boolean).join(", "));
}

/** @param {string} what */
function say(what) {
  page.live.textContent = what;
}

/** @param {import("./client.js").CopiedFile} link */
function facts({ size, expiresAt, verified }) {
  const until = new Date(expiresAt).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return [bytes(size), `the link works until ${until}, for anyone who has it`, !verified && "the file server didn’t say how long the file is, so it may be incomplete"].filter(Boolean).join(" · ");
}

/** The last segment of a path, as a person reads it. @param {string} path */
function fileName(path) {
  const last = path.split("?")[0].replace(/\/+$/, "").split("/").at(-1) || "the file";
  try { return decodeURIComponent(last); } catch { return last; }
}

/** @param {HTMLElement} element @param {string} what */
function text(element, what) {
  element.textContent = what;
  element.hidden = !what;
}

/** @param {string} name @param {string} what */
function tag(name, what) {
  const element = document.createElement(name);
  element.textContent = what;
  return element;
}

/** @param {number} part */
function percent(part) {
  return `${Math.floor(part * 100)} %`;
}

/** As bin/download shows it: 1.5 MiB. @param {number} n */
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, n)) / 10));
  const count = n / 1_024 ** power;
  return `${count.toFixed(power && count < 10 ? 1 : 0)} ${units[power]}`;
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

page.form.hidden = auth === "IAM"; // this page can't sign
page.unsigned.hidden = auth !== "IAM";
page.credential.hidden = auth !== "JWT" && auth !== "API_KEY";
page.secret.required = !page.credential.hidden;
page.credentialLabel.textContent = auth === "JWT" ? "Access token" : "API key";

// After a reload, what ran continues, and what was ready has a fresh link. The same address with another # is a new visit.
const last = storage.read();
if (last && last.hash === location.hash && auth !== "IAM") {
  kept = last;
  page.path.value = last.path;
  if (page.secret.required && !last.over) show({ phase: "locked" });
  else if (!last.over) run(last);
} else {
  fill();
  (page.secret.required ? page.secret : page.path).focus();
}
