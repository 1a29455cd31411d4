/** A device that listens. */
export interface Serving {
  /** What it listens on. */
  readonly names: readonly string[];
  /** Path by which one can connect to it in MessagePack-RPC; `null`: none is known. */
  readonly rpcPath: string | null;
  /** Settles when it has ended. */
  readonly ended: Promise<void>;
  /** Tells it to end. */
  stop(): void;
  /** Gives everything back; called after {@linkcode ended}, or when it could not begin. */
  close(): void;
}
