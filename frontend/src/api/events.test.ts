import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { watchRequest } from "./events";

class FakeEventSource extends EventTarget {
  static readonly CLOSED = 2;
  static made: FakeEventSource[] = [];
  readyState = 0;

  constructor(readonly url: string) {
    super();
    FakeEventSource.made.push(this);
  }

  close() {
    this.readyState = 2;
  }

  say(name: string, data: unknown) {
    this.dispatchEvent(new MessageEvent(name, { data: typeof data === "string" ? data : JSON.stringify(data) }));
  }

  fail(state: number) {
    this.readyState = state;
    this.dispatchEvent(new Event("error"));
  }
}

const ID = `0x${"ab".repeat(32)}`;
const view = (status: string) => ({ id: ID, status, timeline: [] });
const last = () => FakeEventSource.made.at(-1) as FakeEventSource;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", FakeEventSource);
  FakeEventSource.made = [];
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function watch() {
  const watcher = { onRequest: vi.fn(), onWaiting: vi.fn(), onDown: vi.fn() };
  return { ...watcher, stop: watchRequest("http://api.example", ID, watcher) };
}

describe("watching a request", () => {
  it("given a stream, when the request moves, then each state is told until the last, and the stream is closed", () => {
    const { onRequest, onWaiting } = watch();
    expect(last().url).toBe(`http://api.example/v1/requests/${ID}/events`);
    last().say("waiting", "{}");
    for (const status of ["seen", "computing", "fulfilled"]) last().say("request", view(status));
    expect(onWaiting).toHaveBeenCalledOnce();
    expect(onRequest.mock.calls.map(([request]) => (request as { status: string }).status)).toEqual([
      "seen",
      "computing",
      "fulfilled",
    ]);
    expect(last().readyState).toBe(2);
    vi.advanceTimersByTime(60_000);
    expect(FakeEventSource.made).toHaveLength(1);
  });

  it("given a cut that the browser mends, when it comes, then it is told and no second stream is opened", () => {
    const { onDown } = watch();
    last().fail(0);
    expect(onDown).toHaveBeenCalledOnce();
    vi.advanceTimersByTime(60_000);
    expect(FakeEventSource.made).toHaveLength(1);
  });

  it("given an API that answers no stream, when it goes on, then it is tried again at growing intervals", () => {
    watch();
    const opened: number[] = [];
    for (let second = 0; second < 16; second++) {
      if (last().readyState !== 2) last().fail(2);
      opened.push(FakeEventSource.made.length);
      vi.advanceTimersByTime(1_000);
    }
    expect(opened).toEqual([1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5]);
  });

  it.each(["{", "null", JSON.stringify({ ...view("seen"), id: "0x00" }), JSON.stringify({ id: ID, status: "seen" })])(
    "given %s for a request, when it comes, then it is not taken for one",
    (data) => {
      const { onRequest, onDown } = watch();
      last().say("request", data);
      expect(onRequest).not.toHaveBeenCalled();
      expect(onDown).toHaveBeenCalledOnce();
    },
  );

  it("given a watcher that stops, when more comes, then nothing is told and nothing is opened", () => {
    const { onRequest, onDown, stop } = watch();
    const stream = last();
    stop();
    stream.say("request", view("seen"));
    stream.fail(2);
    vi.advanceTimersByTime(60_000);
    expect(onRequest).not.toHaveBeenCalled();
    expect(onDown).not.toHaveBeenCalled();
    expect(FakeEventSource.made).toHaveLength(1);
  });
});
