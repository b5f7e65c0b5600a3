// What is on the screen, and what comes from the keyboard?
//
//   socket ─► output ─► xterm.js ─► answers ─► Replay ─┐
//                       keys, paste, mouse ────────────┴─► input
//   window ─► fit, debounced ─► size

import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { Terminal } from "@xterm/xterm";
import type { Size } from "./api";
import { Replay } from "./replay";
import { follow } from "./theme";

const SETTLE_MS = 100;
const SCROLLBACK_LINES_MAX = 10_000;
/** Of output that is not parsed yet. Beyond it the program outruns the browser. */
const PENDING_BYTES_MAX = 16 << 20;
/** RIS: back to a new terminal. Written in order with the output, and it ends a sequence that was cut short. */
const RESET = new Uint8Array([0x1b, 0x63]);

export interface Keyboard {
  input(bytes: Uint8Array<ArrayBuffer>): void;
  resized(size: Size): void;
}

export class Screen {
  private readonly terminal: Terminal;
  private readonly fit = new FitAddon();
  private readonly replay = new Replay();
  private pending = 0;
  private stale = false;

  constructor(element: HTMLElement, keyboard: Keyboard) {
    this.terminal = new Terminal({
      allowProposedApi: true, // What addon-unicode11 stands on.
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace',
      minimumContrastRatio: 4.5,
      scrollback: SCROLLBACK_LINES_MAX,
    });
    this.terminal.loadAddon(this.fit);
    this.terminal.loadAddon(new Unicode11Addon());
    // Programs in the sandbox count an emoji as two columns, xterm.js by itself as one.
    this.terminal.unicode.activeVersion = "11";
    follow((theme) => (this.terminal.options.theme = theme));
    this.terminal.open(element);
    this.refit();
    const encoder = new TextEncoder();
    this.terminal.onData((text) => {
      if (this.replay.admits(text)) keyboard.input(encoder.encode(text));
    });
    this.terminal.onBinary((bytes) => keyboard.input(Uint8Array.from(bytes, (c) => c.charCodeAt(0))));
    this.terminal.onResize(({ cols, rows }) => keyboard.resized({ cols, rows }));
    this.terminal.attachCustomKeyEventHandler((event) => !this.copies(event));
    let settled: ReturnType<typeof setTimeout> | undefined;
    new ResizeObserver(() => {
      clearTimeout(settled);
      settled = setTimeout(() => this.refit(), SETTLE_MS);
    }).observe(element);
  }

  get size(): Size {
    return { cols: this.terminal.cols, rows: this.terminal.rows };
  }

  focus(): void {
    this.terminal.focus();
  }

  /** A connection is there. What is shown stays until its first output, so that nothing flickers. */
  begin(kind: "new" | "known"): void {
    this.stale = true;
    if (kind === "new") this.replay.none();
    else this.replay.begin();
  }

  /** Shows output; false where so much waits that the connection should be dropped. */
  output(bytes: Uint8Array): boolean {
    if (this.stale) {
      // Everything that is kept is sent again: what was there before would be there twice.
      this.stale = false;
      this.terminal.write(RESET);
    }
    this.pending += bytes.length;
    this.terminal.write(bytes, () => {
      this.pending -= bytes.length;
      this.replay.parsed();
    });
    return this.pending <= PENDING_BYTES_MAX;
  }

  /** Resolves when all output so far has been parsed. */
  settled(): Promise<void> {
    return new Promise((resolve) => this.terminal.write("", resolve));
  }

  private refit(): void {
    this.terminal.options.fontSize = innerWidth < 480 ? 12 : 14;
    this.fit.fit();
  }

  /** Ctrl+Shift+C, as terminals have it. The others (Ctrl+Insert, Shift+Insert, Ctrl+Shift+V, Cmd) are the browser's. */
  private copies(event: KeyboardEvent): boolean {
    const wanted = event.ctrlKey && event.shiftKey && !event.altKey && event.code === "KeyC";
    if (wanted && event.type === "keydown") {
      event.preventDefault();
      // navigator.clipboard is missing on a plain http address; this fires the event that xterm.js fills.
      if (this.terminal.hasSelection()) document.execCommand("copy");
    }
    return wanted;
  }
}
