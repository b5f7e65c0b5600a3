// Which colours does the terminal have, by day and by night?

import type { ITheme } from "@xterm/xterm";

const light: ITheme = {
  background: "#ffffff",
  foreground: "#1f2328",
  cursor: "#1f2328",
  cursorAccent: "#ffffff",
  selectionBackground: "#b6d4fe",
  selectionInactiveBackground: "#d8dee4",
  scrollbarSliderBackground: "#57606a55",
  scrollbarSliderHoverBackground: "#57606a88",
  scrollbarSliderActiveBackground: "#57606aaa",
  black: "#24292f",
  red: "#cf222e",
  green: "#116329",
  yellow: "#7d4e00",
  blue: "#0550ae",
  magenta: "#8250df",
  cyan: "#1b7c83",
  white: "#d0d7de",
  brightBlack: "#57606a",
  brightRed: "#a40e26",
  brightGreen: "#1a7f37",
  brightYellow: "#9a6700",
  brightBlue: "#0969da",
  brightMagenta: "#6639ba",
  brightCyan: "#3192aa",
  brightWhite: "#f6f8fa",
};

const dark: ITheme = {
  background: "#101418",
  foreground: "#e6e9ed",
  cursor: "#e6e9ed",
  cursorAccent: "#101418",
  selectionBackground: "#2f4f7f",
  selectionInactiveBackground: "#343c46",
  scrollbarSliderBackground: "#a3adb855",
  scrollbarSliderHoverBackground: "#a3adb888",
  scrollbarSliderActiveBackground: "#a3adb8aa",
  black: "#2a313a",
  red: "#ff7b72",
  green: "#4cc26a",
  yellow: "#e3b341",
  blue: "#6cb0ff",
  magenta: "#c99bff",
  cyan: "#4fc4cf",
  white: "#c3cad2",
  brightBlack: "#7d8894",
  brightRed: "#ffa198",
  brightGreen: "#6fdd8b",
  brightYellow: "#f2cc60",
  brightBlue: "#9cc9ff",
  brightMagenta: "#ddbdff",
  brightCyan: "#7fdbe4",
  brightWhite: "#ffffff",
};

/** Gives the theme that the system asks for, now and whenever it changes its mind. */
export function follow(use: (theme: ITheme) => void): void {
  const night = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => use(night.matches ? dark : light);
  night.addEventListener("change", apply);
  apply();
}
