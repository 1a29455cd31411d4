// A strict reader of Prometheus' text format, version 0.0.4, for tests: whatever a scraper might trip over throws.

/** One value. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** All that one name has. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: readonly Sample[];
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\]|\\\\|\\n)+)$/;
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"/;
const SAMPLE = new RegExp(
  String
    .raw`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(${LABEL.source}(?:,${LABEL.source})*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$`,
);

/** Reads a whole text: of each family HELP, TYPE and all its samples, in one piece. @throws {Error} Naming the line. */
export function readExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, Family & { samples: Sample[] }>();
  let help: readonly [name: string, text: string] | null = null;
  let current: (Family & { samples: Sample[] }) | null = null;
  for (const line of text.split("\n").slice(0, -1)) {
    const [, helpName, helpText] = HELP.exec(line) ?? [];
    const [, typeName, type] = TYPE.exec(line) ?? [];
    const [, sampleName, labels = ""] = SAMPLE.exec(line) ?? [];
    if (helpName !== undefined) {
      if (families.has(helpName)) throw new Error(`a second time: ${line}`);
      help = [helpName, unescape(helpText!)];
    } else if (typeName !== undefined) {
      if (help?.[0] !== typeName) throw new Error(`no HELP before: ${line}`);
      current = { name: typeName, help: help[1], type: type!, samples: [] };
      families.set(typeName, current);
      help = null;
    } else if (sampleName !== undefined) {
      if (current?.name !== sampleName) throw new Error(`not in its family: ${line}`);
      current.samples.push({ labels: readLabels(labels), value: Number(line.slice(line.lastIndexOf(" "))) });
      if (new Set(current.samples.map((each) => JSON.stringify(each.labels))).size < current.samples.length) {
        throw new Error(`a second time: ${line}`);
      }
    } else if (line !== "") throw new Error(`neither HELP nor TYPE nor sample: ${line}`);
  }
  return families;
}

/** The value of one series. @throws {Error} If it is not there. */
export function valueOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = JSON.stringify(labels);
  const sample = readExposition(text).get(name)?.samples.find((each) =>
    JSON.stringify(each.labels) === wanted
  );
  if (sample === undefined) throw new Error(`there is no ${name} with ${wanted}`);
  return sample.value;
}

function readLabels(text: string): Record<string, string> {
  const pairs = [...text.matchAll(new RegExp(LABEL, "g"))].map((
    [, name, value],
  ) => [name!, unescape(value!)]);
  if (new Set(pairs.map(([name]) => name)).size < pairs.length) throw new Error(`a label twice: ${text}`);
  return Object.fromEntries(pairs);
}

function unescape(text: string): string {
  return text.replace(/\\(.)/g, (_, char) => char === "n" ? "\n" : char);
}
