import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceObserver, DeviceSilent } from "../../src/metrics/device_observer.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";
import { FakeDevice, scratchFolder } from "./protocol_socket.ts";

Deno.test("read() answers all that ask at once with one question", async () => {
  await using device = await FakeDevice.start();
  await using observer = new DeviceObserver(device.path);
  const [first, second] = await Promise.all([observer.read(), observer.read()]);
  assertEquals([first === second, first["calls"]], [true, 1]);
  assertEquals((await observer.read())["calls"], 2);
});

Deno.test("read() keeps one connection", async () => {
  await using device = await FakeDevice.start();
  await using observer = new DeviceObserver(device.path);
  await observer.read();
  await observer.read();
  assertEquals([...device.service.peers].map(({ id }) => id), [1]);
});

Deno.test("read() tells of the process what it need not ask", async () => {
  await using device = await FakeDevice.start();
  await using observer = new DeviceObserver(device.path);
  const { build, startSeconds, residentBytes } = await observer.read();
  assertEquals(build, 1);
  assert(startSeconds! > 1.7e9 && startSeconds! <= Date.now() / 1000);
  assert(residentBytes! > 2 ** 20);
});

Deno.test("read() says that there is no device", async () => {
  await using observer = new DeviceObserver("/tmp/vgtt-no-such-folder/s");
  await assertRejects(() => observer.read(), DeviceSilent, "The device cannot be asked: No such file");
});

Deno.test("read() says what the device refuses", async () => {
  await using device = await FakeDevice.start({ maxConnections: 0 });
  await using observer = new DeviceObserver(device.path);
  await assertRejects(() => observer.read(), DeviceSilent, "There are 0 connections already");
});

Deno.test("read() gives up a device that does not answer, and asks it anew the next time", async () => {
  using folder = scratchFolder();
  using mute = Deno.listen({ transport: "unix", path: `${folder.path}/s` });
  await using observer = new DeviceObserver(`${folder.path}/s`, 50);
  await assertRejects(() => observer.read(), DeviceSilent, "no answer within 50 ms");
  using _first = await mute.accept();
  const again = assertRejects(() => observer.read(), DeviceSilent, "no answer");
  using _second = await mute.accept();
  await again;
});

/** A device at a path, which stops when it is disposed of. */
async function deviceAt(path: string): Promise<AsyncDisposable> {
  const stop = new AbortController();
  const service = new FakeService();
  const served = serve(await listenUnix(path), (id) => new RpcSession(service, { id }), {
    signal: stop.signal,
  });
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await served;
    },
  };
}

Deno.test("read() connects anew when the connection was lost", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  await using observer = new DeviceObserver(path);
  {
    await using _device = await deviceAt(path);
    await observer.read();
    assertEquals((await observer.read())["calls"], 2);
  }
  await using _device = await deviceAt(path);
  assertEquals((await observer.read())["calls"], 1);
});
