/**
 * What belongs to one test and must not outlive it, however it ends: a folder and processes. A shell of a few lines
 * knows them; when the test's end of its pipe closes, even because the test was killed, it kills and removes what is
 * left.
 *
 * @module
 */

const WATCHMAN = `
trap '' INT TERM HUP
pids=
while read -r verb pid; do
  case $verb in
    +) pids="$pids $pid" ;;
    -) pids=$(for each in $pids; do [ "$each" = "$pid" ] || echo "$each"; done) ;;
  esac
done
for pid in $pids; do kill -9 "$pid"; done
rm -rf "$1"
`;

/** A test's folder and processes. */
export class TestScope implements AsyncDisposable {
  /** A folder of the test's own. */
  readonly folder: string = Deno.makeTempDirSync({ dir: "/tmp", prefix: "vgtt-" });
  readonly #watchman: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #written: Promise<void> = Promise.resolve();

  /** A scope with nothing in it but the folder. */
  constructor() {
    const args = ["-c", WATCHMAN, "watchman", this.folder];
    this.#watchman = new Deno.Command("sh", { args, stdin: "piped", stdout: "null", stderr: "null" }).spawn();
    this.#writer = this.#watchman.stdin.getWriter();
  }

  /** From now on this process is the test's. Dispose of the result when it has ended: its number may be another's soon. */
  own(pid: number): Disposable {
    this.#tell("+", pid);
    return { [Symbol.dispose]: () => this.#tell("-", pid) };
  }

  /** Ends what has not ended, and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#written;
    await this.#writer.close();
    await this.#watchman.status;
  }

  #tell(verb: string, pid: number): void {
    this.#written = this.#writer.write(new TextEncoder().encode(`${verb} ${pid}\n`));
  }
}
