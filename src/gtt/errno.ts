/**
 * Result codes of the engine: 0 or a negative errno value, as the documented functions return them.
 *
 * @module
 */

/** Success. */
export const OK: number = 0;
/** No such device or address: a frame could not be translated. */
export const ENXIO: number = -6;
/** Out of memory, and nothing could be reclaimed. */
export const ENOMEM: number = -12;
/** Access to an address outside the vGPU's windows. */
export const EACCES: number = -13;
/** Guest memory could not be read. */
export const EFAULT: number = -14;
/** Not in this state: already initialised, or still in use. */
export const EBUSY: number = -16;
/** The platform is not supported, or the engine is not initialised. */
export const ENODEV: number = -19;
/** Invalid argument. */
export const EINVAL: number = -22;
