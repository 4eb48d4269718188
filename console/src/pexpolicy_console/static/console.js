"use strict";

// Times: local in the page, without the date of today; UTC on hover.
const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const localTime = new Intl.DateTimeFormat("sv-SE", clock);
// As it may be typed into a filter.
const localDate = new Intl.DateTimeFormat("sv-SE", { year: "numeric", month: "2-digit", day: "2-digit", ...clock });
function showLocalTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(element.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      const isToday = moment.toDateString() === new Date().toDateString();
      element.textContent = (isToday ? localTime : localDate).format(moment);
      element.dataset.local = "";
    }
  }
}
function nameZone() {
  const name = localTime.resolvedOptions().timeZone;
  const zone = document.querySelector(".zone");
  if (zone) zone.textContent = `Times are those of ${name}, with UTC on hover.`;
  // Times that are typed are of the same zone, but those of a link that was sent stay as they are.
  const typed = document.querySelector("[data-zone]:not([data-kept])");
  if (!typed) return;
  typed.value = name;
  for (const label of document.querySelectorAll("[data-zone-name]")) label.textContent = name;
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

// Keys: / goes to the search, j and k select a row, Enter opens it, Esc leaves.
function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const field = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (field) field.blur();
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
    const rows = [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a[href]"));
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

// A part that cannot be loaded again is old.
function sayOld() {
  if (document.querySelector(".old")) return;
  const text = document.createElement("p");
  text.className = "bad old";
  text.setAttribute("role", "alert");
  text.textContent = `Not up to date since ${localTime.format(new Date())}: the console does not answer.`;
  document.querySelector("h1").after(text);
}
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) document.addEventListener(name, sayOld);
document.addEventListener("htmx:afterOnLoad", () => document.querySelectorAll(".old").forEach((text) => text.remove()));

document.addEventListener("htmx:load", (event) => showLocalTimes(event.detail.elt));
