/**
 * The file of a Unix socket that listens: made with the right mode, never in another device's way, removed at the end.
 *
 * The socket is bound in a folder of its own that nobody else can enter (`.NAME.stage` beside it), gets its mode there
 * and is then moved to its place: at no time does a socket with another mode exist at the path, and a stale one is
 * replaced in one step. The folder is also the lock between two devices that start at once. The usual alternative, the
 * umask, belongs to the whole process and takes `--allow-sys`.
 *
 * @module
 */

/** The socket cannot be listened on. */
export class ListenError extends Error {
  /** Always `"ListenError"`. */
  override readonly name = "ListenError";
}

/** Options of a socket's file. */
export interface ListenOptions {
  /** Permission bits of the socket's file; default 0600. */
  readonly mode?: number;
}

/** How sockets are made: by Deno's own calls, or by the C library's. */
export interface SocketMaker<S extends { close(): void }> {
  /** Makes a socket that listens at a path where nothing is. Throws if it cannot. */
  listen(path: string): S;
  /** Whether somebody listens at a path where a socket is. Throws if that cannot be told. */
  isInUse(path: string): boolean | Promise<boolean>;
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
 * Makes a socket that listens at a path. Needs `--allow-read` and `--allow-write` for the path's folder.
 *
 * @param path Where. A socket file that nobody listens on is taken over.
 * @param maker Makes the socket.
 * @param options The mode.
 * @returns The socket and its file.
 * @throws {ListenError} If the path is too long, in use, taken by something that is no socket, or not permitted; or if
 * there is something at `.NAME.stage` that no device has left there.
 */
export async function publishSocket<S extends { close(): void }>(
  path: string,
  maker: SocketMaker<S>,
  { mode = DEFAULT_MODE }: ListenOptions = {},
): Promise<{ readonly socket: S; readonly file: SocketFile }> {
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  const most = SUN_PATH_BYTES - bytes(`${STAGE_PREFIX}${STAGE_SUFFIX}/${STAGE_SOCKET}`);
  if (path === "" || path.includes("\0")) throw refused(path, "this is no path");
  if (bytes(path) > most) throw refused(path, `the path has ${bytes(path)} bytes: it can have ${most}`);
  const name = path.lastIndexOf("/") + 1;
  const stage = path.slice(0, name) + STAGE_PREFIX + path.slice(name) + STAGE_SUFFIX;
  try {
    lockStage(path, stage);
    try {
      await checkFree(path, maker);
      return publish(path, stage, maker, mode);
    } finally {
      removeStage(stage);
    }
  } catch (error) {
    if (error instanceof ListenError) throw error;
    if (error instanceof Deno.errors.NotFound) throw refused(path, "there is no such folder");
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
async function checkFree(path: string, maker: SocketMaker<{ close(): void }>): Promise<void> {
  try {
    if (!Deno.lstatSync(path).isSocket) throw refused(path, "there is something that is not a socket");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  if (await maker.isInUse(path)) throw refused(path, "in use: another process is listening there");
}

/** Binds, sets the mode, and moves the socket to its place. */
function publish<S extends { close(): void }>(
  path: string,
  stage: string,
  maker: SocketMaker<S>,
  mode: number,
): { socket: S; file: SocketFile } {
  const bound = `${stage}/${STAGE_SOCKET}`;
  const socket = maker.listen(bound);
  try {
    Deno.chmodSync(bound, mode);
    Deno.renameSync(bound, path);
    return { socket, file: new SocketFile(path) };
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** The file of a socket that listens. */
export class SocketFile {
  /** Where it is. */
  readonly path: string;
  /** The file that is ours: by the time we close, another device may have taken the path over. */
  readonly #file: { readonly dev: number; readonly ino: number | null };

  /** @param path Where the socket's file is by now. */
  constructor(path: string) {
    this.path = path;
    this.#file = Deno.lstatSync(path);
  }

  /** Removes the file if it is still this socket's. */
  remove(): void {
    try {
      const { dev, ino } = Deno.lstatSync(this.path);
      if (dev === this.#file.dev && ino === this.#file.ino) Deno.removeSync(this.path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

function refused(path: string, why: string): ListenError {
  return new ListenError(`Cannot listen on ${JSON.stringify(path)}: ${why}`);
}
