/**
 * Metrics of a device for monitoring: scraped by Prometheus over HTTP, or handed to Deno's exporter of OpenTelemetry.
 *
 * The exporter is an observer of the device like any other. It says nothing to the guest and changes nothing: it asks
 * `stats` when somebody wants to know.
 *
 * @module
 */

import { type Listener, listenUnix } from "../server/listener.ts";
import { DeviceObserver } from "./device_observer.ts";
import type { HttpResponse } from "./http_request.ts";
import { ScrapeServer } from "./scrape_server.ts";
import { listenTcp, type TcpAddress } from "./tcp_listener.ts";

/** What is exported, and where. */
export interface ExporterOptions {
  /** The socket on which the device speaks MessagePack-RPC. */
  readonly device: string;
  /** Path of a Unix socket for scrapes, or `null`. */
  readonly path: string | null;
  /** Permission bits of that. */
  readonly mode: number;
  /** Address of a TCP socket for scrapes, or `null`. */
  readonly listen: TcpAddress | null;
  /** Whether OpenTelemetry's instruments are made. */
  readonly openTelemetry: boolean;
}

/** Exports until it is disposed of. */
export class Exporter implements AsyncDisposable {
  /** Where it can be scraped. */
  readonly names: readonly string[];
  readonly #observer: DeviceObserver;
  readonly #servers: readonly ScrapeServer[];

  private constructor(observer: DeviceObserver, listeners: readonly Listener[]) {
    this.#observer = observer;
    this.#servers = listeners.map((listener) => new ScrapeServer(listener, pageOf(observer)));
    this.names = listeners.map(({ name }) => name.startsWith("/") ? `${name} (metrics)` : name);
  }

  /**
   * Starts; the device is not asked before somebody asks.
   *
   * @param options What, and where.
   * @returns The exporter.
   * @throws {ListenError} If a socket cannot be had.
   */
  static async start({ device, path, mode, listen, openTelemetry }: ExporterOptions): Promise<Exporter> {
    const listeners: Listener[] = [];
    try {
      if (path !== null) listeners.push(await listenUnix(path, { mode }));
      if (listen !== null) listeners.push(listenTcp(listen));
      const observer = new DeviceObserver(device);
      if (openTelemetry) {
        (await import("./open_telemetry.ts")).observeForOpenTelemetry(() => observer.read());
      }
      return new Exporter(observer, listeners);
    } catch (error) {
      for (const listener of listeners) listener.close();
      throw error;
    }
  }

  /** Stops exporting and removes the socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#observer, ...this.#servers].map((each) => each[Symbol.asyncDispose]()));
  }
}

/** The page of an observer's device. */
function pageOf(observer: DeviceObserver): () => Promise<HttpResponse> {
  // The library takes a tenth of a second to load: best now, before there is a guest, and while nobody waits for it.
  const library = import("./prometheus_text.ts");
  library.catch(() => {}); // whoever scrapes is told
  return async () => {
    try {
      const { prometheusText, PROMETHEUS_TEXT_TYPE } = await library;
      const text = await prometheusText(await observer.read());
      return { status: 200, type: PROMETHEUS_TEXT_TYPE, body: text };
    } catch (error) {
      return { status: 503, body: `${error instanceof Error ? error.message : error}\n` };
    }
  };
}
