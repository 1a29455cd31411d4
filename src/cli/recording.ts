import type { PageComparison } from "../memory/memory_backing.ts";
import { Recorder } from "../recording/recorder.ts";
import { RecordingSink } from "../recording/recording_sink.ts";
import type { Log } from "../server/rpc_session.ts";
import { SERVER_NAME } from "../server/server_name.ts";
import { vgpuConfig } from "../vgpu/vgpu_options.ts";
import type { StartOptions } from "./start_options.ts";

/** A recording that is being made. */
export class OpenRecording implements Disposable {
  /** Who records. */
  readonly recorder: Recorder;
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile, recorder: Recorder) {
    this.#file = file;
    this.recorder = recorder;
  }

  /**
   * Begins a recording in a file that `createRecording` has made.
   *
   * @param options What `start` was asked for.
   * @param log Told when the file takes no more.
   * @param compare Compares pages; without it a loop does.
   * @returns The recording; `null`: none is wanted.
   */
  static begin(
    { record, vgpu, oos, verify, debug }: Pick<StartOptions, "record" | "vgpu" | "oos" | "verify" | "debug">,
    log: Log,
    compare: PageComparison | null = null,
  ): OpenRecording | null {
    if (record === null) return null;
    const file = Deno.openSync(record, { append: true });
    const sink = new RecordingSink(file, (reason) => {
      log("error", "the recording ends here: the file takes no more", { path: record, reason });
    });
    const device = { ...vgpuConfig(vgpu), oos, verify, debug };
    return new OpenRecording(file, new Recorder(sink, device, SERVER_NAME, { compare }));
  }

  /** Writes what is left and closes the file. */
  [Symbol.dispose](): void {
    this.recorder.flush();
    this.#file.close();
  }
}
