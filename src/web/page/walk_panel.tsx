/**
 * The walk of one address: the guest's steps beside the shadow's.
 *
 * @module
 */

import { useState } from "preact/hooks";
import { CLASS_LETTERS } from "../../observe/reasons.ts";
import type { StepView } from "../walk_view.ts";
import { hex } from "./format.ts";
import { spaceName } from "./strip_view.tsx";
import { useStore } from "./use_store.ts";

/** The panel. */
export function WalkPanel() {
  const [store, { walk, space }] = useStore();
  return (
    <section class="panel walk" aria-label="walk of an address">
      <header>
        <h2>Walk</h2>
        {walk !== null && (
          <span class="mono">
            {space === null ? "" : spaceName(space)} <b>{hex(walk.gma)}</b>
          </span>
        )}
        <AddressForm onAddress={(gma) => space !== null && store.goTo(space, gma)} />
      </header>
      {walk === null
        ? (
          <div class="empty">
            <p>Click a cell of the map, a row of the tree or an event, or type an address.</p>
            <p class="dim">
              The address is then walked twice, through the guest’s own tables and through the shadow.
            </p>
          </div>
        )
        : (
          <>
            <p class={`verdict ${walk.class}`} aria-live="polite">
              <span class={`class ${walk.class}`}>{CLASS_LETTERS[walk.class]} {walk.class}</span>
              {walk.sentence}
              {walk.note !== "" && <span class="dim">({walk.note})</span>}
            </p>
            <div class="steps">
              <table class="mono">
                <thead>
                  <tr>
                    <th scope="col">entry</th>
                    <th scope="col">guest, by guest frames</th>
                    <th scope="col" aria-label="verdict" />
                    <th scope="col">shadow, by host frames</th>
                  </tr>
                </thead>
                <tbody>
                  {walk.levels.map(({ name, bits, guest, shadow, class: verdict, sentence }) => (
                    <tr key={name} class={verdict ?? ""}>
                      <th scope="row">
                        {name}
                        <small>bits {bits}</small>
                      </th>
                      <td>
                        <Step step={guest} />
                      </td>
                      <td>
                        {verdict !== null && (
                          <span class={`class ${verdict}`} title={sentence || verdict}>
                            {CLASS_LETTERS[verdict]}
                          </span>
                        )}
                      </td>
                      <td>
                        <Step step={shadow} />
                      </td>
                    </tr>
                  ))}
                  <tr class="end">
                    <th scope="row">leads to</th>
                    <td>{walk.guest}</td>
                    <td>
                      <span class={`class ${walk.class}`}>{CLASS_LETTERS[walk.class]}</span>
                    </td>
                    <td>{walk.shadow}</td>
                  </tr>
                </tbody>
              </table>
            </div>
          </>
        )}
    </section>
  );
}

function Step({ step }: { step: StepView | null }) {
  if (step === null) return <span class="dim">—</span>;
  return (
    <div title={step.words}>
      <code>{step.hex}</code> <span class="flags">{step.flags}</span>
      <small>
        {step.table} → <b>{step.target}</b>
      </small>
    </div>
  );
}

function AddressForm({ onAddress }: { onAddress: (gma: number) => void }) {
  const [text, setText] = useState("");
  const [isWrong, setWrong] = useState(false);
  const submit = (event: Event) => {
    event.preventDefault();
    const plain = text.trim().replaceAll("_", "");
    const gma = /^(0x)?[0-9a-f]+$/i.test(plain) ? Number(plain.startsWith("0x") ? plain : `0x${plain}`) : NaN;
    const isGood = gma < 2 ** 48;
    setWrong(!isGood);
    if (isGood) onAddress(gma);
  };
  return (
    <form class="address" onSubmit={submit}>
      <input
        class="mono"
        aria-label="address to walk, hexadecimal"
        aria-invalid={isWrong}
        placeholder="0x… address"
        spellcheck={false}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit">walk</button>
    </form>
  );
}
