"use strict";

// As many rows as the page has: a frame lays out and paints all rows, not only the new ones.
const MAX_SHOWN = 100;
// Between two looks for newer calls: people cannot read rows that change faster.
const PAUSE_MS = 500;
const BUSY_MS = 1000;
const FAILED_MS = 5000;

class Live {
  constructor(frame, rows) {
    this.frame = frame;
    this.rows = rows;
    this.query = new URLSearchParams(frame.dataset.live);
    this.left = 0;
    this.held = [];
    this.isPointed = false;
    this.newer = frame.querySelector(".newer");
    this.count = document.querySelector(".left-out");
    frame.addEventListener("pointerenter", (event) => { this.isPointed = event.pointerType === "mouse"; });
    frame.addEventListener("pointerleave", () => { this.isPointed = false; this.release(); });
    frame.addEventListener("focusout", () => setTimeout(() => this.release()));
    document.addEventListener("visibilitychange", () => { if (document.visibilityState !== "visible") setLive(false); });
    this.look();
  }

  // Rows stay where they are while somebody reads or reaches for one.
  get holds() {
    return this.isPointed || this.frame.contains(document.activeElement);
  }

  release() {
    if (!this.holds) this.showHeld();
  }

  showHeld() {
    const held = this.held;
    this.held = [];
    this.newer.hidden = true;
    if (held.length) this.add(held);
  }

  // A hidden page asks for nothing.
  async look() {
    const pause = document.visibilityState === "visible" ? await this.ask() : PAUSE_MS;
    if (pause) setTimeout(() => this.look(), pause);
  }

  async ask() {
    try {
      const reply = await fetch(`/decisions/newer?${this.query}`, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(8000) });
      if (reply.status === 401) { endSession(); return 0; }
      if (!reply.ok) throw new Error(String(reply.status));
      const message = await reply.json();
      this.query.set("after", message.after);
      if (message.rows) this.show(message);
      setLive(true);
      return message.left_out ? BUSY_MS : PAUSE_MS;
    } catch {
      setLive(false);
      return FAILED_MS;
    }
  }

  show(message) {
    const template = document.createElement("template");
    template.innerHTML = message.rows;
    showLocalTimes(template.content);
    const known = new Map([...this.rows.querySelectorAll("tr[data-id]"), ...this.held].map((row) => [row.dataset.id, row]));
    const added = [];
    for (const row of template.content.querySelectorAll("tr[data-id]")) {
      const former = known.get(row.dataset.id);
      if (!former) added.push(row);
      // A later request of a call may be refused.
      else if (Number(row.dataset.rank) > Number(former.dataset.rank)) this.replace(former, row);
    }
    if (this.holds) this.hold(added);
    else this.add(added);
    this.left += message.left_out;
    if (this.left) this.count.textContent = `${this.left.toLocaleString()} lines left out: narrow the filters to see each`;
  }

  replace(former, row) {
    const at = this.held.indexOf(former);
    if (at >= 0) this.held[at] = row;
    else former.replaceWith(row);
  }

  hold(added) {
    this.held = [...added, ...this.held].slice(0, MAX_SHOWN);
    if (!this.held.length) return;
    const text = `${this.held.length}${this.held.length === MAX_SHOWN ? " or more" : ""} newer call${this.held.length === 1 ? " waits" : "s wait"} while you are in the list. Show`;
    let button = this.newer.firstElementChild;
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.onclick = () => this.showHeld();
      this.newer.append(button);
    }
    if (button.textContent !== text) button.textContent = text;
    this.newer.hidden = false;
  }

  add(added) {
    if (!added.length) return;
    this.rows.querySelectorAll(".none").forEach((row) => row.remove());
    this.rows.prepend(...added);
    while (this.rows.rows.length > MAX_SHOWN) this.rows.rows[this.rows.rows.length - 1].remove();
  }
}

const frame = document.querySelector("[data-live]");
const rows = document.querySelector("tbody[data-rows]");
const live = frame && rows ? new Live(frame, rows) : null;

// From 2300 pixels on, the selected call stands next to the list.
const selected = document.getElementById("selected");
const isWide = matchMedia("(min-width: 2300px)");
async function select(link) {
  for (const row of document.querySelectorAll("#decisions [aria-current]")) row.removeAttribute("aria-current");
  link.closest("tr").setAttribute("aria-current", "true");
  const reply = await fetch(link.href);
  const found = new DOMParser().parseFromString(await reply.text(), "text/html").getElementById("main");
  if (reply.redirected || !found) { location.assign(link.href); return; }
  showLocalTimes(found);
  selected.replaceChildren(...document.adoptNode(found).childNodes);
  selected.scrollTop = 0;
  const open = selected.querySelector(".back");
  if (open) Object.assign(open, { href: link.href, textContent: "Open on a page of its own" });
  htmx.process(selected);
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("#decisions .time a[href^='/decisions/']");
  if (!link || !isWide.matches || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  select(link);
});
