import { FileType, type Libc, loadLibc, OpenFlag, Seal } from "../platform/libc.ts";
import type { Backing } from "./backing.ts";
import { FileBacking, type PositionedFile } from "./file_backing.ts";
import { notRegular, requireRoom } from "./file_rules.ts";
import { MemoryBacking, type PageComparison } from "./memory_backing.ts";
import { quoteText, RamError, type RamErrorCode } from "./ram_error.ts";

const PROCFS = 0x9fa0;
const SYSFS = 0x6265_6572;
const EFIVARFS = 0xde5e_81e4;
const HUGETLBFS = 0x9584_58f6;

/** File systems whose regular files are switches of the kernel's. */
const NOT_STORAGE: readonly number[] = [PROCFS, SYSFS, EFIVARFS];

const NOTHING = new Uint8Array(0);

/** An open file behind libc's pread and pwrite. */
class LibcFile implements PositionedFile {
  readonly #libc: Libc;
  readonly #fd: number;

  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
  }

  readAt(into: Uint8Array<ArrayBuffer>, position: number): number {
    return this.#libc.pread(this.#fd, into, position);
  }

  writeAt(bytes: Uint8Array<ArrayBuffer>, position: number): number {
    return this.#libc.pwrite(this.#fd, bytes, position);
  }

  close(): void {
    this.#libc.close(this.#fd);
  }
}

/**
 * Opens a file as guest RAM by libc: mapped where that is safe, else by position.
 *
 * Touching mapped memory beyond its file's end kills the process, and the file's owner can make the file
 * shorter at any moment, between a check and the access that follows it. Only one thing rules that out: a
 * memfd with F_SEAL_SHRINK, which nobody can take off again. So that is what gets mapped. An unsealed memfd
 * or an ordinary file (nothing in `/dev/shm` can be sealed) costs a system call for each access: about 0.7 µs
 * for an entry instead of 10 ns, 1 to 2 µs for a page instead of 0.13 µs. Slow is better than dead. Nor is
 * hugetlbfs mapped, where an access kills as well when the system has no huge page left.
 *
 * @param path Absolute path of a regular file, without NUL characters.
 * @param readonly Whether the guest may not write.
 * @param offset Where in the file the region starts: bytes, a multiple of 4096.
 * @param size How much of the file it takes: bytes, a multiple of 4096.
 * @returns The open file's bytes.
 * @throws {RamError} If the file or the system does not allow it.
 */
export function openWithLibc(path: string, readonly: boolean, offset: number, size: number): Backing {
  const libc = load();
  const fd = open(libc, path, readonly);
  try {
    return back(libc, fd, readonly, offset, size);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/**
 * Takes a file that somebody else opened as guest RAM, under the same rules as {@linkcode openWithLibc}.
 *
 * @param fd Descriptor of a regular file. It belongs to the backing if this returns, and stays the caller's if it
 * throws.
 * @param readonly Whether the guest may not write; it may not either if the file was opened to read only.
 * @param offset Where in the file the region starts: bytes, a multiple of 4096.
 * @param size How much of the file it takes: bytes, a multiple of 4096.
 * @returns The open file's bytes.
 * @throws {RamError} If the descriptor, the file or the system does not allow it.
 */
export function backWithLibc(fd: number, readonly: boolean, offset: number, size: number): Backing {
  const libc = load();
  requireStorage(libc, fd, "the descriptor");
  // Nothing is read or written: the kernel only looks at how the file was opened.
  const readable = libc.pread(fd, NOTHING, 0);
  if (readable < 0) throw systemError("cannot read the file", readable);
  const isWritable = libc.pwrite(fd, NOTHING, 0) >= 0;
  if (!readonly && isWritable) requirePositions(libc, fd);
  return back(libc, fd, readonly || !isWritable, offset, size);
}

function load(): Libc {
  try {
    return loadLibc();
  } catch (cause) {
    throw new RamError("EIO", cause instanceof Error ? cause.message : "no C library", { cause });
  }
}

/** Names the file, looks at it, and only then opens it: by descriptor, so that it stays the same file. */
function open(libc: Libc, path: string, readonly: boolean): number {
  const named = libc.open(path, OpenFlag.PATH | OpenFlag.CLOEXEC);
  if (named < 0) throw systemError(`cannot open ${quoteText(path)}`, named);
  try {
    requireStorage(libc, named, "the path");
    const access = readonly ? OpenFlag.RDONLY : OpenFlag.RDWR;
    const flags = access | OpenFlag.NONBLOCK | OpenFlag.NOCTTY | OpenFlag.CLOEXEC;
    const fd = libc.open(`/proc/self/fd/${named}`, flags);
    if (fd < 0) {
      throw systemError(`cannot open ${quoteText(path)} ${readonly ? "to read" : "to read and write"}`, fd);
    }
    return fd;
  } finally {
    libc.close(named);
  }
}

function requireStorage(libc: Libc, fd: number, named: string): void {
  const status = libc.status(fd);
  if (typeof status === "number") throw systemError("cannot inspect the file", status);
  if (status.type !== FileType.REGULAR) throw notRegular(typeName(status.type), named);
  const fileSystem = libc.fileSystem(fd);
  if (fileSystem < 0) throw systemError("cannot inspect the file system", fileSystem);
  if (NOT_STORAGE.includes(fileSystem)) throw notRegular("a switch of the kernel's", named);
}

/** Takes over `fd` if it returns. */
function back(libc: Libc, fd: number, readonly: boolean, offset: number, size: number): Backing {
  const seals = Math.max(libc.seals(fd), 0); // a file that has no seals reports an error
  const isHuge = libc.fileSystem(fd) === HUGETLBFS;
  if (!readonly) requireWritable(seals, isHuge);
  // After the seals, not before: a file that was seen large enough and then sealed can be smaller.
  const status = libc.status(fd);
  if (typeof status === "number") throw systemError("cannot inspect the file", status);
  requireRoom(status.size, offset, size);
  const isMappable = (seals & Seal.SHRINK) !== 0 && !isHuge;
  if (!isMappable) return new FileBacking(new LibcFile(libc, fd), offset, size, readonly);
  const mapping = libc.mapShared(fd, offset, size, !readonly);
  if (typeof mapping === "number") throw systemError("cannot map the file", mapping);
  libc.close(fd); // the mapping keeps the file
  const compare: PageComparison = (a, b) => libc.isSamePage(a, b);
  return new MemoryBacking("mapped", mapping.buffer, readonly, mapping.unmap, compare);
}

/** Linux writes at the end of the file, whatever the position, by a descriptor that appends. */
function requirePositions(libc: Libc, fd: number): void {
  if (!libc.isAppending(fd)) return;
  throw new RamError(
    "EINVAL",
    "the descriptor appends: every store would go to the end of the file: open it without O_APPEND",
  );
}

function requireWritable(seals: number, isHuge: boolean): void {
  if ((seals & (Seal.WRITE | Seal.FUTURE_WRITE)) !== 0) {
    throw new RamError("EACCES", "file is sealed against writing: map it with readonly true");
  }
  if (isHuge) {
    throw new RamError(
      "EINVAL",
      "file is made of huge pages, which cannot be written safely: use ordinary pages",
    );
  }
}

function typeName(type: number): string {
  switch (type) {
    case FileType.DIRECTORY:
      return "a directory";
    case FileType.FIFO:
      return "a pipe";
    case FileType.SOCKET:
      return "a socket";
    case FileType.CHARACTER_DEVICE:
    case FileType.BLOCK_DEVICE:
      return "a device";
    default:
      return "no file";
  }
}

/** What the kernel's answers mean here; whatever is not listed is `EIO`. */
const ERRNO: ReadonlyMap<number, readonly [RamErrorCode, string]> = new Map([
  [1, ["EACCES", "the system does not permit it"]],
  [2, ["ENOENT", "no such file"]],
  [9, ["EACCES", "the descriptor does not allow it"]],
  [12, ["ENOMEM", "the system has no memory for it"]],
  [13, ["EACCES", "the system does not permit it"]],
  [20, ["ENOENT", "a part of the path is no directory"]],
  [23, ["EMFILE", "the system has no file descriptor left"]],
  [24, ["EMFILE", "the process has no file descriptor left"]],
  [26, ["EACCES", "it is being executed"]],
  [30, ["EACCES", "the file system is read-only"]],
  [36, ["EINVAL", "a part of the path is too long"]],
  [40, ["EINVAL", "the path has too many symbolic links"]],
]);

function systemError(what: string, result: number): RamError {
  const [code, reason] = ERRNO.get(-result) ?? ["EIO", `errno ${-result}`];
  return new RamError(code, `${what}: ${reason}`);
}
