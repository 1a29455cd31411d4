/**
 * The whole page.
 *
 * @module
 */

import { useEffect, useState } from "preact/hooks";
import { sizeText } from "../size_text.ts";
import { EventsPanel } from "./events_panel.tsx";
import { longCount, visible } from "./format.ts";
import { PlotsPanel } from "./plots_panel.tsx";
import { StripPanel } from "./strip_view.tsx";
import { TreePanel } from "./tree_panel.tsx";
import { useStore } from "./use_store.ts";
import { WalkPanel } from "./walk_panel.tsx";

/** What the switch can say: as the system does, or one of them. */
const THEMES = ["auto", "dark", "light"] as const;
type Theme = typeof THEMES[number];

/** The page. */
export function App() {
  const [choice, setChoice] = useState<Theme>("auto");
  const theme = useTheme(choice);
  const [, { line, source }] = useStore();
  const isLost = line === "gone" || source?.state === "lost";
  const next = THEMES[(THEMES.indexOf(choice) + 1) % THEMES.length]!;
  return (
    <>
      <Header theme={choice} onTheme={() => setChoice(next)} />
      <main class={isLost ? "lost" : ""}>
        <StripPanel theme={theme} />
        <div class="middle">
          <TreePanel />
          <WalkPanel />
        </div>
        <PlotsPanel theme={theme} />
        <EventsPanel theme={theme} />
      </main>
    </>
  );
}

/** Colours the page. @returns The theme that it has. */
function useTheme(choice: Theme): "dark" | "light" {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const change = () => setDark(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  const theme = choice === "auto" ? isDark ? "dark" : "light" : choice;
  // Before anything is drawn in its colours.
  document.documentElement.dataset["theme"] = theme;
  return theme;
}

function Header({ theme, onTheme }: { theme: Theme; onTheme: () => void }) {
  const [store, { source, device, line, isPaused }] = useStore();
  const [word, text] = stateOf(line, source?.state, isPaused);
  return (
    <header class="top">
      <h1>vgtt</h1>
      <span class={`pill ${word}`} role="status">{text}</span>
      <span class="source mono" title={source?.name ?? ""}>{visible(source?.name ?? "")}</span>
      {word === "lost" && (
        <span class="why">
          what you see is how it was{source?.state === "lost" ? `: ${visible(source.why)}` : ""}
        </span>
      )}
      <span class="facts">
        {device !== null && (
          <>
            <Fact
              name="spaces"
              value={device.spaces.filter(({ space }) => typeof space === "number").length}
            />
            <Fact name="tables" value={longCount(device.tables)} />
            <Fact
              name={device.tracking === "trapped" ? "out of sync" : "not looked at"}
              value={longCount(device.outOfSync)}
            />
            <Fact name="RAM" value={sizeText(device.ramBytes)} />
            <Fact name="stores" value={device.tracking} />
            {device.failsafe && <b class="class wrong">! failsafe</b>}
          </>
        )}
      </span>
      {source?.kind === "device" && (
        <button
          type="button"
          aria-pressed={isPaused}
          onClick={() => store.pause(!isPaused)}
        >
          {isPaused ? "▶ go on" : "❚❚ pause"}
        </button>
      )}
      <button type="button" title="dark, light, or as the system says" onClick={onTheme}>
        {theme === "auto" ? "◐ auto" : theme === "dark" ? "● dark" : "○ light"}
      </button>
    </header>
  );
}

function Fact({ name, value }: { name: string; value: string | number }) {
  return (
    <span class="fact">
      {name} <b class="mono">{value}</b>
    </span>
  );
}

/** How it stands, as a word for the style sheet and one for people. */
function stateOf(
  line: "connecting" | "open" | "gone",
  state: "live" | "still" | "lost" | undefined,
  isPaused: boolean,
): [word: string, text: string] {
  if (line === "gone") return ["lost", "✕ inspector gone, looking for it"];
  if (line === "connecting" || state === undefined) return ["wait", "… connecting"];
  if (state === "lost") return ["lost", "✕ device lost, looking for it"];
  if (isPaused) return ["wait", "❚❚ paused"];
  return state === "live" ? ["live", "● live"] : ["still", "■ replayed"];
}
