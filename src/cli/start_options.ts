/**
 * The options of `start`, named as is usual for device processes.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { DEFAULT_VGPU, MIB, type VgpuOptions } from "../vgpu/vgpu_options.ts";
import { type LogOptions, parseLogOptions } from "./log.ts";
import { UsageError } from "./usage.ts";
import { userPath } from "./user_path.ts";

/** What `start --help` prints. */
export const START_USAGE = `Usage: deno task start [OPTION]…

Runs the device until SIGTERM or SIGINT.

  --socket-path PATH     listen on this Unix socket (default $XDG_RUNTIME_DIR/vgtt.sock, else /tmp/vgtt.sock; with
                         --vfio-user-path none)
  --vfio-user-path PATH  let a hypervisor attach here as to a vfio-user device
  --fd N                 listen on this inherited socket instead, which must be listening already
  --socket-mode MODE     permission bits of the socket, octal (default 0600)
  --metrics-path PATH    answer scrapes by Prometheus on this Unix socket: HTTP, GET /metrics
  --metrics-listen HOST:PORT  the same over TCP; HOST is 127.0.0.1 if only a port is given
  --record FILE          write everything that comes in to a new file, for deno task replay; guest memory that the
                         device reads is in it, so it is yours alone (mode 0600)
  --pid-file PATH        write the process id there, removed at the end
  --log KEY=VALUE,…      format=text|json, level=debug|info|warn|error (default format=text,level=info)
  --device ID            PCI device id, hexadecimal (default 0x1912)
  --aperture SIZE[@BASE] the vGPU's part of the aperture (default 64M@64M)
  --hidden SIZE[@BASE]   the vGPU's hidden graphics memory (default 384M@640M)
  --fences N             fence registers, 0..32 (default 4)
  --oos                  let page-table pages that are written often go out of sync
  --huge-pages           offer guests pages of 64 KiB and 2 MiB
  --verify               compare what engines use of shadow tables with the guest's own; log what differs
  --debug                allow fault injection and other debug methods
  --print-capabilities   print what this program can do, as JSON, and exit
  --help                 print this text and exit
`;

/** What `start` is asked to do. */
export interface StartOptions {
  /** Print this text and exit. */
  readonly print: "capabilities" | "help" | null;
  /** Path of the socket on which MessagePack-RPC is spoken; `null`: {@linkcode fd}, or none. */
  readonly socketPath: string | null;
  /** Path of the socket on which vfio-user is spoken, or `null`. */
  readonly vfioUserPath: string | null;
  /** Inherited descriptor, or `null`. */
  readonly fd: number | null;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** Path of the Unix socket on which metrics can be scraped, or `null`. */
  readonly metricsPath: string | null;
  /** Address on which metrics can be scraped, or `null`. */
  readonly metricsListen: { readonly hostname: string; readonly port: number } | null;
  /** The file to record to, or `null`. */
  readonly record: string | null;
  /** Where to write the process id. */
  readonly pidFile: string | null;
  /** How to log. */
  readonly log: LogOptions;
  /** Sizes and identity of the vGPU. */
  readonly vgpu: VgpuOptions;
  /** Whether pages may go out of sync. */
  readonly oos: boolean;
  /** Whether page tables are compared with the guest's before each workload. */
  readonly verify: boolean;
  /** Whether debug methods are there. */
  readonly debug: boolean;
}

const STRINGS = [
  "socket-path",
  "vfio-user-path",
  "fd",
  "socket-mode",
  "metrics-path",
  "metrics-listen",
  "record",
  "pid-file",
  "log",
  "device",
  "aperture",
  "hidden",
  "fences",
] as const;
const BOOLEANS = ["oos", "huge-pages", "verify", "debug", "print-capabilities", "help"] as const;

/**
 * Reads the options of `start`.
 *
 * @param args What follows `start`.
 * @param defaultSocket Answers the path to listen on if none is given.
 * @throws {UsageError} Saying which option is wrong.
 */
export function parseStartOptions(args: readonly string[], defaultSocket: () => string): StartOptions {
  const strangers: string[] = [];
  const parsed = parseArgs(args, {
    string: STRINGS,
    boolean: BOOLEANS,
    unknown: (arg) => void strangers.push(arg),
  });
  const print = parsed["print-capabilities"] === true
    ? "capabilities"
    : parsed["help"] === true
    ? "help"
    : null;
  const valued = args.find((arg) => BOOLEANS.some((name) => arg.startsWith(`--${name}=`)));
  if (print === null && valued !== undefined) throw new UsageError(`${valued}: this option takes no value`);
  // Asked what it can do, a device process ignores everything else.
  if (print === null && strangers.length > 0) {
    throw new UsageError(`start does not know ${JSON.stringify(strangers[0])}: see deno task start --help`);
  }
  const text = (name: typeof STRINGS[number]) => {
    const value = parsed[name];
    if (value === "" && print === null) {
      throw new UsageError(`--${name} needs a value: see deno task start --help`);
    }
    return typeof value === "string" && print === null ? value : null;
  };
  const path = (name: "socket-path" | "vfio-user-path" | "metrics-path" | "record" | "pid-file") => {
    const given = text(name);
    return given === null ? null : userPath(given);
  };
  const socketPath = path("socket-path");
  const vfioUserPath = path("vfio-user-path");
  const fd = text("fd");
  if (socketPath !== null && socketPath === vfioUserPath) {
    throw new UsageError("--socket-path and --vfio-user-path need different paths");
  }
  const metricsPath = path("metrics-path");
  const metricsListen = text("metrics-listen");
  if (metricsPath !== null && (metricsPath === socketPath || metricsPath === vfioUserPath)) {
    throw new UsageError("--metrics-path needs a path of its own");
  }
  if (
    (metricsPath ?? metricsListen) !== null && vfioUserPath !== null && socketPath === null && fd === null
  ) {
    throw new UsageError("metrics are asked for over the device's other socket: add --socket-path PATH");
  }
  if (socketPath !== null && fd !== null) throw new UsageError("--socket-path and --fd exclude each other");
  if (fd !== null && text("socket-mode") !== null) {
    throw new UsageError(
      "--socket-mode is for a socket that the device makes: with --fd it has its mode already",
    );
  }
  return {
    print,
    socketPath: socketPath ??
      (fd === null && vfioUserPath === null && print === null ? defaultSocket() : null),
    vfioUserPath,
    fd: fd === null ? null : integer("fd", fd),
    socketMode: mode(text("socket-mode") ?? "0600"),
    metricsPath,
    metricsListen: metricsListen === null ? null : tcpAddress("metrics-listen", metricsListen),
    record: path("record"),
    pidFile: path("pid-file"),
    log: parseLogOptions(text("log") ?? ""),
    vgpu: { ...vgpuOptions(text), hugePages: parsed["huge-pages"] === true },
    oos: parsed["oos"] === true,
    verify: parsed["verify"] === true,
    debug: parsed["debug"] === true,
  };
}

function vgpuOptions(text: (name: typeof STRINGS[number]) => string | null): VgpuOptions {
  const device = text("device");
  const fences = text("fences");
  const aperture = window("aperture", text("aperture"), DEFAULT_VGPU.apertureSize, DEFAULT_VGPU.apertureBase);
  const hidden = window("hidden", text("hidden"), DEFAULT_VGPU.hiddenSize, DEFAULT_VGPU.hiddenBase);
  return {
    deviceId: device === null ? DEFAULT_VGPU.deviceId : pciId("device", device),
    apertureSize: aperture.size,
    apertureBase: aperture.base,
    hiddenSize: hidden.size,
    hiddenBase: hidden.base,
    fences: fences === null ? DEFAULT_VGPU.fences : integer("fences", fences),
  };
}

/** A non-negative integer, decimal or hexadecimal. */
function integer(name: string, text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) {
    throw new UsageError(`--${name} must be a number: got ${JSON.stringify(text)}`);
  }
  return value;
}

/** A PCI id: hexadecimal, as everywhere, with or without 0x. */
function pciId(name: string, text: string): number {
  const [, digits] = /^(?:0x)?([0-9a-f]{1,4})$/i.exec(text) ?? [];
  if (digits === undefined) {
    throw new UsageError(`--${name} must be a PCI id such as 0x1912: got ${JSON.stringify(text)}`);
  }
  return parseInt(digits, 16);
}

/** A TCP address, e.g. `9400` or `[::1]:9400`; of this machine alone if no host is named. */
function tcpAddress(name: string, text: string): { hostname: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/i.exec(text) ??
    [];
  const port = Number(digits);
  if (!(port <= 0xffff)) {
    throw new UsageError(`--${name} must be HOST:PORT or PORT: got ${JSON.stringify(text)}`);
  }
  return { hostname: bracketed ?? plain ?? "127.0.0.1", port };
}

/** Permission bits in octal. */
function mode(text: string): number {
  if (!/^[0-7]{3,4}$/.test(text)) {
    throw new UsageError(`--socket-mode must be octal, e.g. 0660: got ${JSON.stringify(text)}`);
  }
  return parseInt(text, 8);
}

/** A size with an optional base, e.g. `64M@128M`. */
function window(
  name: string,
  text: string | null,
  size: number,
  base: number,
): { size: number; base: number } {
  if (text === null) return { size, base };
  const [sizeText, baseText, ...more] = text.split("@");
  if (more.length > 0) throw new UsageError(`--${name} must be SIZE[@BASE]: got ${JSON.stringify(text)}`);
  return {
    size: bytes(name, sizeText!, text),
    base: baseText === undefined ? base : bytes(name, baseText, text),
  };
}

/** A number of bytes: an integer, or one with K, M or G. */
function bytes(name: string, text: string, whole: string): number {
  const [, digits, unit] = /^(0x[0-9a-f]+|\d+)([KMG]?)$/i.exec(text) ?? [];
  if (digits === undefined) {
    throw new UsageError(`--${name} must be SIZE[@BASE], such as 64M@128M: got ${JSON.stringify(whole)}`);
  }
  const factor = { "": 1, K: 1024, M: MIB, G: 1024 * MIB }[unit!.toUpperCase()]!;
  return Number(digits) * factor;
}
