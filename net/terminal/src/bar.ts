// What does the page say, and what can be pressed?

import type { State } from "./session";

export interface Actions {
  open(): void;
  retry(): void;
  start(): void;
  use(key: string): void;
  focus(): void;
}

type Tone = "good" | "busy" | "bad";
type Press = [label: string, act: () => void];

interface Said {
  tone: Tone;
  status: string;
  press?: Press;
  /** Where there is nothing to see behind it. */
  notice?: [title: string, text: string];
}

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

export class Bar {
  private readonly status = element("status");
  private readonly action = element<HTMLButtonElement>("action");
  private readonly panel = element("panel");
  private readonly form = element<HTMLFormElement>("key-form");
  private readonly input = element<HTMLInputElement>("key");
  private readonly notice = element("notice");
  private press: (() => void) | undefined;

  constructor(
    private readonly sandbox: string,
    private readonly actions: Actions,
  ) {
    element("sandbox").textContent = sandbox;
    this.action.addEventListener("click", () => this.press?.());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = this.input.value;
      this.input.value = "";
      actions.use(key);
    });
  }

  show(state: State): void {
    const said = this.say(state);
    document.body.dataset["state"] = state.is;
    document.body.dataset["tone"] = said.tone;
    this.status.textContent = said.status;
    this.status.title = said.status;
    const [label, act] = said.press ?? ["", undefined];
    const pressed = document.activeElement === this.action;
    this.action.hidden = !act;
    this.action.textContent = label;
    this.press = act;
    const keyless = state.is === "keyless";
    this.form.hidden = !keyless;
    this.notice.hidden = !said.notice;
    this.panel.hidden = !keyless && !said.notice;
    element("notice-title").textContent = said.notice?.[0] ?? "";
    element("notice-text").textContent = said.notice?.[1] ?? "";
    if (keyless) {
      element("key-wrong").textContent = state.refused ? "The server refused this key." : "";
      this.input.focus();
    } else if (act && state.is !== "waiting") {
      this.action.focus();
    } else if (state.is === "live" || (pressed && !act)) {
      this.actions.focus();
    }
  }

  private say(state: State): Said {
    const fresh: Press = ["New shell", this.actions.open];
    const again: Press = ["Try again", this.actions.start];
    switch (state.is) {
      case "opening":
        return { tone: "busy", status: "Opening a shell…" };
      case "joining":
        return { tone: "busy", status: "Connecting…" };
      case "live":
        return { tone: "good", status: "Connected" };
      case "waiting": {
        const why = state.why.replace(/^./, (first) => first.toUpperCase()).replace(/[^.?]$/, "$&.");
        return { tone: "busy", status: `${why} Reconnecting…`, press: ["Retry now", this.actions.retry] };
      }
      case "ended":
        return { tone: "bad", status: `The shell ended with exit code ${state.code}.`, press: fresh };
      case "gone": {
        const status = "This shell is gone: it ended or was closed.";
        return state.seen ? { tone: "bad", status, press: fresh } : { tone: "bad", status: "No shell", press: fresh, notice: ["Shell not found", status] };
      }
      case "keyless":
        return { tone: "bad", status: state.refused ? "Wrong API key" : "API key needed" };
      case "missing": {
        const text = `There is no sandbox ${this.sandbox}. It was deleted, or the address is wrong.`;
        return { tone: "bad", status: "Sandbox not found", press: again, notice: ["Sandbox not found", text] };
      }
      case "failed":
        return { tone: "bad", status: "No terminal", press: again, notice: [state.title, state.message] };
    }
  }
}
