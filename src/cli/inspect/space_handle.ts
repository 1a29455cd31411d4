/**
 * The address space that a command is about.
 *
 * @module
 */

import type { Snapshot, SpaceView } from "../../observe/snapshot.ts";
import { InspectError } from "./inspect_error.ts";
import { parseNumber } from "./numbers.ts";

/** Handles that are told if one is wrong. */
const MAX_TOLD = 20;

/** The end of handles. */
const HANDLES = 2 ** 32;

/**
 * Reads the handle of an address space.
 *
 * @throws {UsageError} When it is none.
 */
export function parseHandle(text: string): number {
  return parseNumber(text, "MM", HANDLES);
}

/**
 * The address space with this handle.
 *
 * @param snapshot Where it should be.
 * @param id The handle.
 * @throws {InspectError} When there is none; with those that there are.
 */
export function spaceOf(snapshot: Snapshot, id: number): SpaceView {
  const space = snapshot.space(id);
  if (space !== undefined) return space;
  const ids = snapshot.parts.spaces.map((each) => each.id);
  const more = ids.length > MAX_TOLD ? ` and ${ids.length - MAX_TOLD} more` : "";
  const there = ids.length === 0 ? "there is none" : `there are ${ids.slice(0, MAX_TOLD).join(", ")}${more}`;
  throw new InspectError(`no mm ${id}: ${there}`);
}
