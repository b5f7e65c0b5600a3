// Which answers of the terminal belong to the past?
//
// Output can ask the terminal something (what are you, where is the cursor, which colour is the ground), and xterm.js
// answers by input. What a new connection is sent first was printed before: whoever asked has had its answer, or has
// gone, and a second one would be typed into the shell. The stream has no mark where the past ends, so it lasts until
// the stream has been quiet for a moment, at most some seconds. Keys go through all the while.

const QUIET_MS = 500;
const PAST_MS_MAX = 10_000;

/**
 * CSI … c n R t u y and $y, focus reports, OSC and DCS strings. Of all keys only F3 with a modifier looks like one
 * (CSI 1;2 R): it is lost in that moment.
 */
const ANSWER = /^\x1b(?:\[[?>=]?[\d;:]*\$?[cnRtuyIO]$|[\]P].)/s;

export class Replay {
  private ends = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private past = false;

  /** A connection to a terminal that had others before: what comes first is the past. */
  begin(): void {
    this.past = true;
    this.ends = performance.now() + PAST_MS_MAX;
    this.endAfter(PAST_MS_MAX);
  }

  /** A connection to a new terminal: whoever asks waits for the answer now. */
  none(): void {
    this.endAfter(0);
    this.past = false;
  }

  /** Output was parsed. */
  parsed(): void {
    if (this.past) this.endAfter(Math.min(QUIET_MS, this.ends - performance.now()));
  }

  /** Whether `input` may go to the shell. */
  admits(input: string): boolean {
    return !this.past || !ANSWER.test(input);
  }

  private endAfter(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.past = false), ms);
  }
}
