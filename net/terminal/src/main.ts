// The page: which sandbox is it about, and who speaks to whom?
//
//   address ─► Session ◄─► Api (requests, WebSocket)
//                │  ▲
//                ▼  │ keys, size
//         Bar   Screen

import { Api, key } from "./api";
import { Bar } from "./bar";
import { Screen } from "./screen";
import { Session } from "./session";

const HASH = /^#pty=([\w-]{1,64})$/;

const memory = {
  get: () => HASH.exec(location.hash)?.[1] ?? "",
  set: (pty: string) => history.replaceState(null, "", pty ? `#pty=${pty}` : location.pathname),
};

const [, base = "", sandbox = ""] = /^(.*)\/terminal\/([^/]+)$/.exec(location.pathname) ?? [];
document.title = `${decodeURIComponent(sandbox)} · Terminal`;

const screen = new Screen(document.getElementById("screen") as HTMLElement, {
  input: (bytes) => session.input(bytes),
  resized: (size) => session.resized(size),
});
const bar = new Bar(sandbox, {
  open: () => void session.open(),
  retry: () => session.retry(),
  start: () => session.start(),
  use: (value) => {
    key.set(value);
    session.start();
  },
  focus: () => screen.focus(),
});
const session = new Session(new Api(base, sandbox), memory, screen, (state) => bar.show(state));

addEventListener("online", () => session.retry());
addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") session.retry();
});
session.start();
