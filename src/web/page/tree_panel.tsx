/**
 * The folded tree of an address space.
 *
 * @module
 */

import { useEffect, useRef } from "preact/hooks";
import { CLASS_LETTERS } from "../../observe/reasons.ts";
import type { TreeRow } from "../tree_rows.ts";
import { hex } from "./format.ts";
import { useStore } from "./use_store.ts";

/** The panel. */
export function TreePanel() {
  const [store, { tree, gma, space }] = useStore();
  const list = useRef<HTMLDivElement>(null);
  const chosen = gma === null ? null : tree.path.at(-1) ?? null;
  const shown = useRef<string | null>(null);
  useEffect(() => {
    // Its row may come later, when the tables above it are unfolded; and then only once, for the user may scroll.
    const row = list.current?.querySelector("[aria-selected=true]");
    if (row === null || row === undefined || shown.current === chosen) return;
    row.scrollIntoView({ block: "center" });
    shown.current = chosen;
  }, [chosen, tree.rows]);
  const key = (event: KeyboardEvent) => {
    const rows = [...list.current!.querySelectorAll<HTMLElement>("[role=treeitem]")];
    const at = rows.indexOf(document.activeElement as HTMLElement);
    const row = tree.rows[at];
    if (row === undefined) return;
    const act = ({
      ArrowDown: () => rows[at + 1]?.focus(),
      ArrowUp: () => rows[at - 1]?.focus(),
      Home: () => rows[0]?.focus(),
      End: () => rows.at(-1)?.focus(),
      ArrowRight: () => row.isOpen === false ? store.toggle(row.key) : rows[at + 1]?.focus(),
      ArrowLeft: () => row.isOpen === true ? store.toggle(row.key) : rows[parentOf(tree.rows, at)]?.focus(),
      Enter: () => go(row),
      " ": () => row.isOpen === null ? go(row) : store.toggle(row.key),
    } as Record<string, (() => void) | undefined>)[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  const go = (row: TreeRow) => {
    if (space !== null) store.goTo(space, row.from);
  };
  return (
    <section class="panel tree" aria-label="table tree">
      <header>
        <h2>Tables</h2>
        <span class="dim">guest’s entry · shadow’s entry</span>
      </header>
      <div class="rows mono" role="tree" ref={list} onKeyDown={key}>
        {tree.rows.map((row, at) => (
          <div
            key={row.key}
            role="treeitem"
            aria-level={row.depth + 1}
            aria-label={labelOf(row)}
            aria-selected={row.key === chosen}
            {...(row.isOpen === null ? {} : { "aria-expanded": row.isOpen })}
            tabIndex={at === 0 ? 0 : -1}
            class={`row ${row.class}`}
            onClick={() => row.isOpen === null ? go(row) : store.toggle(row.key)}
          >
            <span class="name" style={{ paddingLeft: `${row.depth * 14}px` }}>
              <i class="fold" aria-hidden="true">{row.isOpen === null ? "" : row.isOpen ? "▾" : "▸"}</i>
              {row.name}
              <small>{hex(row.from)}</small>
            </span>
            <span class={`class ${row.class}`} title={row.words || row.class}>
              {CLASS_LETTERS[row.class]}
            </span>
            <span class="side" title={row.guest}>{row.guest}</span>
            <span class="side">{row.shadow}{row.words === "" ? "" : <em>{row.words}</em>}</span>
          </div>
        ))}
        {tree.more > 0 && <p class="dim">… {tree.more} more rows: fold some tables</p>}
        {tree.rows.length === 0 && <p class="dim">nothing is mapped here</p>}
      </div>
    </section>
  );
}

/** What a row says to who does not see it. */
function labelOf({ name, from, guest, shadow, class: verdict, words }: TreeRow): string {
  return `${name} at ${hex(from)}: guest ${guest}, shadow ${shadow}, ${verdict}${
    words === "" ? "" : `, ${words}`
  }`;
}

/** The row that a row is folded into. */
function parentOf(rows: readonly TreeRow[], at: number): number {
  const { depth } = rows[at]!;
  for (let above = at - 1; above >= 0; above--) if (rows[above]!.depth < depth) return above;
  return at;
}
