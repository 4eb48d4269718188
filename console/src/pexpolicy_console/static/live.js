"use strict";

// One stream for all tabs of a browser: the tab that holds the lock reads it, and tells the others.
// A browser opens few connections to one server, and a hidden or paused tab needs none.
const LOCK = "pexpolicy-live";
const HEARTBEAT_MS = 5000;
// As many as the page has: a frame lays out and paints all rows, not only the new ones.
const MAX_SHOWN = 100;
// Messages that wait for a frame. Of a burst after a stall the newest are shown, the others counted.
const MAX_WAITING = 2;

class Live {
  constructor(bar, rows) {
    this.bar = bar;
    this.rows = rows;
    this.view = bar.dataset.live;
    this.id = Math.random().toString(36).slice(2);
    this.paused = false;
    this.left = 0;
    this.arrived = [];
    this.channel = new BroadcastChannel(LOCK);
    this.others = new Map();
    this.release = null;
    this.source = null;
    this.last = "";
    this.channel.onmessage = (event) => this.receive(event.data);
    this.button = bar.querySelector(".pause");
    this.state = bar.querySelector(".state");
    this.count = bar.querySelector(".count");
    this.button.onclick = () => this.pause(!this.paused);
    document.addEventListener("visibilitychange", () => this.update());
    addEventListener("pagehide", () => this.stop());
    setInterval(() => this.beat(), HEARTBEAT_MS);
    bar.hidden = false;
    this.update();
  }

  get wanted() {
    return !this.paused && document.visibilityState === "visible";
  }

  pause(paused) {
    this.paused = paused;
    this.button.setAttribute("aria-pressed", String(paused));
    this.update();
  }

  update() {
    this.say(this.paused ? "paused" : this.wanted ? "live" : "closed while hidden");
    if (!this.wanted) {
      this.stop();
    } else if (!this.waiting) {
      this.channel.postMessage({ kind: "want", tab: this.id, view: this.view });
      this.waiting = new AbortController();
      navigator.locks
        .request(LOCK, { signal: this.waiting.signal }, () => new Promise((release) => {
          this.release = release;
          this.open();
        }))
        .catch(() => {});
    }
  }

  stop() {
    this.channel.postMessage({ kind: "leave", tab: this.id });
    if (this.waiting) this.waiting.abort();
    this.waiting = null;
    if (this.source) this.source.close();
    this.source = null;
    if (this.release) this.release();
    this.release = null;
    this.others.clear();
  }

  open() {
    if (this.source) this.source.close();
    const query = new URLSearchParams();
    for (const view of this.views()) query.append("view", view);
    if (this.last) query.set("last", this.last);
    const source = new EventSource(`/decisions/stream?${query}`);
    this.source = source;
    source.addEventListener("rows", (event) => {
      this.last = event.lastEventId;
      const message = { kind: "rows", ...JSON.parse(event.data) };
      this.channel.postMessage(message);
      this.receive(message);
    });
    source.addEventListener("gap", () => this.say("live; lines may be missing: load the page again"));
    source.onopen = () => this.say("live");
    source.onerror = () => {
      this.say("not connected");
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => { if (this.source === source) this.open(); }, 5000 + 10000 * Math.random());
      }
    };
  }

  views() {
    return [...new Set([this.view, ...[...this.others.values()].map((other) => other.view)])].sort();
  }

  beat() {
    if (this.wanted && !this.release) this.channel.postMessage({ kind: "want", tab: this.id, view: this.view });
    if (!this.release) return;
    const before = this.views().join(" ");
    for (const [tab, other] of this.others) if (Date.now() - other.heard > 3 * HEARTBEAT_MS) this.others.delete(tab);
    if (this.views().join(" ") !== before) this.open();
  }

  receive(message) {
    if (message.kind === "rows") {
      if (message.view === this.view && this.wanted) this.arrive(message);
    } else if (this.release) {
      const before = this.views().join(" ");
      if (message.kind === "want") this.others.set(message.tab, { view: message.view, heard: Date.now() });
      else this.others.delete(message.tab);
      if (this.views().join(" ") !== before) this.open();
    }
  }

  // Several messages may come in one task; each frame shows the rows of one.
  arrive(message) {
    if (!this.arrived.length) requestAnimationFrame(() => this.frame());
    this.arrived.push(message);
    while (this.arrived.length > MAX_WAITING) {
      const dropped = this.arrived.shift();
      this.left += dropped.count + dropped.left_out;
    }
  }

  frame() {
    this.show(this.arrived.shift());
    if (this.arrived.length) requestAnimationFrame(() => this.frame());
  }

  show(message) {
    const template = document.createElement("template");
    template.innerHTML = message.rows;
    const known = new Set([...this.rows.querySelectorAll("tr[data-id]")].map((row) => row.dataset.id));
    for (const row of [...template.content.querySelectorAll("tr[data-id]")]) {
      if (known.has(row.dataset.id)) row.remove();
    }
    showLocalTimes(template.content);
    this.rows.querySelectorAll(".empty").forEach((row) => row.remove());
    this.rows.prepend(template.content);
    while (this.rows.rows.length > MAX_SHOWN) this.rows.rows[this.rows.rows.length - 1].remove();
    this.left += message.left_out;
    if (this.left) this.count.textContent = `${this.left.toLocaleString()} lines left out: narrow the filters to see each`;
  }

  say(text) {
    if (this.state.textContent !== text) this.state.textContent = text;
  }
}

const bar = document.querySelector("[data-live]");
const rows = document.querySelector("tbody[data-rows]");
if (bar && rows && window.EventSource && window.BroadcastChannel && navigator.locks) new Live(bar, rows);
