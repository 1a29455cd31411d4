// The notation of messages in protocol/README.md and protocol/vectors: JSON, with {"$int": "decimal"} for integers
// that JSON numbers do not hold and {"$bytes": "hex"} for bytes.

/** The value that a JSON value of that notation stands for. */
export function revive(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(revive);
  if (typeof json !== "object" || json === null) return json;
  const map = json as Record<string, unknown>;
  if (typeof map.$int === "string") return BigInt(map.$int);
  if (typeof map.$bytes === "string") return fromHex(map.$bytes);
  return Object.fromEntries(Object.entries(map).map(([name, value]) => [name, revive(value)]));
}

/** Bytes from hexadecimal digits; white space does not matter. */
export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  const digits = hex.replace(/\s/g, "");
  return Uint8Array.from(
    { length: digits.length / 2 },
    (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
}

/** Hexadecimal digits of bytes. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Several pieces as one. */
export function concat(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
