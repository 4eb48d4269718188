"use strict";

// Times: local in the page, without the date of today; UTC on hover.
const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const localClock = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const localDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const localTime = new Intl.DateTimeFormat("sv-SE", clock);
// As it may be typed into a filter.
const localDate = new Intl.DateTimeFormat("sv-SE", { year: "numeric", month: "2-digit", day: "2-digit", ...clock });
function showLocalTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(element.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      const isToday = moment.toDateString() === new Date().toDateString();
      const short = element.closest(".by-day") ? localDay : element.closest(".axis, .clock") ? localClock : null;
      element.textContent = (short || (isToday ? localTime : localDate)).format(moment);
      element.dataset.local = "";
    }
  }
}
function nameZone() {
  const name = localTime.resolvedOptions().timeZone;
  const zone = document.querySelector(".zone");
  if (zone) zone.textContent = `Times are those of ${name}, with UTC on hover.`;
  // Times that are typed are of the same zone, but those of a link that was sent stay as they are.
  for (const typed of document.querySelectorAll("[data-zone]:not([data-kept])")) {
    typed.value = name;
    for (const label of typed.form.querySelectorAll("[data-zone-name]")) label.textContent = name;
  }
}

// Colours: those of the system until the user chooses.
function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  for (const button of document.querySelectorAll(".theme")) {
    button.hidden = false;
    button.textContent = isDark ? "Light" : "Dark";
    button.onclick = () => {
      localStorage.setItem("theme", isDark ? "light" : "dark");
      useTheme(isDark ? "light" : "dark");
    };
  }
}

// The way back is to the list that led here, with its filters and place.
const back = document.querySelector(".back");
if (back && document.referrer.startsWith(`${location.origin}${back.getAttribute("href")}`)) back.href = document.referrer;

for (const button of document.querySelectorAll(".copy")) {
  button.hidden = !navigator.clipboard;
  button.onclick = () => navigator.clipboard.writeText(button.dataset.copy || location.href).then(() => { button.textContent = button.dataset.done; });
}

// Keys: / goes to the search, j and k select a row, Enter opens it, Esc leaves.
function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const field = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (field) field.blur();
    for (const drop of document.querySelectorAll(".drop[open], .account[open]")) {
      drop.open = false;
      drop.querySelector("summary").focus();
    }
    for (const row of document.querySelectorAll("tr.current")) row.classList.remove("current");
    return;
  }
  if (field) return;
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  } else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a[href]") && row.checkVisibility());
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("current"));
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))];
    if (at >= 0) rows[at].classList.remove("current");
    next.classList.add("current");
    next.querySelector("a[href]").focus();
  }
}

useTheme(localStorage.getItem("theme"));
showLocalTimes(document);
nameZone();
document.addEventListener("keydown", onKey);
// A part that is loaded again keeps the focus, and the row that was selected.
let focused = -1;
let isSelected = false;
function stops(part) {
  return [...part.querySelectorAll("a[href], button, summary, [tabindex]")];
}
document.addEventListener("htmx:beforeSwap", (event) => {
  focused = stops(event.detail.target).indexOf(document.activeElement);
  const row = document.activeElement.closest("tr");
  isSelected = row !== null && row.classList.contains("current");
});
document.addEventListener("htmx:afterSwap", (event) => {
  const stop = focused < 0 ? null : stops(document.getElementById(event.detail.target.id) || document)[focused];
  if (!stop || stop === document.activeElement) return;
  stop.focus({ preventScroll: true });
  if (isSelected && stop.closest("tr")) stop.closest("tr").classList.add("current");
});

document.addEventListener("htmx:load", (event) => showLocalTimes(event.detail.elt));

// Fresh or honest: the header says as of when the page is. A page with data-refresh loads itself
// again, one with a stream says that it is live; others offer it.
const POLL_MS = 5000;
const refreshes = Number(document.body.dataset.refresh || 0) * 1000 || (document.querySelector("[hx-trigger^=every]") ? POLL_MS : 0);
const loaded = new Date();
let isLive = false;
let seen = document.getElementById("status") ? loaded : null;
function icon(name) {
  return `<svg class="icon" aria-hidden="true"><use href="#i-${name}"/></svg>`;
}
function sayFresh(html) {
  const fresh = document.querySelector(".fresh");
  if (fresh && fresh.innerHTML !== html) fresh.innerHTML = html;
}
function showFresh() {
  const status = document.getElementById("status");
  if (!status || status.dataset.state === "stopped" || status.dataset.state === "ended") return;
  const policy = status.dataset.policy;
  if (isLive || refreshes) {
    sayFresh(`<span class="dot"></span> <span><b>Live</b> <time>${localTime.format(isLive ? new Date() : seen)}</time></span>`);
  } else if (policy && policyAtLoad && policy !== policyAtLoad) {
    sayFresh(`${icon("failed")} <span>As of <time>${localTime.format(loaded)}</time>, before the policy changed</span> <a href="">Refresh</a>`);
  } else {
    sayFresh(`${icon("waiting")} <span>As of <time>${localTime.format(loaded)}</time></span> <a href="">Refresh</a>`);
  }
}
function setLive(live) {
  isLive = live;
  showFresh();
}
const policyAtLoad = seen ? document.getElementById("status").dataset.policy : "";

// What was typed is kept over a login, in this tab.
const KEPT = "typed";
function fieldsOf(root) {
  return [...root.querySelectorAll("main input[name]:not([type=password]):not([type=hidden]), main textarea[name], main select[name]")];
}
function keepTyped() {
  const typed = fieldsOf(document).map((field) => [field.name, field.type === "checkbox" ? field.checked : field.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ path: location.pathname, typed }));
}
function restoreTyped() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) || "null");
  if (!kept || !seen || (kept.ended && kept.path !== location.pathname)) return;
  sessionStorage.removeItem(KEPT);
  if (!kept.ended) return;
  for (const [name, value] of kept.typed) {
    const field = fieldsOf(document).find((one) => one.name === name);
    if (field && typeof value === "boolean") field.checked = value;
    else if (field) field.value = value;
  }
}
function endSession() {
  const status = document.getElementById("status");
  const here = encodeURIComponent(location.pathname + location.search);
  status.dataset.state = "ended";
  sayFresh(`${icon("failed")} <a href="/login?to=${here}"><b>Log in again</b></a> <span>as of <time>${localTime.format(seen)}</time></span>`);
  document.querySelector(".fresh a").onclick = () => { keepTyped(); markEnded(); };
}
function markEnded() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) || "null");
  if (kept) sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, ended: true }));
}
if (seen) document.addEventListener("submit", (event) => { if (event.target.closest("main") && event.target.method === "post") keepTyped(); });
// A form that was sent after the session had ended leads to the login.
else markEnded();

function sayOld() {
  if (document.querySelector(".old")) return;
  const text = document.createElement("p");
  text.className = "banner trouble old";
  text.setAttribute("role", "alert");
  text.textContent = `Not up to date since ${localTime.format(seen || new Date())}: the console does not answer.`;
  document.getElementById("main").prepend(text);
}
function sayAnswers() {
  document.querySelectorAll(".old").forEach((text) => text.remove());
}
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) document.addEventListener(name, sayOld);
document.addEventListener("htmx:afterOnLoad", sayAnswers);

function put(found, id) {
  const former = document.getElementById(id);
  const next = found.getElementById(id);
  if (!former || !next) return;
  showLocalTimes(next);
  if (former.outerHTML !== next.outerHTML) former.replaceWith(document.adoptNode(next));
}
// The page loads itself again, and keeps the focus and what is open.
function putMain(found) {
  const main = document.getElementById("main");
  const next = found.getElementById("main");
  if (!next || main.querySelector("dialog[open], form :focus")) return;
  const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.querySelector("summary").textContent.trim()));
  const at = stops(main).indexOf(document.activeElement);
  for (const details of next.querySelectorAll("details")) if (open.has(details.querySelector("summary").textContent.trim())) details.open = true;
  showLocalTimes(next);
  main.replaceChildren(...document.adoptNode(next).childNodes);
  if (at >= 0 && stops(main)[at]) stops(main)[at].focus({ preventScroll: true });
}
let asked = Date.now();
async function poll() {
  if (document.visibilityState !== "visible" || document.getElementById("status").dataset.state === "ended") return;
  const whole = Number(document.body.dataset.refresh || 0) * 1000;
  const wants = whole && Date.now() - asked >= whole;
  try {
    const reply = await fetch(wants ? location.href : "/fresh", { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(8000) });
    if (reply.status === 401) { endSession(); return; }
    if (!reply.ok) throw new Error(String(reply.status));
    const found = new DOMParser().parseFromString(await reply.text(), "text/html");
    put(found, "status");
    put(found, "band");
    if (wants) { putMain(found); asked = Date.now(); }
    if (wants || !whole) seen = new Date();
    sayAnswers();
    showFresh();
  } catch { sayOld(); }
}
if (seen) {
  restoreTyped();
  showFresh();
  setInterval(poll, POLL_MS);
  setInterval(() => { if (isLive) showFresh(); }, 1000);
  document.addEventListener("visibilitychange", poll);
}
