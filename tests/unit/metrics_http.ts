// HTTP by hand, so that tests see every byte.

import { toText } from "@std/streams";

/** An answer. */
export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** Connects to a server that listens at a URL, or at the path of a Unix socket. */
export async function dial(target: string): Promise<Deno.TcpConn | Deno.UnixConn> {
  if (target.startsWith("/")) return await Deno.connect({ transport: "unix", path: target });
  const { hostname, port } = new URL(target);
  return await Deno.connect({ hostname, port: Number(port) });
}

/** Sends a request as it is given, says that there will be no other, and reads to the connection's end. */
export async function ask(target: string, request = "GET /metrics HTTP/1.1\r\n\r\n"): Promise<Answer> {
  const conn = await dial(target);
  const bytes = new TextEncoder().encode(request);
  for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
  await conn.closeWrite();
  return readAnswer(await toText(conn.readable));
}

/** Reads an answer. @throws {Error} If it is none, or says another length than it has. */
export function readAnswer(text: string): Answer {
  const [, status, fields, body] =
    /^HTTP\/1\.1 (\d{3}) [A-Za-z ]+\r\n((?:[^\r\n]+\r\n)*)\r\n([^]*)$/.exec(text) ?? [];
  if (status === undefined) throw new Error(`no answer: ${JSON.stringify(text)}`);
  const pairs = fields!.split("\r\n").slice(0, -1).map((line) => line.split(": ") as [string, string]);
  return { status: Number(status), headers: new Map(pairs), body: body! };
}
