/**
 * `inspect events`: what the guest announces, submits and does wrong, as it happens.
 *
 * @module
 */

import type { EventText } from "../../inspect/event_list.ts";
import { readEvents } from "../../observe/event_reader.ts";
import { EVENT_FIELDS } from "../../vgpu/event_log.ts";
import { EXIT_OK, UsageError } from "../usage.ts";
import type { InspectCommand, Request } from "./command.ts";
import { Interrupt } from "./interrupt.ts";
import { parseNumber } from "./numbers.ts";
import { type Output, type Tone, visible } from "./output.ts";
import { clientOf, openSource } from "./source.ts";

/** Pause between two questions, milliseconds. */
const PAUSE = 200;

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect events [--once] [--since N] [--kind KIND,…]

What happened lately and, until Ctrl-C, what happens: page tables that the guest announces,
submissions, what was synced, faults, resets. Each with its number, and when it was, seconds since
the device started; of a recording, since its replay started.

  --once               what happened until now, then end
  --since N            what came after event N
  --kind KIND,…        those only: attach, detach, ram, g2v, submit, complete, refuse, fault, command,
                       sync, tlb, reset, failsafe
`,
  example: `deno task inspect events --kind fault,refuse,failsafe`,
  json:
    `one line for each event: {"n": its number, "t": when, microseconds, "kind", "text", "values": {…}}; where the device no longer keeps some, {"lost": how many}.`,
  sources: ["socket", "recording"],
  strings: ["since", "kind"],
  booleans: ["once"],
  async run(request: Request): Promise<number> {
    const { source, text, has, output } = request;
    const kinds = kindsOf(text("kind"));
    let since = parseNumber(text("since") ?? "0", "--since");
    await using looked = await openSource(source);
    const client = clientOf(looked);
    // Nothing more happens in a recording.
    const isOnce = has("once") || source.kind === "recording";
    using interrupt = new Interrupt();
    do {
      const { last, lost, events } = await readEvents(client, since);
      since = last;
      const shown = events.filter(({ kind }) => kinds === null || kinds.includes(kind));
      tell(request, shown, lost);
    } while (!isOnce && !output.isClosed && await interrupt.pause(PAUSE));
    return EXIT_OK;
  },
};

const KINDS: readonly string[] = Object.keys(EVENT_FIELDS);

/** Kinds that tell of something wrong. */
const WRONG: readonly string[] = ["refuse", "fault", "command", "failsafe"];
const TONES: Readonly<Record<string, Tone>> = { attach: "strong", detach: "strong", reset: "warning" };

function kindsOf(text: string | undefined): readonly string[] | null {
  const kinds = text?.split(",") ?? null;
  const stranger = kinds?.find((kind) => !KINDS.includes(kind));
  if (stranger === undefined) return kinds;
  throw new UsageError(`--kind takes ${KINDS.join(", ")}: got ${JSON.stringify(stranger)}`);
}

function tell({ json, output }: Request, events: readonly EventText[], lost: number): void {
  if (lost > 0) {
    if (json) output.json({ lost });
    else output.line(output.paint("warning", `(${lost} events are no longer kept)`));
  }
  if (json) { for (const event of events) output.json(event); }
  else output.lines(events.map((event) => eventLine(event, output)));
}

function eventLine({ n, t, kind, text }: EventText, output: Output): string {
  const isWrong = WRONG.includes(kind);
  const tone = isWrong ? "wrong" : TONES[kind];
  const line = `${isWrong ? "!" : " "} ${visible(kind).padEnd(8)}  ${visible(text)}`;
  const when = output.paint("dim", `${String(n).padStart(6)} ${(t / 1e6).toFixed(6).padStart(12)}`);
  return `${when} ${tone === undefined ? line : output.paint(tone, line)}`;
}
