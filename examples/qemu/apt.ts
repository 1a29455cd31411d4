/**
 * Debian packages of any release, downloaded and unpacked without root: the system's `apt-get` with a configuration,
 * package lists and a status of our own, in a scratch folder. Nothing on the system changes, and what is installed
 * there does not matter: to this apt nothing is installed at all, so it downloads a package with all it depends on.
 *
 * @module
 */

import { HelpfulError, output, run } from "./command.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const NO_APT = "This needs Debian's apt-get and dpkg-deb. On another system";

/** An apt of our own. */
export class Apt {
  readonly #folder: string;
  readonly #otherwise: string;
  readonly #signal: AbortSignal | undefined;

  private constructor(folder: string, otherwise: string, signal: AbortSignal | undefined) {
    this.#folder = folder;
    this.#otherwise = otherwise;
    this.#signal = signal;
  }

  /**
   * Prepares an apt and fetches its package lists.
   *
   * @param folder Where its files go.
   * @param suites The archive's suites, as `bookworm`; packages come from the last one that has them.
   * @param otherwise What a user without Debian's apt can do instead, as the rest of a sentence.
   * @param signal Ends whatever this apt is doing.
   * @returns An apt to download with.
   * @throws {HelpfulError} If there is no apt or no network.
   */
  static async open(
    folder: string,
    suites: readonly string[],
    otherwise: string,
    signal?: AbortSignal,
  ): Promise<Apt> {
    const apt = new Apt(folder, otherwise, signal);
    for (const name of ["lists/partial", "archives/partial"]) {
      await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    }
    const mirrors = await mirrorsOfSystem(folder, otherwise);
    const sources = suites.flatMap((suite) => {
      const mirror = suite.endsWith("-security") ? mirrors.security : mirrors.main;
      return mirror === undefined ? [] : [`deb [signed-by=${KEYRING}] ${mirror} ${suite} main\n`];
    });
    await Deno.writeTextFile(`${folder}/sources.list`, sources.join(""));
    await Deno.writeTextFile(`${folder}/status`, "");
    await Deno.writeTextFile(`${folder}/apt.conf`, configuration(folder, suites.at(-1)!));
    await apt.#apt("update", "--error-on=any");
    return apt;
  }

  /** Downloads the newest versions of packages. */
  async download(...packages: readonly string[]): Promise<Package[]> {
    await this.#apt("install", "--download-only", "--no-install-recommends", ...packages);
    const folder = `${this.#folder}/archives`;
    return [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".deb"))
      .map(({ name }) => new Package(`${folder}/${name}`, this.#otherwise, this.#signal));
  }

  /** Downloads the newest versions of packages, without what they depend on. */
  async downloadAlone(...packages: readonly string[]): Promise<Package[]> {
    const uris = await this.#apt("download", "--print-uris", ...packages);
    const files = uris.trimEnd().split("\n").map((line) => line.split(" ")[1]!);
    await this.#apt("download", ...packages);
    return files.map((name) => new Package(`${this.#folder}/${name}`, this.#otherwise, this.#signal));
  }

  /** What a package depends on, by name. */
  async dependencies(name: string): Promise<string[]> {
    const args = ["depends", "-c", `${this.#folder}/apt.conf`, name];
    const text = await run("apt-cache", args, `${NO_APT} ${this.#otherwise}`, { signal: this.#signal });
    return [...text.matchAll(/^\s*Depends: (\S+)$/gm)].map(([, depended]) => depended!);
  }

  async #apt(verb: string, ...args: readonly string[]): Promise<string> {
    const conf = ["-qq", "-y", "-c", `${this.#folder}/apt.conf`];
    const where = { cwd: this.#folder, signal: this.#signal };
    try {
      return await run("apt-get", [verb, ...conf, ...args], `${NO_APT} ${this.#otherwise}`, where);
    } catch (error) {
      if (!(error instanceof HelpfulError)) throw error;
      throw new HelpfulError(
        `${error.message}\nThe packages come from Debian's archive: is there a network?`,
      );
    }
  }
}

/** A downloaded package. */
export class Package {
  /** Its file. */
  readonly path: string;
  readonly #otherwise: string;
  readonly #signal: AbortSignal | undefined;

  /** A package in this file. */
  constructor(path: string, otherwise: string, signal?: AbortSignal) {
    this.path = path;
    this.#otherwise = otherwise;
    this.#signal = signal;
  }

  /** Unpacks it into a folder, where others may have been unpacked. */
  async unpack(folder: string): Promise<void> {
    const missing = `${NO_APT} ${this.#otherwise}`;
    await run("dpkg-deb", ["--extract", this.path, folder], missing, { signal: this.#signal });
  }
}

/** Moves a file or folder of what was unpacked; the folders above its new place are made. */
export async function move(from: string, to: string): Promise<void> {
  await Deno.mkdir(to.slice(0, to.lastIndexOf("/")), { recursive: true });
  await Deno.rename(from, to);
}

/** Nothing of the system's own apt but its way to the network, which the files in `apt.conf.d` may tell. */
function configuration(folder: string, release: string): string {
  return `Dir::Etc::SourceList "${folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "${folder}";
Dir::State::lists "${folder}/lists";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}";
Dir::Cache::archives "${folder}/archives";
APT::Default-Release "${release}";
APT::Architecture "amd64";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
`;
}

/** Where packages come from. */
interface Mirrors {
  readonly main: string;
  /** `undefined` if the system has none: its packages are fixes of what the main one has too. */
  readonly security: string | undefined;
}

/** The mirrors that the system itself uses, so that a company's or a container's own is used here too. */
async function mirrorsOfSystem(folder: string, otherwise: string): Promise<Mirrors> {
  // What an update would fetch: nothing is fetched, and it does not matter whether there ever was one.
  const args = ["update", "--print-uris", "-o", `Dir::State::lists=${folder}/lists`];
  const { stdout } = await output("apt-get", args, `${NO_APT} ${otherwise}`);
  const uris = [...stdout.matchAll(/^'(\S+?)\/dists\//gm)].map(([, uri]) => uri!);
  try {
    await Deno.lstat(KEYRING);
  } catch {
    throw new HelpfulError(`No ${KEYRING}: apt-get install debian-archive-keyring`);
  }
  const main = uris.find((uri) => uri.endsWith("/debian"));
  if (main === undefined) {
    throw new HelpfulError(
      "No mirror of Debian's archive in this system's apt sources: add one, or " + otherwise,
    );
  }
  return { main, security: uris.find((uri) => uri.endsWith("/debian-security")) };
}
