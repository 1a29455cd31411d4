/**
 * What a vGPU looks like: its sizes and identity, as options with checked ranges.
 *
 * @module
 */

import { GraphicsMemory } from "../gtt/address.ts";

/** One mebibyte, in bytes. */
export const MIB = 1 << 20;

/** Size of the GPU's whole graphics memory, bytes: config register 0x50 says so to the guest. */
export const GRAPHICS_MEMORY_SIZE = 4096 * MIB;

/** Size of the host's aperture and of region 2, bytes. */
export const HOST_APERTURE_SIZE = 256 * MIB;

/** Fence registers of the GPU: a vGPU cannot have more. */
export const MAX_FENCES = 32;

/** Options of a vGPU. Addresses and sizes are in bytes and page aligned. */
export interface VgpuOptions {
  /** PCI device id, 0..0xffff. Default 0x1912, a Skylake desktop GT2. */
  readonly deviceId?: number;
  /** Where the vGPU's part of the aperture begins. Default 64 MiB. */
  readonly apertureBase?: number;
  /** Size of that part. Default 64 MiB. */
  readonly apertureSize?: number;
  /** Where the vGPU's hidden part begins, at or above the host aperture's end. Default 640 MiB. */
  readonly hiddenBase?: number;
  /** Size of that part. Default 384 MiB. */
  readonly hiddenSize?: number;
  /** Fence registers, 0..32. Default 4. */
  readonly fences?: number;
  /** Whether guests may use pages of 64 KiB and 2 MiB (`engine.md` §17), and are told so. Default false. */
  readonly hugePages?: boolean;
}

/** Options with every default filled in. */
export type VgpuConfig = Required<VgpuOptions>;

/** The values of options that are not given. */
export const DEFAULT_VGPU: VgpuConfig = {
  deviceId: 0x1912,
  apertureBase: 64 * MIB,
  apertureSize: 64 * MIB,
  hiddenBase: 640 * MIB,
  hiddenSize: 384 * MIB,
  fences: 4,
  hugePages: false,
};

/**
 * Fills in defaults and checks the ranges that {@linkcode GraphicsMemory} does not.
 *
 * @param options What differs from {@linkcode DEFAULT_VGPU}.
 * @returns The whole configuration.
 * @throws {RangeError} Saying which option is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { vgpuConfig } from "./vgpu_options.ts";
 *
 * assertEquals(vgpuConfig({}).deviceId, 0x1912);
 * assertThrows(() => vgpuConfig({ fences: 33 }), RangeError, "fences must be 0..32");
 * ```
 */
export function vgpuConfig(options: VgpuOptions): VgpuConfig {
  const config = { ...DEFAULT_VGPU, ...options };
  if (!Number.isInteger(config.deviceId) || config.deviceId < 0 || config.deviceId > 0xffff) {
    throw new RangeError(`deviceId must be 0..0xffff: got ${config.deviceId}`);
  }
  if (!Number.isInteger(config.fences) || config.fences < 0 || config.fences > MAX_FENCES) {
    throw new RangeError(`fences must be 0..${MAX_FENCES}: got ${config.fences}`);
  }
  if (config.hiddenSize > 0 && config.hiddenBase < HOST_APERTURE_SIZE) {
    throw new RangeError(
      `the hidden part must begin at or above ${HOST_APERTURE_SIZE / MIB} MiB, the aperture's end`,
    );
  }
  return config;
}

/**
 * The graphics memory of a vGPU: 4 GiB, of which its windows are its own.
 *
 * @param config Where the windows lie.
 * @returns The windows, checked.
 * @throws {RangeError} When a window does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { graphicsMemory, MIB, vgpuConfig } from "./vgpu_options.ts";
 *
 * assertEquals(graphicsMemory(vgpuConfig({})).isValid(64 * MIB), true);
 * const config = vgpuConfig({ apertureBase: 224 * MIB });
 * assertThrows(() => graphicsMemory(config), RangeError, "beyond the host aperture");
 * ```
 */
export function graphicsMemory(config: VgpuConfig): GraphicsMemory {
  const { apertureBase, apertureSize, hiddenBase, hiddenSize } = config;
  return new GraphicsMemory({
    apertureBase,
    apertureSize,
    hiddenBase,
    hiddenSize,
    total: GRAPHICS_MEMORY_SIZE,
    mappableEnd: HOST_APERTURE_SIZE,
  });
}
