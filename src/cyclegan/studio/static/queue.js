// Translates images one after another, the one that is looked at first.

import { ask } from "./app.js";

const AT_ONCE = 2; // one is computed while the next one is sent; more would only wait in the server
const ACCEPT = { same: "*/*", png: "image/png", jpeg: "image/jpeg", tiff: "image/tiff", npy: "application/x-npy" };

/**
 * Jobs are { key, model, direction, type, forward }, made by `jobsOf` for an item; what came of a job is in
 * item.results under its key: { state, blob, note, message }, with the states waiting, running, done and failed.
 */
export class Queue {
  #running = new Map(); // result -> AbortController
  isStopped = false;

  /**
   * items: () -> all of them, the most urgent first. settings: { quality }. onChange(item, job): called after each
   * change of a result. onLost(message): called when the server is gone; the queue then stands still.
   */
  constructor({ items, jobsOf, settings, onChange, onLost }) {
    Object.assign(this, { items, jobsOf, settings, onChange, onLost });
  }

  /**
   * How many images there are, how many of them are ended with all of their jobs, and how many of these failed in one;
   * share: of all jobs that are ended, 0 to 1.
   */
  count() {
    let total = 0,
      ended = 0,
      failed = 0,
      jobs = 0,
      endedJobs = 0;
    for (const item of this.items()) {
      const states = this.jobsOf(item).map((job) => item.results.get(job.key)?.state);
      if (!states.length) continue;
      const over = states.filter((state) => state === "done" || state === "failed");
      const isEnded = over.length === states.length;
      total += 1;
      ended += isEnded;
      failed += isEnded && over.includes("failed");
      jobs += states.length;
      endedJobs += over.length;
    }
    return { total, ended, failed, share: jobs ? endedJobs / jobs : 0, isBusy: this.#running.size > 0 };
  }

  /** Start what can be started. Called after every change of images or settings. */
  go() {
    if (this.isStopped) return;
    const wanted = new Set();
    for (const item of this.items()) {
      for (const job of this.jobsOf(item)) {
        const result = item.results.get(job.key) ?? { state: "waiting" };
        item.results.set(job.key, result);
        wanted.add(result);
        if (result.state === "waiting" && this.#running.size < AT_ONCE && this.#isReady(item, job, result)) {
          this.#run(item, job, result);
        }
      }
    }
    // What nobody wants any more stops, such as after another choice of models.
    for (const [result, controller] of this.#running) if (!wanted.has(result)) controller.abort();
  }

  stop() {
    this.isStopped = true;
    for (const controller of this.#running.values()) controller.abort();
  }

  resume() {
    this.isStopped = false;
    this.go();
  }

  #isReady(item, job, result) {
    if (!job.forward) return true;
    const forward = item.results.get(job.forward);
    if (forward?.state === "failed") Object.assign(result, { state: "failed", message: forward.message });
    return forward?.state === "done";
  }

  async #run(item, job, result) {
    const controller = new AbortController();
    this.#running.set(result, controller);
    result.state = "running";
    this.onChange(item, job);
    try {
      Object.assign(result, await this.#translate(item, job, controller.signal), { state: "done" });
    } catch (error) {
      if (error.name === "AbortError") result.state = "waiting";
      else if (error.isLost) {
        result.state = "waiting";
        this.isStopped = true;
        this.onLost(error.message);
      } else Object.assign(result, { state: "failed", message: error.message });
    }
    this.#running.delete(result);
    this.onChange(item, job);
    this.go();
  }

  async #translate(item, job, signal) {
    const body = job.forward ? item.results.get(job.forward).blob : item.file;
    const { type } = job;
    const { quality } = this.settings;
    await body
      .slice(0, 1)
      .arrayBuffer()
      .catch(() => {
        throw new Error(`${item.path} cannot be read any more; was it moved or changed? Add it again.`);
      });
    const query = new URLSearchParams({ tile: "auto", ...(type === "jpeg" ? { quality } : {}) });
    const url = `/v1/models/${encodeURIComponent(job.model)}/${job.direction}:translate?${query}`;
    const headers = { Accept: ACCEPT[type], "Content-Type": body.type || "application/octet-stream" };
    for (;;) {
      try {
        const response = await ask(url, { method: "POST", body, headers, signal });
        return { blob: await response.blob(), note: response.headers.get("Cyclegan-Note") ?? "" };
      } catch (error) {
        if (error.status !== 503) throw error;
        await pause((error.retryAfter ?? 1) * 1000, signal); // the server is busy with others
      }
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
