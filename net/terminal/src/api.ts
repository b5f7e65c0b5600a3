// What does the page ask the server for, and how does it say who it is?

const KEY_NAME = "workspace.api-key";
const ANSWER_MS_MAX = 30_000;

export interface Size {
  cols: number;
  rows: number;
}

/** A request that did not do what it should. Status 0: no answer came. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    readonly retryable: boolean,
    message: string,
  ) {
    super(message);
  }
}

let kept = "";

/** The key of this tab: in its session storage and nowhere else. */
export const key = {
  get(): string {
    try {
      return sessionStorage.getItem(KEY_NAME) ?? "";
    } catch {
      return kept;
    }
  },
  set(value: string): void {
    kept = value;
    try {
      sessionStorage.setItem(KEY_NAME, value);
    } catch {
      // A browser that refuses storage asks again after a reload.
    }
  },
};

/** The routes of one sandbox's terminals. `base` is what stands before `/terminal/` where a proxy adds a path. */
export class Api {
  private readonly ptys: string;

  constructor(base: string, sandbox: string) {
    this.ptys = `${base}/api/v1/sandboxes/${sandbox}/pty`;
  }

  /** Opens a shell; gives its id. */
  async open(size: Size): Promise<string> {
    const opened = (await this.ask("POST", size)) as { id: string };
    return opened.id;
  }

  /** Whether the sandbox has this terminal. */
  async has(pty: string): Promise<boolean> {
    const { ptys } = (await this.ask("GET")) as { ptys: { id: string }[] };
    return ptys.some(({ id }) => id === pty);
  }

  /** A browser sends no header with a WebSocket: here, and only here, the key goes into an address. */
  join(pty: string): WebSocket {
    const url = new URL(`${this.ptys}/${encodeURIComponent(pty)}`, location.origin);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (key.get()) url.searchParams.set("api_key", key.get());
    const socket = new WebSocket(url, "workspace.pty.v1");
    socket.binaryType = "arraybuffer";
    return socket;
  }

  private async ask(method: string, body?: unknown): Promise<unknown> {
    const headers: Record<string, string> = {};
    if (key.get()) headers["X-API-Key"] = key.get();
    if (body) headers["Content-Type"] = "application/json";
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    let response: Response;
    let answer: unknown;
    try {
      response = await fetch(this.ptys, { method, headers, signal, body: body ? JSON.stringify(body) : null });
      answer = await response.json();
    } catch {
      throw new Refused(0, 0, true, "The server did not answer.");
    }
    if (response.ok) return answer;
    const { code = 0, message = response.statusText, retryable = false } = answer as Partial<Refused>;
    throw new Refused(response.status, code, retryable, message);
  }
}
