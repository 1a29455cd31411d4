// A device for protocol tests: it answers every method plausibly and records what it was asked.

import { RpcError } from "../../protocol/errors.ts";
import type { MethodName } from "../../protocol/methods.ts";
import type { HelloParams, HelloResult, RpcPeer, RpcService } from "../../src/server/rpc_session.ts";

/** A service with one register per (region, offset), and a VMM slot like the real one. */
export class FakeService implements RpcService {
  debug = false;
  vmm: RpcPeer | null = null;
  /** Peers whose open succeeded and which have not been closed. */
  readonly peers = new Set<RpcPeer>();
  readonly calls: [method: MethodName, params: readonly unknown[]][] = [];
  /** Whether calls are recorded; off in loads of many. */
  records = true;
  readonly registers = new Map<string, unknown>();
  /** By method: what to do instead. */
  readonly overrides = new Map<MethodName, (peer: RpcPeer, params: readonly unknown[]) => unknown>();

  open(peer: RpcPeer, hello: HelloParams): HelloResult {
    if (hello.role === "vmm") {
      if (this.vmm !== null) throw new RpcError("EBUSY", "there is a VMM already", { session: this.vmm.id });
      this.vmm = peer;
    }
    this.peers.add(peer);
    return {
      protocol: 1,
      server: "fake/1",
      role: hello.role,
      debug: this.debug,
      regions: [{ index: 0, size: 0x100_0000 }, { index: 2, size: 0x1000_0000 }, { index: 7, size: 4096 }],
      config: { oos: false },
    };
  }

  call(peer: RpcPeer, method: MethodName, params: readonly unknown[]): unknown {
    if (this.records) this.calls.push([method, params]);
    const override = this.overrides.get(method);
    if (override !== undefined) return override(peer, params);
    switch (method) {
      case "mmio_write":
        this.registers.set(`${params[0]}:${params[1]}`, params[3]);
        return null;
      case "mmio_read":
        return this.registers.get(`${params[0]}:${params[1]}`) ?? 0;
      case "mem_read":
        return new Uint8Array(params[1] as number);
      case "mem_write":
      case "page_wrote":
        return 0;
      case "ram_map":
        return { kind: "local", mfn: 0x10_0000 };
      case "submit":
        return { mm: 0, created: true };
      case "stats":
        return { calls: this.calls.length };
      case "mm_pin":
        throw RpcError.fromErrno(-2, `mm_pin: no mm ${params[0]}`);
      default:
        return null;
    }
  }

  close(peer: RpcPeer): void {
    this.peers.delete(peer);
    if (this.vmm === peer) this.vmm = null;
  }
}
