"use strict";

// A hidden or paused page has no stream: a browser opens few connections to one server.
// As many rows as the page has: a frame lays out and paints all rows, not only the new ones.
const MAX_SHOWN = 100;
// Messages that wait for a frame. Of a burst after a stall the newest are shown, the others counted.
const MAX_WAITING = 2;

class Live {
  constructor(frame, rows) {
    this.frame = frame;
    this.rows = rows;
    this.url = `/decisions/stream?${frame.dataset.live}`;
    this.left = 0;
    this.arrived = [];
    this.held = [];
    this.isPointed = false;
    this.source = null;
    this.newer = frame.querySelector(".newer");
    this.count = document.querySelector(".left-out");
    document.addEventListener("visibilitychange", () => this.update());
    addEventListener("pagehide", () => this.stop());
    frame.addEventListener("pointerenter", (event) => { this.isPointed = event.pointerType === "mouse"; });
    frame.addEventListener("pointerleave", () => { this.isPointed = false; this.release(); });
    frame.addEventListener("focusout", () => setTimeout(() => this.release()));
    this.update();
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

  update() {
    if (document.visibilityState !== "visible") this.stop();
    else if (!this.source) this.open();
  }

  stop() {
    if (this.source) this.source.close();
    this.source = null;
    setStreaming(false);
  }

  open() {
    const source = new EventSource(this.url);
    this.source = source;
    source.addEventListener("rows", (event) => this.receive(JSON.parse(event.data)));
    source.onopen = () => setStreaming(true);
    source.onerror = () => {
      setStreaming(false);
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => { if (this.source === source) this.open(); }, 5000 + 10000 * Math.random());
    };
  }

  // Several messages may come in one task; each frame shows the rows of one.
  receive(message) {
    if (!this.arrived.length) requestAnimationFrame(() => this.draw());
    this.arrived.push(message);
    while (this.arrived.length > MAX_WAITING) {
      const dropped = this.arrived.shift();
      this.left += dropped.count + dropped.left_out;
    }
  }

  draw() {
    this.show(this.arrived.shift());
    if (this.arrived.length) requestAnimationFrame(() => this.draw());
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
const live = frame && rows && window.EventSource ? new Live(frame, rows) : null;
