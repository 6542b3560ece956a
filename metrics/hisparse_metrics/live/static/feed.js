// Asks the endpoint once a second, and less often while it does not answer. Rests while nobody can see the page.

const SECOND = 1000;
const TIMEOUT = 10 * SECOND;
const LONGEST_PAUSE = 10 * SECOND;

export class Feed {
  #timer = 0;
  #asking = null;
  #failures = 0;

  /** `query()` gives the parameters; `take(answer)` gets JSON; `trouble(text, status)` is told what is wrong. */
  constructor(url, { query, take, trouble }) {
    this.url = url;
    Object.assign(this, { query, take, trouble });
    this.stopped = true;
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  start() {
    this.stopped = false;
    this.ask();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
  }

  #wake() {
    clearTimeout(this.#timer);
    if (!document.hidden && !this.stopped) this.ask();
  }

  /** Ask now; an answer to an older question is dropped. */
  async ask() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const began = performance.now();
    const limit = setTimeout(() => asking.abort(), TIMEOUT);
    let pause;
    try {
      pause = await this.#once(asking);
    } catch {
      if (this.#asking !== asking) return;
      pause = this.#failed("The exporter does not answer", 0);
    } finally {
      clearTimeout(limit);
    }
    if (this.#asking !== asking || this.stopped || document.hidden) return;
    this.#timer = setTimeout(() => this.ask(), Math.max(0, pause - (performance.now() - began)));
  }

  // Returns how long to wait before the next question.
  async #once(asking) {
    const response = await fetch(`${this.url}?${this.query()}`, { signal: asking.signal, cache: "no-store" });
    if (!response.ok) {
      const words = (await response.text()).trim().slice(0, 200);
      const pause = this.#failed(`The exporter says ${response.status}: ${words || response.statusText}`, response.status);
      return Math.max(pause, Number(response.headers.get("Retry-After") ?? 0) * SECOND || 0);
    }
    const answer = await response.json();
    if (this.#asking !== asking) return SECOND;
    this.#failures = 0;
    this.take(answer);
    return SECOND;
  }

  #failed(text, status) {
    this.#failures += 1;
    this.trouble(text, status);
    return Math.min(SECOND * 2 ** (this.#failures - 1), LONGEST_PAUSE);
  }
}
