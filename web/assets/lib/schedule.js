// Work that repeats only while the page is visible.

/**
 * Calls f now and then again and again, but not while the page is hidden, and not before the last call is done.
 * @param {(signal: AbortSignal) => Promise<void>} f
 * @param {number} ms
 * @returns {() => void} stops it
 */
export function whileVisible(f, ms) {
  const stop = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let running = false;
  const run = async () => {
    if (running || stop.signal.aborted || document.hidden) return;
    running = true;
    clearTimeout(timer);
    try {
      await f(stop.signal);
    } finally {
      running = false;
      if (!stop.signal.aborted && !document.hidden) timer = setTimeout(run, ms);
    }
  };
  document.addEventListener("visibilitychange", run);
  run();
  return () => {
    stop.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", run);
  };
}

/** How often what has failed is tried again, in ms. */
const RETRY_EVERY = 3000;

/**
 * Calls f after a pause, and then again and again while the page is visible, until it returns true. For requests that are made
 * once: the hub may be back later.
 * @param {() => Promise<boolean>} f
 * @returns {() => void} stops it
 */
export function retry(f) {
  let waits = true;
  const stop = whileVisible(async () => {
    if (!waits && await f()) stop();
    waits = false;
  }, RETRY_EVERY);
  return stop;
}

/**
 * Returns a function that calls f once in the next frame, however often it is called until then.
 * @param {() => void} f
 */
export function inNextFrame(f) {
  let frame = 0;
  return () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      f();
    });
  };
}

/**
 * Returns a function that calls f when it was not called for a time.
 * @param {() => void} f
 * @param {number} ms
 */
export function afterPause(f, ms) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(f, ms);
  };
}
