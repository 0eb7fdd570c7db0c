import { type RequestView, TERMINAL } from "./types";

/** What a stream tells. */
export interface Watcher {
  /** A request as it now stands: at once, then at every change. */
  onRequest(request: RequestView): void;
  /** The API does not know the request yet. */
  onWaiting?(): void;
  /** The stream broke; it is tried again by itself. */
  onDown?(): void;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/**
 * Watch a request by server-sent events until it has ended or the returned function is called.
 *
 * The browser reconnects by itself after a cut; after an answer that is no stream (the API is down, or refuses) we do,
 * at growing intervals.
 */
export function watchRequest(base: string, id: string, watcher: Watcher): () => void {
  const url = `${base}/v1/requests/${encodeURIComponent(id)}/events`;
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pause = FIRST_PAUSE_MS;
  let over = false;

  function stop(): void {
    over = true;
    clearTimeout(timer);
    source?.close();
  }

  function open(): void {
    const stream = new EventSource(url);
    source = stream;
    stream.addEventListener("request", (event) => {
      if (over) return;
      const request = read(event.data, id);
      if (request === null) {
        broken(stream);
        return;
      }
      pause = FIRST_PAUSE_MS;
      // Before anyone is told: a listener may stop us, or throw.
      if (TERMINAL.has(request.status)) stop();
      watcher.onRequest(request);
    });
    stream.addEventListener("waiting", () => {
      pause = FIRST_PAUSE_MS;
      if (!over) watcher.onWaiting?.();
    });
    stream.addEventListener("error", () => {
      if (over) return;
      if (stream.readyState === EventSource.CLOSED) broken(stream);
      else watcher.onDown?.();
    });
  }

  function broken(stream: EventSource): void {
    stream.close();
    watcher.onDown?.();
    clearTimeout(timer);
    timer = setTimeout(open, pause);
    pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
  }

  open();
  return stop;
}

function read(data: unknown, id: string): RequestView | null {
  try {
    const request = JSON.parse(String(data)) as Partial<RequestView> | null;
    const whole = request?.id?.toLowerCase() === id.toLowerCase() && typeof request.status === "string";
    return whole && Array.isArray(request.timeline) ? (request as RequestView) : null;
  } catch {
    return null;
  }
}
