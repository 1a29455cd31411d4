/**
 * What a table of method handlers looks like.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
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

/** The error for a negative result of the engine; not thrown. */
export function engineError(rc: number, what: string): RpcError {
  return RpcError.fromErrno(rc, `${what} failed${EXPLANATIONS.get(rc) ?? ` with ${rc}`}`);
}

const EXPLANATIONS = new Map<number, string>([
  [-6, ": a frame is no guest RAM or cannot be translated"],
  [-12, ": no memory for a table, or a cap is reached, and nothing can be reclaimed"],
  [-13, ": the address is outside the vGPU's windows"],
  [-14, ": guest memory cannot be read there; map it with ram_map first"],
  [-16, ": it is set up already, or still in use"],
  [-19, ": the engine is not initialised, or the platform is not supported"],
  [-22, ": an argument or a table of the guest is not valid"],
]);
