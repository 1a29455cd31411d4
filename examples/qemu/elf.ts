/**
 * The sections of an ELF object file of 64 bits, little-endian.
 *
 * @module
 */

const MAGIC = 0x464c457f;

/** Offsets of the file header's fields: the section headers, the size of each, how many, whose section has names. */
const SECTIONS_AT = 0x28;
const SECTION_SIZE_AT = 0x3a;
const SECTION_COUNT_AT = 0x3c;
const NAMES_INDEX_AT = 0x3e;

/** Offsets of a section header's fields: its name's offset among the names, the content's offset and size. */
const NAME_AT = 0x00;
const OFFSET_AT = 0x18;
const SIZE_AT = 0x20;

/**
 * The content of a section.
 *
 * @param file The object file.
 * @param name The section's name, as `.modinfo`.
 * @returns Its bytes; none if there is no such section.
 * @throws {RangeError} If this is no such file.
 */
export function sectionOf(file: Uint8Array<ArrayBuffer>, name: string): Uint8Array<ArrayBuffer> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new RangeError("this is no ELF file");
  const long = (at: number) => Number(view.getBigUint64(at, true));
  const header = (index: number) => long(SECTIONS_AT) + index * view.getUint16(SECTION_SIZE_AT, true);
  const content = (at: number) =>
    file.subarray(long(at + OFFSET_AT), long(at + OFFSET_AT) + long(at + SIZE_AT));
  const names = new TextDecoder("latin1").decode(content(header(view.getUint16(NAMES_INDEX_AT, true))));
  for (let index = 0; index < view.getUint16(SECTION_COUNT_AT, true); index++) {
    const at = view.getUint32(header(index) + NAME_AT, true);
    if (names.slice(at, names.indexOf("\0", at)) === name) return content(header(index));
  }
  return new Uint8Array();
}
