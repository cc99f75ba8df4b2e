// The page's live state for the components: the view, the link to the server and the present moment. The folding is in
// `state/reduce.ts`, the line in `state/stream.ts`; here they meet the browser.
import type { DataAge, Position, StreamMessage } from "./api";
import { apiUrl, probe } from "./state/rest";
import { EMPTY_VIEW, reduce, type View } from "./state/reduce";
import { Stream, type Link, type Socket } from "./state/stream";

/** Without a word for this long the data counts as stale: three rounds and a beat were due. */
export const STALE_AFTER_MS = 10_000;
/** Without a line for this long it is a disconnection, not a hiccup. */
const DISCONNECTED_AFTER_MS = 30_000;
const TICK_MS = 1_000;

export type Connection = "connecting" | "live" | "stale" | "catching_up" | "reconnecting" | "disconnected" | "unauthorised" | "unreadable";

class Live {
  view = $state.raw<View>(EMPTY_VIEW);
  link = $state<Link>("connecting");
  /** How old the newest word from the server is. */
  silence_ms = $state(0);
  /** How old the newest record in the log is, which is what the page shows; no less than the silence. */
  age_ms = $state(0);
  /** Why what the server shows is not the present; null while it is. */
  why_stale = $state<string | null>(null);
  /** The site's present. Stands still while nothing arrives, so that the page never claims more than it knows. */
  now_ms = $state(Date.now());
  /** Set while a part of the page fails to show the state: what is on the screen is not to be trusted then. */
  failed = $state(false);
  #heard = performance.now();
  #data: DataAge = { age_ms: null, stale: null };
  #dataHeard = performance.now();

  board = $derived(this.view.board);
  zone = $derived(this.view.board?.time_zone ?? "UTC");
  readOnly = $derived(this.view.board?.read_only ?? true);
  stale = $derived(
    this.failed || this.link !== "live" || this.view.caught_up !== null || this.silence_ms > STALE_AFTER_MS || this.why_stale !== null,
  );
  connection = $derived.by((): Connection => {
    if (this.failed || this.link === "unreadable") return "unreadable";
    if (this.link === "live") {
      if (this.silence_ms > STALE_AFTER_MS) return "reconnecting";
      if (this.why_stale !== null) return "stale";
      return this.view.caught_up === null ? "live" : "catching_up";
    }
    if (this.link !== "unauthorised" && this.silence_ms > DISCONNECTED_AFTER_MS) return "disconnected";
    return this.link;
  });
  /** How much of its log the server has read while it still does, as a percentage; null when it does not or cannot say. */
  caughtUpPercent = $derived(this.view.caught_up ? Math.floor(this.view.caught_up * 100) : null);
  explains = $derived(this.view.board?.explains ?? false);
  /** Acts are possible: a live line, and not a recording. */
  canAct = $derived(!this.readOnly && this.connection === "live");

  start(): () => void {
    const stream = new Stream({
      connect: (after) => new WebSocket(streamUrl(after)) as unknown as Socket,
      probe,
      position: () => this.view.position,
      onMessage: (message) => {
        this.view = reduce(this.view, message);
        this.#heard = performance.now();
        this.#note(message);
        this.#tick();
      },
      onLink: (link) => {
        this.link = link;
        this.#tick();
      },
      random: Math.random,
    });
    const wake = (): void => {
      if (document.visibilityState === "visible") stream.wake();
      this.#tick();
    };
    stream.start();
    const timer = setInterval(() => this.#tick(), TICK_MS);
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    return () => {
      stream.stop();
      clearInterval(timer);
      removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", wake);
    };
  }

  /** Only beats and the wait for the log say how old the data is: a delta may carry nothing but stages. */
  #note(message: StreamMessage): void {
    if (message.type === "beat") this.#data = message.data;
    else if (message.type === "catching_up") this.#data = { age_ms: null, stale: message.stale ?? null };
    else return;
    this.#dataHeard = this.#heard;
    this.why_stale = this.#data.stale;
  }

  #tick(): void {
    const now = performance.now();
    const age_ms = now - this.#heard;
    this.silence_ms = age_ms;
    const data_ms = this.#data.age_ms === null ? 0 : this.#data.age_ms + (now - this.#dataHeard);
    this.age_ms = Math.max(age_ms, data_ms);
    const told_ms = this.view.now_ms;
    if (told_ms === null) return;
    // A recording's time moves only with its messages; a lost line's not at all.
    const runs = this.link === "live" && this.view.caught_up === null && !this.readOnly && this.why_stale === null;
    this.now_ms = told_ms + (runs ? Math.min(age_ms, STALE_AFTER_MS) : 0);
  }
}

function streamUrl(after: Position | null): string {
  const url = new URL(apiUrl("stream"));
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (after !== null) url.searchParams.set("after", `${after.events},${after.observations}`);
  return url.href;
}

export const live = new Live();
