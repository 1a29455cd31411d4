/** One message as it lies in the input, and what came with it. One object serves for all messages of a session. */
export class VfioUserMessage {
  /** The bytes it is in; they stay as they are until the message is handled. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Where in them the payload begins. */
  payload = 0;
  /** Bytes of payload. */
  length = 0;
  /** The id, which the reply repeats. */
  id = 0;
  /** One of `Command`, or any other number. */
  command = 0;
  /** Whether nobody waits for a reply. */
  isPosted = false;
  /** Descriptors that came with it. Whoever handles it takes what it keeps; the rest is closed. */
  fds: readonly number[] = [];
}
