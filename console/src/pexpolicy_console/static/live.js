"use strict";

// A hidden or paused page has no stream: a browser opens few connections to one server.
// As many rows as the page has: a frame lays out and paints all rows, not only the new ones.
const MAX_SHOWN = 100;
// Messages that wait for a frame. Of a burst after a stall the newest are shown, the others counted.
const MAX_WAITING = 2;

class Live {
  constructor(bar, rows) {
    this.rows = rows;
    this.url = `/decisions/stream?${bar.dataset.live}`;
    this.paused = false;
    this.left = 0;
    this.arrived = [];
    this.source = null;
    this.button = bar.querySelector(".pause");
    this.state = bar.querySelector(".state");
    this.count = bar.querySelector(".count");
    this.button.onclick = () => this.pause(!this.paused);
    document.addEventListener("visibilitychange", () => this.update());
    addEventListener("pagehide", () => this.stop());
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
    if (!this.wanted) this.stop();
    else if (!this.source) this.open();
  }

  stop() {
    if (this.source) this.source.close();
    this.source = null;
  }

  open() {
    const source = new EventSource(this.url);
    this.source = source;
    source.addEventListener("rows", (event) => this.receive(JSON.parse(event.data)));
    source.onopen = () => this.say("live");
    source.onerror = () => {
      this.say("not connected");
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => { if (this.source === source) this.open(); }, 5000 + 10000 * Math.random());
    };
  }

  // Several messages may come in one task; each frame shows the rows of one.
  receive(message) {
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
    setStreaming(text === "live");
    if (this.state.textContent !== text) this.state.textContent = text;
  }
}

const bar = document.querySelector("[data-live]");
const rows = document.querySelector("tbody[data-rows]");
const live = bar && rows && window.EventSource ? new Live(bar, rows) : null;
