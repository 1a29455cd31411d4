/**
 * Result codes of the engine: 0 or a negative errno value, as the documented functions return them.
 *
 * @module
 */

/** Success. */
export const OK = 0;
/** No such device or address: a frame could not be translated. */
export const ENXIO = -6;
/** Out of memory, and nothing could be reclaimed. */
export const ENOMEM = -12;
/** Access to an address outside the vGPU's windows. */
export const EACCES = -13;
/** Guest memory could not be read. */
export const EFAULT = -14;
/** Not in this state: already initialised, or still in use. */
export const EBUSY = -16;
/** The platform is not supported, or the engine is not initialised. */
export const ENODEV = -19;
/** Invalid argument. */
export const EINVAL = -22;
