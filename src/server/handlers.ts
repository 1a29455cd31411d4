/**
 * What a table of method handlers looks like.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import * as errno from "../gtt/errno.ts";
import { RamError } from "../memory/ram_error.ts";
import type { MethodName, Params, Result } from "../../protocol/methods.ts";

/** The handlers of some methods: each takes the method's parameters and returns its result; nil may be left out. */
export type Handlers<M extends MethodName> = {
  readonly [K in M]: (...params: Params<K>) => Result<K> | (Result<K> extends null ? void : never);
};

/**
 * Passes a result of the engine on.
 *
 * @param rc 0 or more: success.
 * @param what What failed, e.g. "mm_pin".
 * @returns `rc`.
 * @throws {RpcError} With the code of a negative `rc`.
 */
export function orThrow(rc: number, what: string): number {
  if (rc < 0) throw engineError(rc, what);
  return rc;
}

/**
 * Runs a request that checks its own options.
 *
 * @throws {RpcError} With what is wrong, for a {@linkcode RamError} or a `RangeError`.
 */
export function asRpcError<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof RamError) throw new RpcError(error.code, error.message);
    if (error instanceof RangeError) throw new RpcError("EINVAL", error.message);
    throw error;
  }
}

/** The error for a negative result of the engine; not thrown. */
export function engineError(rc: number, what: string): RpcError {
  return RpcError.fromErrno(rc, `${what} failed${EXPLANATIONS.get(rc) ?? ` with ${rc}`}`);
}

const EXPLANATIONS = new Map<number, string>([
  [errno.ENXIO, ": a frame is no guest RAM or cannot be translated"],
  [errno.ENOMEM, ": no memory for a table, or a cap is reached, and nothing can be reclaimed"],
  [errno.EACCES, ": the address is outside the vGPU's windows"],
  [errno.EFAULT, ": guest memory cannot be read there; map it with ram_map first"],
  [errno.EBUSY, ": it is set up already, or still in use"],
  [errno.ENODEV, ": the engine is not initialised, or the platform is not supported"],
  [errno.EINVAL, ": an argument or a table of the guest is not valid"],
]);
