// How does the page stay joined to one shell?
//
//                 ┌────────── no id ─► opening ──┐
//   start ────────┤                              ├─► joining ─► live ─► exit ─► ended
//                 └─ id in the address ──────────┘      ▲        │
//                                                       │        ▼ dropped: ask why
//                                                    waiting ◄───┴─► gone · keyless · failed
//
// A browser does not say why a WebSocket failed, so a plain request asks after each drop.

import { type Api, Refused, type Size, key } from "./api";

const JOIN_MS_MAX = 15_000;
/** Between two pings. Each is answered: who said nothing since the last one is not there any more. */
const PING_MS = 20_000;
const DELAY_MS_MIN = 500;
const DELAY_MS_MAX = 10_000;
/** A connection that held this long has healed. */
const HEALED_MS = 5_000;
const SANDBOX_NOT_FOUND = 2001;
const LOST = "Connection lost";
const BLOCKED = "The shell is there, but no WebSocket reaches it: does a proxy refuse them?";
/** Drops in a row without a connection, after which the cause is looked for in between. */
const REFUSALS_MAX = 3;
const TITLES: Record<number, string> = {
  0: "No answer",
  403: "Forbidden origin",
  409: "The sandbox is not running",
  429: "Too many terminals",
};

export type State =
  | { is: "opening" | "joining" | "live" | "missing" }
  | { is: "waiting"; why: string }
  | { is: "ended"; code: number }
  | { is: "gone"; seen: boolean }
  | { is: "keyless"; refused: boolean }
  | { is: "failed"; title: string; message: string };

export interface View {
  readonly size: Size;
  begin(kind: "new" | "known"): void;
  output(bytes: Uint8Array): boolean;
  settled(): Promise<void>;
}

/** Where the id of the shell is kept: a reload, and whoever is given the address, finds the same one. */
export interface Memory {
  get(): string;
  set(pty: string): void;
}

export class Session {
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private attempts = 0;
  /** Of drops in a row before which no connection came to be, though the terminal is there. */
  private refusals = 0;
  private exit: number | undefined;
  /** Whether the screen shows something of the shell that is remembered. */
  private seen = false;
  private sent: Size = { cols: 0, rows: 0 };

  constructor(
    private readonly api: Api,
    private readonly memory: Memory,
    private readonly view: View,
    private readonly show: (state: State) => void,
  ) {}

  /** Joins the shell that is remembered, else a new one. */
  start(): void {
    if (!this.memory.get()) return void this.open();
    this.show({ is: "joining" });
    this.join("known");
  }

  /** Opens a new shell. */
  async open(): Promise<void> {
    this.memory.set("");
    this.show({ is: "opening" });
    try {
      this.sent = this.view.size;
      this.memory.set(await this.api.open(this.sent));
      this.show({ is: "joining" });
      this.join("new");
    } catch (error) {
      this.refuse(error, key.get());
    }
  }

  /** Ends a wait. */
  retry(): void {
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.join("known");
  }

  input(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(bytes);
  }

  resized(size: Size): void {
    const same = size.cols === this.sent.cols && size.rows === this.sent.rows;
    if (same || this.socket?.readyState !== WebSocket.OPEN) return;
    this.sent = size;
    this.socket.send(JSON.stringify({ type: "resize", ...size }));
  }

  private join(kind: "new" | "known"): void {
    this.exit = undefined;
    const socket = (this.socket = this.api.join(this.memory.get()));
    let opened = 0;
    let heard = true;
    let ping: ReturnType<typeof setInterval> | undefined;
    // Closing waits for an answer, and the other end may be gone: whatever comes first ends it, and once.
    const drop = () => {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      clearTimeout(late);
      clearInterval(ping);
      if (opened && performance.now() - opened > HEALED_MS) this.attempts = 0;
      this.refusals = opened ? 0 : this.refusals + 1;
      void this.dropped();
    };
    const late = setTimeout(drop, JOIN_MS_MAX);
    socket.onopen = () => {
      clearTimeout(late);
      opened = performance.now();
      ping = setInterval(() => {
        if (!heard) return drop();
        heard = false;
        socket.send(JSON.stringify({ type: "ping" }));
      }, PING_MS);
      if (kind === "known") this.sent = { cols: 0, rows: 0 };
      this.view.begin(kind);
      this.seen = true;
      this.resized(this.view.size);
      this.show({ is: "live" });
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      heard = true;
      if (typeof data === "string") this.control(data);
      // A program that outruns the browser: what it prints now is seen after joining again.
      else if (!this.view.output(new Uint8Array(data))) drop();
    };
    socket.onclose = drop;
  }

  private control(text: string): void {
    const message = JSON.parse(text) as { type: string; code: number };
    if (message.type === "exit") this.exit = message.code;
  }

  private async dropped(): Promise<void> {
    this.socket = undefined;
    await this.view.settled();
    if (this.exit !== undefined) return this.end({ is: "ended", code: this.exit });
    const asked = key.get();
    this.show({ is: "waiting", why: LOST });
    try {
      if (await this.api.has(this.memory.get())) this.wait(this.refusals > REFUSALS_MAX ? BLOCKED : LOST);
      else this.end({ is: "gone", seen: this.seen });
    } catch (error) {
      this.refuse(error, asked);
    }
  }

  /** A shell that has ended is not looked for again. */
  private end(state: State): void {
    this.memory.set("");
    this.show(state);
  }

  private refuse(error: unknown, asked: string): void {
    const { status, code, retryable, message } = error instanceof Refused ? error : new Refused(0, 0, false, String(error));
    if (status === 401) this.show({ is: "keyless", refused: asked !== "" });
    else if (code === SANDBOX_NOT_FOUND) this.end({ is: "missing" });
    // Paused or stopping: it may come back, or be gone the next time.
    else if (this.memory.get() && status === 409) this.wait(message);
    else if (this.memory.get() && (retryable || status === 0 || status >= 500)) this.wait(LOST);
    else this.show({ is: "failed", title: TITLES[status] ?? "No terminal", message });
  }

  private wait(why: string): void {
    this.show({ is: "waiting", why });
    const delay = Math.min(DELAY_MS_MAX, DELAY_MS_MIN * 2 ** this.attempts);
    this.attempts += 1;
    // Spread, so that the pages of one server don't come back as one.
    this.timer = setTimeout(() => this.retry(), delay * (0.5 + Math.random() / 2));
  }
}
