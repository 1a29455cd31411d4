import { assertEquals } from "@std/assert";

/** Where each room may reach: other rooms, and packages. A room may always reach itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  "protocol": ["msgpackr"],
  "src/platform": ["@std/assert", "@std/cli/parse-args", "@std/streams"], // their types
  "src/gtt": [],
  "src/memory": ["src/gtt", "src/platform", "node:fs"],
  "src/streamer": ["src/gtt", "src/memory"],
  "src/vgpu": ["src/gtt", "src/memory", "src/streamer"],
  "src/inspect": ["src/gtt", "src/streamer (types)", "src/vgpu", "protocol"],
  "src/observe": ["protocol", "src/gtt", "src/inspect", "src/vgpu (types)"],
  "src/recording": ["src/gtt", "src/memory", "src/vgpu"],
  "src/server": [
    "protocol",
    "src/gtt",
    "src/memory",
    "src/recording",
    "src/streamer",
    "src/vgpu",
    "src/inspect",
    "src/platform",
    "node:net",
  ],
  "src/replay": [
    "protocol",
    "src/gtt",
    "src/memory",
    "src/recording",
    "src/vgpu",
    "src/inspect",
    "src/server",
    "@std/streams",
  ],
  "src/metrics": ["protocol", "src/server", "prom-client", "@opentelemetry/api"],
  "src/cli": [
    "protocol",
    "src/gtt",
    "src/memory",
    "src/vgpu",
    "src/inspect",
    "src/observe",
    "src/recording",
    "src/server",
    "src/replay",
    "src/metrics (types)",
    "src/web",
    "src/platform",
    "@std/cli/parse-args",
    "node:util",
  ],
  "src/web": [
    "protocol",
    "src/gtt",
    "src/inspect",
    "src/observe",
    "src/vgpu (types)",
    "preact",
    "preact/hooks",
    "preact/jsx-runtime",
    "uplot",
    "uplot/dist/uPlot.min.css",
  ],
  "mod.ts": [
    "protocol",
    "src/gtt",
    "src/memory",
    "src/streamer",
    "src/vgpu",
    "src/inspect",
    "src/server",
    "src/replay",
  ],
};

/** Rooms that reach the world only through what they are given. */
const PURE = ["src/gtt", "src/streamer", "src/vgpu", "protocol"];
/** The one file of these that opens a socket. */
const OPENS_SOCKETS = "protocol/connect.ts";

const ROOT = new URL("../../", import.meta.url);

/** One import of one of our files. */
interface Import {
  readonly from: string;
  /** A file of ours, or a package by the name it is imported as. */
  readonly to: string;
  readonly typesOnly: boolean;
}

interface Target {
  readonly specifier: string;
}

interface Graph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly code?: Target;
      readonly type?: Target;
    }[];
  }[];
}

/** A file's path in the project, or `null` if it is none of ours. */
function pathOf(specifier: string): string | null {
  return specifier.startsWith(ROOT.href) ? specifier.slice(ROOT.href.length) : null;
}

/** The room that a file belongs to. */
function roomOf(file: string): string {
  return /^(src\/[^/]+|[^/]+)/.exec(file)![0];
}

/** Every import that a module's graph has. */
async function importsOf(root: string): Promise<Import[]> {
  const info = new Deno.Command(Deno.execPath(), { args: ["info", "--json", root], cwd: ROOT });
  const { code, stdout, stderr } = await info.output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as Graph;
  return modules.flatMap(({ specifier: from, dependencies = [] }) => {
    const file = pathOf(from);
    if (file === null) return [];
    return dependencies.map(({ specifier, code, type }) => {
      const to = pathOf((code ?? type)!.specifier) ?? specifier;
      return { from: file, to, typesOnly: code === undefined };
    });
  });
}

/**
 * Where what users run begins: the library, the command line with the files that it loads when they are needed, the
 * thread in which the device works, and the page's script.
 */
const ROOTS = [
  "mod.ts",
  "src/cli/main.ts",
  ...["start", "serve_portably", "demo", "replay"].map((name) => `src/cli/${name}.ts`),
  "src/cli/device_worker.ts",
  ...[
    "inspect",
    "replayed_source",
    "ls",
    "tree",
    "ggtt",
    "walk",
    "diff",
    "who",
    "top",
    "regs",
    "events",
    "save",
    "web",
  ]
    .map((name) => `src/cli/inspect/${name}.ts`),
  "src/metrics/exporter.ts",
  "src/web/page/main.tsx",
];

const IMPORTS = (await Promise.all(ROOTS.map(importsOf))).flat();

/** Whether one of the rules of a room covers an import. */
function isAllowed({ from, to, typesOnly }: Import): boolean {
  const [room, target] = [roomOf(from), /\.tsx?$/.test(to) ? roomOf(to) : to];
  const rules = ALLOWED[room] ?? [];
  return room === target || rules.includes(target) || (typesOnly && rules.includes(`${target} (types)`));
}

/** Our source files. */
function sourceFiles(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) => {
    if (isDirectory) return sourceFiles(`${folder}${name}/`);
    return /\.tsx?$/.test(name) ? [`${folder}${name}`] : [];
  }).sort();
}

/** A source without its comments. */
function codeOf(file: string): string {
  return Deno.readTextFileSync(new URL(file, ROOT)).replace(/\/\*[^]*?\*\//g, "").replace(/\/\/.*/g, "");
}

Deno.test("imports stay within what each room may reach", () => {
  const forbidden = IMPORTS.filter((each) => !isAllowed(each)).map(({ from, to }) => `${from} -> ${to}`);
  assertEquals([...new Set(forbidden)], []);
});

Deno.test("the thread that starts a device loads nothing of it, so that it listens soon", () => {
  const targets = Map.groupBy(IMPORTS.filter(({ typesOnly }) => !typesOnly), ({ from }) => from);
  const loaded = new Set(["src/cli/main.ts", "src/cli/start.ts"]);
  for (const file of loaded) for (const { to } of targets.get(file) ?? []) loaded.add(to);
  const rooms = [
    "src/memory",
    "src/streamer",
    "src/inspect",
    "src/recording",
    "src/replay",
    "msgpackr",
    "node:fs",
  ];
  assertEquals([...loaded].filter((file) => rooms.includes(roomOf(file)) || rooms.includes(file)), []);
  assertEquals(loaded.has("src/cli/device_thread.ts"), true);
});

Deno.test("imports have no cycle", () => {
  const targets = Map.groupBy(IMPORTS, ({ from }) => from);
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (done.has(file) || path.includes(file)) return;
    for (const { to } of targets.get(file) ?? []) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  assertEquals(cycles, []);
});

Deno.test("imports reach every source file", () => {
  const reached = new Set([...ROOTS, ...IMPORTS.map(({ to }) => to)]);
  const sources = [...sourceFiles("src/"), ...sourceFiles("protocol/")].filter((file) =>
    !file.endsWith(".d.ts")
  );
  assertEquals(sources.filter((file) => !reached.has(file)), []);
});

Deno.test("imports include every room", () => {
  const rooms = new Set(IMPORTS.map(({ from }) => roomOf(from)));
  assertEquals([...rooms].sort(), Object.keys(ALLOWED).sort());
});

Deno.test("the engine, the vGPU and the protocol use nothing of the runtime", () => {
  const files = PURE.flatMap((room) => sourceFiles(`${room}/`)).filter((file) => file !== OPENS_SOCKETS);
  assertEquals(files.length > 30, true);
  assertEquals(files.filter((file) => /\b(Deno|process|Bun)\./.test(codeOf(file))), []);
});

Deno.test("what the page loads uses nothing of the runtime", async () => {
  const files = new Set((await importsOf("src/web/page/main.tsx")).map(({ from }) => from));
  assertEquals(files.size > 20, true);
  assertEquals([...files].filter((file) => /\b(Deno|process|Bun)\./.test(codeOf(file))), []);
});
