"use strict";

// The zone in which days and columns begin, for the next page.
document.cookie = `zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; SameSite=Strict; max-age=31536000`;
const hour = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const day = { day: "numeric", month: "short" };
const formats = { clock: new Intl.DateTimeFormat("en-GB", hour), day: new Intl.DateTimeFormat("en-GB", day), full: new Intl.DateTimeFormat("en-GB", { ...day, ...hour }) };
// The column that was chosen stays the same one when the chart is loaded again.
const chosen = new Map();

function showShortTimes(root) {
  for (const element of root.querySelectorAll("time[data-as]")) element.textContent = formats[element.dataset.as].format(new Date(element.dateTime));
}

class TimeChart {
  constructor(element) {
    this.size = element.classList.contains("wide") ? "wide" : "narrow";
    this.columns = [...element.querySelectorAll(".hits a")];
    this.readout = element.querySelector(".readout");
    this.kind = this.readout.querySelector("time").dataset.as;
    const stage = element.querySelector(".stage");
    this.cursor = document.createElement("div");
    this.cursor.className = "cursor";
    this.cursor.tabIndex = 0;
    this.cursor.setAttribute("role", "slider");
    this.cursor.setAttribute("aria-label", "Calls by time; arrow keys move, Enter opens");
    this.cursor.setAttribute("aria-valuemin", "0");
    this.cursor.setAttribute("aria-valuemax", String(this.columns.length - 1));
    stage.prepend(this.cursor);
    const place = (at) => this.columns.findIndex((column) => column.dataset.at === at);
    const known = place(chosen.get(this.size));
    this.show(known < 0 ? place(this.readout.dataset.last) : known, known >= 0);
    stage.addEventListener("pointerover", (event) => {
      const at = this.columns.indexOf(event.target.closest("a"));
      if (at >= 0) this.show(at);
    });
    this.cursor.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: this.columns.length - 1 };
      if (event.key in moves) this.show(Math.min(this.columns.length - 1, Math.max(0, moves[event.key])));
      else if (event.key === "Enter") location.assign(this.columns[this.at].href.baseVal);
      else return;
      event.preventDefault();
    });
  }

  show(at, isChosen = true) {
    if (this.at !== undefined) this.columns[this.at].classList.remove("selected");
    this.at = at;
    const column = this.columns[at];
    column.classList.add("selected");
    if (isChosen) chosen.set(this.size, column.dataset.at);
    // Of a time without data there are no counts.
    const [accepted, refused, failed] = (column.dataset.counts || "- - -").split(" ").map((text) => (text === "-" ? text : Number(text).toLocaleString("en")));
    const time = formats[this.kind === "day" ? "full" : this.kind].format(new Date(Number(column.dataset.at)));
    this.readout.querySelector("time").textContent = time;
    this.readout.querySelectorAll("b").forEach((element, place) => { element.textContent = [accepted, refused, failed][place]; });
    this.readout.querySelector("a").href = column.href.baseVal;
    this.cursor.setAttribute("aria-valuenow", String(at));
    this.cursor.setAttribute("aria-valuetext", `${time}: ${accepted} accepted, ${refused} refused, ${failed} failed`);
  }
}

function showCharts(root) {
  showShortTimes(root);
  for (const element of root.querySelectorAll(".time-chart:not(:has(.cursor))")) new TimeChart(element);
}
showCharts(document);
document.addEventListener("htmx:load", () => showCharts(document));
// A chart of another page is loaded for the span that was chosen.
document.addEventListener("htmx:beforeRequest", (event) => {
  const link = event.target.closest("[hx-target='#calls']");
  if (!link) return;
  for (const one of link.parentElement.children) one.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
});

// What was opened stays open when the page is loaded again, before the focus returns to it.
const opened = new Set();
document.addEventListener("toggle", (event) => opened[event.target.open ? "add" : "delete"](event.target.id), true);
document.addEventListener("htmx:afterSwap", () => {
  for (const element of document.querySelectorAll("details[id]")) element.open = opened.has(element.id);
}, true);
