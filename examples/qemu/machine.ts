/**
 * The machine around the vGPU: QEMU's command line.
 *
 * @module
 */

import type { Emulator } from "./emulator.ts";

/** QEMU's machines that a vGPU is known to work in. */
export const MACHINES = ["pc", "q35"] as const;

/** A machine. */
export interface MachineOptions {
  /** Which of QEMU's. */
  readonly machine: (typeof MACHINES)[number];
  /** Size of its RAM, as QEMU takes it: `512M`. */
  readonly memory: string;
  /** How many processors it has. Default 1. */
  readonly cpus?: number;
  /** `true`: a memfd that the device can map too, as it must be. */
  readonly shared?: boolean;
  /** Path of the kernel. */
  readonly kernel: string;
  /** Path of the initramfs. */
  readonly initrd: string;
  /** The kernel's command line. */
  readonly append: string;
  /** Sockets of vGPUs, in slots 2, 3, …; QEMU connects to them when it starts. */
  readonly vgpus: readonly string[];
  /** Whether it uses KVM; otherwise every instruction of the guest is emulated. */
  readonly kvm?: boolean;
  /** Where the console, a monitor and the like are. */
  readonly more: readonly string[];
}

/** The slot of the first vGPU, where a processor's own graphics is. */
const FIRST_SLOT = 2;

/** The arguments that make QEMU this machine. */
export function machineArguments(emulator: Emulator, options: MachineOptions): string[] {
  const { machine, memory, cpus = 1, shared = true, kernel, initrd, append, vgpus, kvm = false, more } =
    options;
  const accelerator = kvm ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,thread=multi", "-cpu", "max"];
  const ram = `memory-backend-memfd,id=ram0,size=${memory},share=on`;
  const backend = shared ? ["-object", ram, "-machine", "memory-backend=ram0"] : [];
  return [
    ...emulator.args,
    ...["-machine", machine, ...accelerator, "-m", memory, "-smp", `${cpus}`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...more,
    ...backend,
    ...["-kernel", kernel, "-initrd", initrd, "-append", append],
    ...vgpus.flatMap((path, index) => ["-device", vgpuDevice(path, { addr: slot(FIRST_SLOT + index) })]),
  ];
}

/** QEMU's description of a vGPU: `-device` takes it as JSON, because the socket is a structure. */
export function vgpuDevice(path: string, properties: Readonly<Record<string, string>>): string {
  return JSON.stringify({ driver: "vfio-user-pci", ...properties, socket: { path, type: "unix" } });
}

function slot(number: number): string {
  return `${number.toString(16).padStart(2, "0")}.0`;
}
