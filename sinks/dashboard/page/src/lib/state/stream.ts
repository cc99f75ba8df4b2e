// Keeps one WebSocket to the server: reconnects with growing pauses, notices silence, resumes where it stopped. It decides
// nothing about the content; what it needs of the world comes in as `Seams`, so that tests can drive it.
import type { Position, StreamMessage } from "../api";

/** The server sends at least a beat each 5 s; three missed ones mean that the line is dead. */
export const SILENCE_MAX_MS = 15_000;
export const RETRY_FIRST_MS = 500;
export const RETRY_MAX_MS = 10_000;

/** `unreadable`: the server answers, and the page cannot take what it says. */
export type Link = "connecting" | "live" | "reconnecting" | "unauthorised" | "unreadable";

export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  close(): void;
}

export interface Seams {
  connect(after: Position | null): Socket;
  /** The HTTP status of a cheap request, 0 when the server cannot be reached. Tells a refused login from a dead server. */
  probe(): Promise<number>;
  /** Where the view stands, so that only what is missing is sent. */
  position(): Position | null;
  /** Throws for a message that the view cannot take. */
  onMessage(message: StreamMessage): void;
  onLink(link: Link, retry_in_ms: number | null): void;
  /** 0 … 1; spreads the reconnects of many pages after a server's restart. */
  random(): number;
}

export class Stream {
  #seams: Seams;
  #socket: Socket | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;
  #silence: ReturnType<typeof setTimeout> | null = null;
  #attempts = 0;
  #everLive = false;
  #refused = false;
  /** The view threw: it is not to be trusted, so the next line begins with a whole state. */
  #unreadable = false;
  #stopped = true;

  constructor(seams: Seams) {
    this.#seams = seams;
  }

  start(): void {
    this.#stopped = false;
    this.#open();
  }

  stop(): void {
    this.#stopped = true;
    this.#drop();
    this.#clear();
  }

  /** The network came back or the page became visible: no reason to wait any longer. */
  wake(): void {
    if (this.#stopped || this.#socket !== null) return;
    this.#clear();
    this.#attempts = 0;
    this.#open();
  }

  #open(): void {
    if (!this.#refused && !this.#unreadable) this.#seams.onLink(this.#everLive ? "reconnecting" : "connecting", null);
    const socket = this.#seams.connect(this.#unreadable ? null : this.#seams.position());
    this.#socket = socket;
    let spoke = false;
    socket.onmessage = (event) => {
      const message = parse(event.data);
      if (message === null) return this.#lost(socket, spoke);
      this.#watch(socket);
      try {
        this.#seams.onMessage(message);
      } catch (error) {
        console.error("a message of the server could not be read", error);
        this.#unreadable = true;
        this.#seams.onLink("unreadable", null);
        return this.#lost(socket, true);
      }
      if (spoke) return;
      spoke = true;
      this.#unreadable = false;
      this.#everLive = true;
      this.#refused = false;
      this.#attempts = 0;
      this.#seams.onLink("live", null);
    };
    socket.onclose = () => this.#lost(socket, spoke);
    this.#watch(socket);
  }

  #watch(socket: Socket): void {
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(socket, true), SILENCE_MAX_MS);
  }

  #lost(socket: Socket, spoke: boolean): void {
    if (this.#socket !== socket) return;
    this.#drop();
    if (this.#stopped) return;
    const pause_ms = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#attempts) * (0.75 + 0.25 * this.#seams.random());
    this.#attempts += 1;
    if (!this.#refused && !this.#unreadable) this.#seams.onLink(this.#everLive ? "reconnecting" : "connecting", pause_ms);
    this.#retry = setTimeout(() => this.#open(), pause_ms);
    if (!spoke) void this.#askWhy();
  }

  /** A browser does not say why a WebSocket was refused; a plain request does. */
  async #askWhy(): Promise<void> {
    const status = await this.#seams.probe();
    if (this.#stopped || this.#socket !== null) return;
    this.#refused = status === 401 || status === 403;
    if (this.#refused) this.#seams.onLink("unauthorised", null);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }

  #clear(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
  }
}

/** Null for what is not one of the stream's messages. */
function parse(data: unknown): StreamMessage | null {
  if (typeof data !== "string") return null;
  try {
    const message = JSON.parse(data) as StreamMessage;
    return ["snapshot", "resumed", "delta", "beat", "catching_up"].includes(message.type) ? message : null;
  } catch {
    return null;
  }
}
