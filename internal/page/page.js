// The page. It is served by the API it uses.
import { cancel, download, follow } from "./client.js";

const api = location.origin + location.pathname.replace(/\/*$/, "/");

const advice = {
  CANCELLED: "",
  ORIGIN_STATUS: "Check the path: the origin has no such file, or doesn’t give it out.",
  ORIGIN_UNREACHABLE: "The origin may be down. Try again later.",
  ORIGIN_CHANGED: "Try again, and the new version is copied.",
  ORIGIN_TRUNCATED: "Try again. If it stays so, the origin has trouble with this file.",
  ORIGIN_TOO_SLOW: "Try at a quieter time. An origin without ranges can’t send a file of this size in the time a copy has.",
  TOO_LARGE: "Who runs this service can raise the limit, MaxFileBytes.",
  BLOCKED_ADDRESS: "Who runs this service has to allow the origin’s address, OriginIsPrivate, or where it redirects to, OriginRedirectHosts.",
  DIGEST_MISMATCH: "Try again. If it stays so, the file is damaged at the origin.",
  EXPIRED: "Start it again.",
  NOT_FOUND: "Start it again: the service no longer knows this download.",
  INVALID_PATH: "Type what follows the origin’s address, such as reports/2026.pdf, without host and without “..”.",
  THROTTLED: "Many downloads are being started. Try again in a minute.",
  UNREACHABLE: "Check your connection and try again.",
  UNAUTHORIZED: "The API asks for credentials, which this page doesn’t have. Use a client that sends them, or have GET /download opened to you.",
};
const lines = {
  live: "",
  polling: "No live connection, so progress comes every few seconds. The copy goes on.",
  lost: "The connection is lost; trying again. The copy goes on.",
  offline: "You’re offline. The copy goes on.",
};

/** @type {Record<string, any>} the elements by id */
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

// What a reload needs: {path, job, saved}. In this tab alone, and never the signed URL.
// Where the browser keeps nothing (cookies blocked), only the reload is lost.
const storage = {
  key: "download " + api,
  read() {
    try { return JSON.parse(sessionStorage.getItem(this.key)); } catch { return null; }
  },
  write(kept) {
    try { sessionStorage.setItem(this.key, JSON.stringify(kept)); } catch { /* as above */ }
  },
};

const view = { phase: "idle" }; // idle, asking, copying, cancelling, ready, failed, cancelled
let running; // an AbortController
let kept = { path: "" };

async function run(start) {
  kept = start;
  storage.write(kept);
  running = new AbortController();
  show({ phase: kept.job ? "copying" : "asking", copied: 0, total: null, samples: [], line: "live", link: null, error: null });
  const options = { onProgress, onConnection: (line) => show({ line }), signal: running.signal };
  const onStart = (job) => {
    kept = { ...kept, job };
    storage.write(kept);
    show({ phase: "copying" });
  };
  try {
    const link = await (kept.job ? follow(kept.job, options) : download(api, kept.path, { onStart, ...options }));
    show({ phase: "ready", link, since: performance.now() });
    if (!kept.saved) page.save.click();
  } catch (error) {
    const cancelled = error.code === "CANCELLED" || error.name === "AbortError";
    if (!cancelled && !error.code) console.error(error);
    show({ phase: cancelled ? "cancelled" : "failed", error });
  }
}

function onProgress({ bytesCopied, bytesTotal }) {
  // The pace is that of the last 15 seconds.
  const now = Date.now();
  const samples = [...view.samples.filter(({ at }) => now - at < 15_000), { at: now, bytes: bytesCopied }];
  show({ copied: bytesCopied, total: bytesTotal, samples });
}

function pace() {
  const first = view.samples[0], last = view.samples.at(-1);
  return last && last.at - first.at > 500 ? (last.bytes - first.bytes) / (last.at - first.at) * 1_000 : 0;
}

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!busy()) run({ path: page.path.value.trim() });
});
page.again.addEventListener("click", () => run({ path: kept.path }));
page.cancel.addEventListener("click", async () => {
  if (view.phase === "asking") return running.abort(); // a copy that was started all the same ends by itself
  if (view.phase !== "copying") return;
  show({ phase: "cancelling" });
  try {
    await cancel(kept.job, running);
  } catch (error) {
    // Too late, or not reached: what comes is told by follow().
    if (view.phase === "cancelling") show({ phase: "copying" });
    if (error.code !== "CONFLICT") say(`Not cancelled: ${error.message}`);
  }
});
page.save.addEventListener("click", async (event) => {
  kept = { ...kept, saved: true };
  storage.write(kept);
  // A link that has just come works: the browser follows it. This computer's clock may not know what is left of an older.
  if (performance.now() - view.since < 1_000) return;
  event.preventDefault();
  await run(kept); // for a fresh one
  if (view.phase === "ready") page.save.click();
});

function busy() {
  return ["asking", "copying", "cancelling"].includes(view.phase);
}

/** Takes up a change of the view and draws it. */
function show(change) {
  const before = { ...view, title: page.title.textContent };
  const focused = document.activeElement;
  Object.assign(view, change);
  const { phase, copied, total, samples, link, error } = view;
  const name = link?.fileName || kept.path || "the file";
  const part = copied && total ? copied / total : null; // before the first part is there, the bar only moves
  const rate = view.line === "lost" || view.line === "offline" ? 0 : pace();

  page.start.setAttribute("aria-disabled", busy());
  page.path.readOnly = busy();
  page.job.hidden = phase === "idle";
  page.job.className = phase;
  page.title.textContent = {
    asking: "Asking for the file…", copying: copied || total !== null ? "Copying…" : samples.length ? "Waiting for the origin…" : "Asking for the file…", cancelling: "Cancelling…",
    ready: `Ready: ${name}`, failed: "The download failed", cancelled: "The download was cancelled",
  }[phase] ?? "";
  text(page.what, phase === "ready" ? facts(link) : kept.path || "the origin’s address itself");

  page.copying.hidden = !busy();
  if (part === null) page.progress.removeAttribute("value");
  else page.progress.value = part;
  page.percent.textContent = part === null ? "" : percent(part);
  page.bytes.textContent = total === null ? bytes(copied) : `${bytes(copied)} of ${bytes(total)}`;
  page.pace.textContent = [rate > 0 && `${bytes(rate)}/s`, rate > 0 && total > copied && `${duration((total - copied) / rate)} left`].filter(Boolean).join(" · ");

  text(page.line, busy() ? lines[view.line] : "");
  page.message.textContent = "";
  if (phase === "failed") page.message.append(tag("code", error.code ?? "INTERNAL"), ` ${error.message}`);
  if (phase === "ready") page.message.append(kept.saved ? "The file is kept for a while yet; save it again here." : "Your browser is saving it. If it isn’t, save it here.");
  page.message.hidden = !page.message.textContent;
  text(page.advice, phase === "failed" ? advice[error.code] ?? "Try again. If it stays so, tell who runs this service." : "");

  page.save.hidden = phase !== "ready";
  if (link) page.save.href = link.url;
  else page.save.removeAttribute("href");
  page.again.hidden = phase !== "failed" && phase !== "cancelled";
  page.cancel.hidden = !busy();
  page.cancel.setAttribute("aria-disabled", phase === "cancelling");
  document.title = `${{ copying: part ? percent(part) : "Copying", ready: "Ready", failed: "Failed", cancelled: "Cancelled" }[phase] ?? "Download"} – ${kept.path.split("?")[0] || "Download a file"}`;

  announce(before, part, rate);
  // A control that had the focus and is gone would send it back to the top of the page.
  if (focused?.hidden) page.title.focus();
}

let announced = { at: 0, part: 0 };

/** Tells a screen reader of every change of the state, and of progress every 15 seconds at most. */
function announce(before, part, rate) {
  const { phase, line, error } = view;
  if (phase !== before.phase || page.title.textContent !== before.title) {
    announced = { at: Date.now(), part };
    return say([page.title.textContent, phase === "failed" && page.message.textContent, phase === "failed" && page.advice.textContent].filter(Boolean).join(". "));
  }
  if (busy() && line !== before.line) return say(lines[line] || "The connection is back.");
  if (phase !== "copying" || Date.now() - announced.at < 15_000 || part === announced.part) return;
  announced = { at: Date.now(), part };
  say(part === null ? `${page.bytes.textContent} copied` : `${page.percent.textContent} copied, ${page.pace.textContent}`);
}

function say(what) {
  page.live.textContent = what;
}

function facts({ size, expiresAt, verified }) {
  const until = new Date(expiresAt).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return [bytes(size), `link good until ${until}`, !verified && "the origin didn’t tell its length, so its end isn’t proven"].filter(Boolean).join(" · ");
}

function text(element, what) {
  element.textContent = what;
  element.hidden = !what;
}

function tag(name, what) {
  const element = document.createElement(name);
  element.textContent = what;
  return element;
}

function percent(part) {
  return `${Math.floor(part * 100)} %`;
}

/** As other programs show it: 1.5 MB. */
function bytes(n) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, n)) / 3));
  return (n / 1_000 ** power).toLocaleString("en", { style: "unit", unit: units[power], unitDisplay: power ? "short" : "long", maximumFractionDigits: power ? 1 : 0 });
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// After a reload, what ran goes on, and what is ready has a fresh link.
const last = storage.read();
if (last) {
  page.path.value = last.path;
  if (last.job) run(last);
} else {
  page.path.focus();
}
