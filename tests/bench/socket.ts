/**
 * What the socket adds: round trips of a client in C with the device, against the same client's with an echo server in C,
 * which is the least that a server that waits in `read` takes; and posted stores a second.
 *
 * Client and server on *one* core is the row with the target. There a round trip is all work, none of it hidden: the
 * time of both programs, of the kernel's calls, and of going from one to the other and back. On *two* cores most of a
 * round trip is the time until a sleeping core wakes, for both servers alike, which flatters ours and on a virtual
 * machine is different each time; it is only reported. Stores that nobody waits for are another matter: client and device
 * work at the same time on two cores, as a virtual CPU and its device do, and that is the row with the limit.
 *
 * @module
 */

import { TempFolder } from "../scenarios/process.ts";
import { BATCH, type Conversation, conversation, type Protocol, writeConversation } from "./conversation.ts";
import { Native, type RoundTrips, type ServerProcess, startDevice } from "./native.ts";
import { median, nanoseconds, report, reportLimit, reportOnly } from "./sample.ts";

/** Round trips of one measurement. */
const COUNT = 2500;
/** Measurements of each server, in turn, so that what disturbs one disturbs the other. */
const TURNS = 3;
/** Loads that are timed at once in a session without a socket. */
const CALLS = 1000;
/** Rounds of all posted stores. */
const ROUNDS = 6;
/** The server's core, and the client's: the same, or the other one. */
const SERVER_CORE = 0;
const CLIENT_CORES = { "one core": 0, "two cores": 1 } as const;
type Placement = keyof typeof CLIENT_CORES;
const PLACEMENTS: readonly Placement[] = navigator.hardwareConcurrency > 1
  ? ["one core", "two cores"]
  : ["one core"];

const FILES = ["--allow-read", "--allow-write", "--allow-net"];
const LOOPS = { fast: [...FILES, "--allow-ffi"], portable: FILES } as const;
type Loop = keyof typeof LOOPS;

/** Ratios to reach, on one core. */
const TARGETS: Readonly<Record<string, number>> = {
  "mmio_read": 1.3,
  "REGION_READ": 1.2,
  "mmio_read, portable": 3,
};
/** Posted stores a second to reach, on two cores. */
const RATES: Readonly<Record<Protocol, number>> = { "rpc": 1.5e6, "vfio-user": 5e6 };

await using folder = new TempFolder();
const native = await Native.compile(folder.path);

/** What is said in one protocol, and the folder that it is in. */
function prepare(protocol: Protocol): Conversation & { readonly folder: string } {
  const path = `${folder.path}/${protocol}`;
  Deno.mkdirSync(path);
  const said = conversation(protocol);
  writeConversation(path, said);
  return { ...said, folder: path };
}

type Said = ReturnType<typeof prepare>;

/** Both servers' round trips, measured in turn. */
async function compare(
  said: Said,
  device: ServerProcess,
  echo: ServerProcess,
  placement: Placement,
): Promise<[ours: RoundTrips, floor: RoundTrips]> {
  const core = CLIENT_CORES[placement];
  const ours: RoundTrips[] = [];
  const floor: RoundTrips[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    floor.push(await native.ask(echo, said.folder, core, COUNT));
    ours.push(await native.ask(device, said.folder, core, COUNT));
  }
  return [middle(ours), middle(floor)];
}

/** The median of each figure. */
function middle(all: readonly RoundTrips[]): RoundTrips {
  const of = (figure: keyof RoundTrips) => median(all.map((each) => each[figure]));
  return { count: of("count"), p50: of("p50"), p99: of("p99"), longest: of("longest") };
}

async function roundTripRows(
  name: string,
  said: Said,
  device: ServerProcess,
  echo: ServerProcess,
): Promise<void> {
  for (const placement of PLACEMENTS) {
    const [ours, floor] = await compare(said, device, echo, placement);
    for (const part of ["p50", "p99"] as const) {
      report({
        name: `${name}, ${placement}, ${part}`,
        unit: "µs",
        ours: ours[part] / 1000,
        reference: floor[part] / 1000,
        against: "C echo",
        target: part === "p50" && placement === "one core" ? TARGETS[name] ?? null : null,
      });
    }
  }
}

async function postedRows(protocol: Protocol, said: Said, device: ServerProcess): Promise<void> {
  const rate = async (placement: Placement, piece: number, rounds: number) =>
    said.stores * 1e9 / await native.post(device, said.folder, CLIENT_CORES[placement], piece, rounds);
  for (const placement of PLACEMENTS) {
    const name = `stores posted over ${protocol}, ${BATCH} at once, ${placement}`;
    const stores = await rate(placement, said.batchBytes, ROUNDS);
    if (placement === PLACEMENTS.at(-1)) reportLimit(name, "/s", stores, RATES[protocol], true);
    else reportOnly(name, "/s", stores);
  }
  if (said.storeBytes === null) return;
  const alone = await rate("one core", said.storeBytes, 2);
  reportOnly(`stores posted over ${protocol}, each by itself, one core`, "/s", alone);
}

async function measure(name: string, said: Said, protocol: Protocol, loop: Loop): Promise<void> {
  const path = `${folder.path}/${protocol}-${loop}`;
  const option = protocol === "rpc" ? "--socket-path" : "--vfio-user-path";
  await using device = await startDevice(LOOPS[loop], option, path, SERVER_CORE);
  await using echo = await native.echo(`${path}-echo`, said.folder, SERVER_CORE);
  await roundTripRows(name, said, device, echo);
  if (loop === "fast") await postedRows(protocol, said, device);
}

/** What a load and a posted store take in the session and the device behind it, without a socket. */
function sessionRows(protocol: Protocol, { session, ask, posted, batchBytes, stores }: Conversation): void {
  const load = nanoseconds(CALLS, () => {
    for (let call = 0; call < CALLS; call++) {
      session.receive(ask);
      session.takeOutput();
    }
  });
  const store = nanoseconds(stores, () => {
    for (let at = 0; at < posted.length; at += batchBytes) {
      session.receive(posted.subarray(at, at + batchBytes));
    }
  });
  reportOnly(`load over ${protocol}, session alone`, "ns", load);
  reportOnly(`posted store over ${protocol}, session alone`, "ns", store);
}

const rpc = prepare("rpc");
const vfioUser = prepare("vfio-user");
await measure("mmio_read", rpc, "rpc", "fast");
await measure("REGION_READ", vfioUser, "vfio-user", "fast");
await measure("mmio_read, portable", rpc, "rpc", "portable");
sessionRows("rpc", rpc);
sessionRows("vfio-user", vfioUser);
