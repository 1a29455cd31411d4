/**
 * A Unix socket that listens, and the connections it accepts.
 *
 * @module
 */

/** One accepted connection. */
export interface Connection {
  /** Reads some bytes; `null` at the end of the stream. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes and says how many; they stay as they are until it has. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Closes; a pending read or write ends or fails. Closing twice is legal. */
  close(): void;
}

/** A socket that listens. */
export interface Listener {
  /** What it listens on, for messages. */
  readonly name: string;
  /** The next connection; `null` once the listener is closed. */
  accept(): Promise<Connection | null>;
  /** Stops listening and removes the socket's file if it is still this listener's. Closing twice is legal. */
  close(): void;
}

/** The socket cannot be listened on. */
export class ListenError extends Error {
  /** Always `"ListenError"`. */
  override readonly name = "ListenError";
}

/** Options of {@linkcode listenUnix}. */
export interface ListenOptions {
  /** Permission bits of the socket's file; default 0600. */
  readonly mode?: number;
}

/** The socket's owner only. */
const DEFAULT_MODE = 0o600;
/** `sockaddr_un.sun_path` has 108 bytes on Linux and ends with a NUL; elsewhere it is shorter still. */
const SUN_PATH_BYTES = Deno.build.os === "linux" ? 107 : 103;
/**
 * Beside a socket NAME, the folder in which it is made ready, and the socket in it. Nobody else has a name like that
 * by convention, as `NAME.d` would be.
 */
const STAGE_PREFIX = ".", STAGE_SUFFIX = ".stage", STAGE_SOCKET = "s";
/** A stage this old was left by a process that died while starting, milliseconds. */
const STALE_STAGE = 10_000;

/**
 * Listens on a Unix socket.
 *
 * The socket is bound in a folder of its own that nobody else can enter (`.NAME.stage` beside it), gets its mode there and is
 * then moved to its place: at no time does a socket with another mode exist at the path, and a stale one is replaced in
 * one step. The folder is also the lock between two devices that start at once. The usual alternative, the umask,
 * belongs to the whole process and takes `--allow-sys`.
 *
 * Needs `--allow-read` and `--allow-write` for the path's folder and `--allow-net` for `unix:FOLDER/NAME` and
 * `unix:FOLDER/.NAME.stage/s`.
 *
 * @param path Where. A socket file that nobody listens on is taken over.
 * @param options The mode.
 * @returns The listener.
 * @throws {ListenError} If the path is too long, in use, taken by something that is no socket, or not permitted; or if
 * there is something at `.NAME.stage` that no device has left there.
 *
 * @example
 * ```ts ignore
 * using listener = await listenUnix("/run/vgtt.sock", { mode: 0o660 });
 * ```
 */
export async function listenUnix(
  path: string,
  { mode = DEFAULT_MODE }: ListenOptions = {},
): Promise<UnixListener> {
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  const most = SUN_PATH_BYTES - bytes(`${STAGE_PREFIX}${STAGE_SUFFIX}/${STAGE_SOCKET}`);
  if (path === "" || path.includes("\0")) throw refused(path, "this is no path");
  if (bytes(path) > most) throw refused(path, `the path has ${bytes(path)} bytes: it can have ${most}`);
  const name = path.lastIndexOf("/") + 1;
  const stage = path.slice(0, name) + STAGE_PREFIX + path.slice(name) + STAGE_SUFFIX;
  try {
    lockStage(path, stage);
    try {
      await checkFree(path);
      return publish(path, stage, mode);
    } finally {
      removeStage(stage);
    }
  } catch (error) {
    if (error instanceof ListenError) throw error;
    throw refused(path, error instanceof Error ? error.message : String(error));
  }
}

/** Makes the private folder; it exists already while another device starts on the same path. */
function lockStage(path: string, stage: string): void {
  try {
    return Deno.mkdirSync(stage, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  const { mtime, isDirectory } = Deno.lstatSync(stage);
  if (!isDirectory || [...Deno.readDirSync(stage)].some((entry) => !isBound(stage, entry.name))) {
    throw refused(
      path,
      `${stage} is in the way: no device made what is there; move it or choose another path`,
    );
  }
  if (mtime === null || Date.now() - mtime.getTime() < STALE_STAGE) {
    throw refused(path, `in use: another device is starting (${stage})`);
  }
  removeStage(stage);
  Deno.mkdirSync(stage, { mode: 0o700 });
}

/** Whether a name in a stage is that of the socket which is made ready there. */
function isBound(stage: string, name: string): boolean {
  return name === STAGE_SOCKET && Deno.lstatSync(`${stage}/${name}`).isSocket === true;
}

/** Removes a stage, with nothing in it but its socket: whatever else there is makes this fail. */
function removeStage(stage: string): void {
  for (const { name } of Deno.readDirSync(stage)) {
    if (isBound(stage, name)) Deno.removeSync(`${stage}/${name}`);
  }
  Deno.removeSync(stage);
}

/** Makes sure that what is at the path, if anything, is a socket that nobody listens on. */
async function checkFree(path: string): Promise<void> {
  try {
    if (!Deno.lstatSync(path).isSocket) throw refused(path, "there is something that is not a socket");
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return;
    throw error;
  }
  throw refused(path, "in use: another process is listening there");
}

/** Binds, sets the mode, and moves the socket to its place. */
function publish(path: string, stage: string, mode: number): UnixListener {
  const bound = `${stage}/${STAGE_SOCKET}`;
  const socket = Deno.listen({ transport: "unix", path: bound });
  try {
    Deno.chmodSync(bound, mode);
    Deno.renameSync(bound, path);
    return new UnixListener(path, socket);
  } catch (error) {
    socket.close();
    throw error;
  }
}

function refused(path: string, why: string): ListenError {
  return new ListenError(`Cannot listen on ${JSON.stringify(path)}: ${why}`);
}

/** A listening socket with a file of its own; {@linkcode listenUnix} makes one. */
export class UnixListener implements Listener, Disposable {
  /** The socket's path. */
  readonly name: string;
  readonly #socket: Deno.UnixListener;
  /** The file that is ours: by the time we close, another device may have taken the path over. */
  readonly #file: { readonly dev: number; readonly ino: number | null };
  #isClosed = false;

  /**
   * Takes over a socket that has its file at its final place.
   *
   * @param path The file's path.
   * @param socket The listening socket.
   */
  constructor(path: string, socket: Deno.UnixListener) {
    this.name = path;
    this.#socket = socket;
    this.#file = Deno.lstatSync(path);
  }

  /**
   * Waits for a connection.
   *
   * @returns The next one, or `null` once the listener is closed.
   */
  async accept(): Promise<Connection | null> {
    try {
      return new UnixConnection(await this.#socket.accept());
    } catch (error) {
      if (this.#isClosed) return null;
      throw error;
    }
  }

  /** Stops listening and removes the file if it is still this listener's. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      const { dev, ino } = Deno.lstatSync(this.name);
      if (dev === this.#file.dev && ino === this.#file.ino) Deno.removeSync(this.name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    } finally {
      this.#socket.close();
    }
  }

  /** Closes. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A connection that Deno accepted. */
class UnixConnection implements Connection {
  readonly #conn: Deno.UnixConn;
  #isClosed = false;

  constructor(conn: Deno.UnixConn) {
    this.#conn = conn;
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#conn.read(into);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    return this.#conn.write(bytes);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }
}
