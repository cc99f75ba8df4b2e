import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Position, StreamMessage } from "../api";
import { RETRY_FIRST_MS, RETRY_MAX_MS, SILENCE_MAX_MS, Stream, type Link, type Socket } from "./stream";

const BEAT = JSON.stringify({ type: "beat", position: { events: 1, observations: 2 }, now: "2026-11-20T12:00:00Z" });

class World {
  sockets: (Socket & { closed: boolean })[] = [];
  asked: (Position | null)[] = [];
  links: Link[] = [];
  messages: StreamMessage[] = [];
  position: Position | null = null;
  status = 200;
  throws = false;
  stream = new Stream({
    connect: (after) => {
      this.asked.push(after);
      const socket = {
        onopen: null,
        onmessage: null,
        onclose: null,
        closed: false,
        close() {
          this.closed = true;
        },
      };
      this.sockets.push(socket);
      return socket;
    },
    probe: async () => this.status,
    position: () => this.position,
    onMessage: (message) => {
      if (this.throws) throw new Error("the view cannot take it");
      this.messages.push(message);
    },
    onLink: (link) => this.links.push(link),
    random: () => 1,
  });

  get last(): Socket & { closed: boolean } {
    return this.sockets.at(-1) as Socket & { closed: boolean };
  }
  say(text: string): void {
    this.last.onmessage?.({ data: text });
  }
  hangUp(): void {
    this.last.onclose?.();
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("stream", () => {
  it("is live once something was said, and not before", () => {
    const world = new World();
    world.stream.start();
    expect(world.links).toEqual(["connecting"]);
    world.say(BEAT);
    expect(world.links).toEqual(["connecting", "live"]);
    expect(world.messages).toHaveLength(1);
  });

  it("is not live under a message that the view cannot take, and asks for a whole state", async () => {
    const world = new World();
    world.position = { events: 7, observations: 7 };
    world.stream.start();
    world.say(BEAT);
    world.throws = true;
    world.say(BEAT);
    expect(world.links.at(-1)).toBe("unreadable");
    await vi.advanceTimersByTimeAsync(RETRY_MAX_MS);
    expect(world.links.at(-1), "a line alone makes nothing readable").toBe("unreadable");
    expect(world.asked).toEqual([world.position, null]);
    world.say(BEAT);
    expect(world.links.at(-1), "still").toBe("unreadable");
    world.throws = false;
    await vi.advanceTimersByTimeAsync(RETRY_MAX_MS);
    world.say(BEAT);
    expect(world.links.at(-1)).toBe("live");
  });

  it("waits longer after each failure, up to its limit, and starts over after a success", async () => {
    const world = new World();
    world.stream.start();
    const pauses: number[] = [];
    for (let round = 0; round < 7; round++) {
      world.hangUp();
      const before = Date.now();
      await vi.advanceTimersToNextTimerAsync();
      pauses.push(Date.now() - before);
    }
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, RETRY_MAX_MS, RETRY_MAX_MS]);
    world.say(BEAT);
    world.hangUp();
    await vi.advanceTimersByTimeAsync(RETRY_FIRST_MS);
    expect(world.sockets).toHaveLength(9);
  });

  it("resumes from where the view stands", async () => {
    const world = new World();
    world.stream.start();
    world.say(BEAT);
    world.position = { events: 7, observations: 70 };
    world.hangUp();
    await vi.advanceTimersByTimeAsync(RETRY_FIRST_MS);
    expect(world.asked).toEqual([null, { events: 7, observations: 70 }]);
    expect(world.links.at(-1)).toBe("reconnecting");
  });

  it("gives a silent line up", async () => {
    const world = new World();
    world.stream.start();
    world.say(BEAT);
    await vi.advanceTimersByTimeAsync(SILENCE_MAX_MS - 1);
    expect(world.last.closed).toBe(false);
    world.say(BEAT);
    await vi.advanceTimersByTimeAsync(SILENCE_MAX_MS - 1);
    expect(world.last.closed).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(world.last.closed).toBe(true);
    expect(world.links.at(-1)).toBe("reconnecting");
  });

  it("tells a refused login from a dead server, and recovers from it", async () => {
    const world = new World();
    world.status = 401;
    world.stream.start();
    world.hangUp();
    await vi.advanceTimersByTimeAsync(RETRY_FIRST_MS);
    expect(world.links.at(-1)).toBe("unauthorised");
    world.say(BEAT);
    expect(world.links.at(-1)).toBe("live");
  });

  it("wakes at once", () => {
    const world = new World();
    world.stream.start();
    world.say(BEAT);
    world.hangUp();
    world.stream.wake();
    expect(world.sockets).toHaveLength(2);
    world.stream.wake();
    expect(world.sockets).toHaveLength(2);
  });

  it("drops a line that speaks nonsense", () => {
    for (const nonsense of ["{", "null", '{"type":"other"}']) {
      const world = new World();
      world.stream.start();
      world.say(nonsense);
      expect(world.last.closed).toBe(true);
      expect(world.messages).toEqual([]);
    }
  });

  it("stays quiet after stop", async () => {
    const world = new World();
    world.stream.start();
    world.say(BEAT);
    world.stream.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(world.sockets).toHaveLength(1);
    expect(world.last.closed).toBe(true);
  });
});
