// Types and documentation of watchbox.js.

/** Options of a client. All have defaults. */
export interface Options {
  /**
   * A token, or a function that returns one. The function is called before each request, and again after a 401. It is
   * also called before the token of the open stream expires, and the stream continues with the new token: in the last
   * tenth of a token's lifetime, and in its last minute, return the next one. If the function throws, the client tries
   * again later; if it returns "", the request has no token. Without this option the browser's cookies are renewed in the
   * same way: the client tells the hub to read them again.
   */
  token?: string | (() => string | Promise<string>);

  /** Uses one stream for all tabs that set this. It needs Web Locks and BroadcastChannel; without them the tab has its own stream. */
  shared?: boolean;

  /** Distinguishes several clients of one page, or frames of one tab, in the state that is kept over a reload. */
  name?: string;

  /** The session's secret: 16 to 128 random visible ASCII characters. Default: a generated one. */
  session?: string;

  /** Whether the client receives its own messages. Default: true. */
  echo?: boolean;

  /** Where the first stream starts: "all", a duration such as "10m", an RFC 3339 time, or a message id. */
  since?: string;

  /** How many of the newest messages the first stream starts with. */
  last?: number;

  /** The longest wait between two attempts, in ms. Default: 30000. */
  maxDelay?: number;

  /**
   * How to subscribe. "fetch", the default, sees heartbeats and so notices dead connections, learns the reason of
   * a refusal, gets messages with any event name, and keeps the secret out of URLs. "eventsource" uses the browser's
   * EventSource, which does none of that. With a token, fetch is used. Where a proxy holds the stream back, the client
   * opens it by a POST of fetch, or polls, and remembers that for an hour in localStorage.
   */
  transport?: "fetch" | "eventsource";

  /** For "eventsource": the event names that messages may have. It misses messages with other names. */
  events?: string[];
}

/** A message as callbacks get it. */
export interface Message<T = unknown> {
  /** The message's position in the hub's log. */
  id: string;
  group: string;
  /** The event name, if it has one. */
  event?: string;
  /** Pairs of a name and a value that the sender added, if any. Names that begin with $ come from the hub. */
  meta?: [string, string][];
  /** The uid of the sender's session, if it has one. */
  uid?: string;
  /** When the hub received it, in RFC 3339. */
  time: string;
  /** When it expires, if it does. */
  expires?: string;
  /** Set for a retained message from before the join. */
  retained?: true;
  /** The payload: a JSON value, or a Uint8Array for bytes that are not UTF-8. */
  msg: T;
  /**
   * The text of the payload's JSON as the hub sent it, with all digits of its numbers, which msg rounds beyond 2^53. Messages
   * of a join have it, unless they are bytes.
   */
  json?: string;
}

/** Reads a message as the hub writes it: the data of an event, or a line of a history in ndjson. */
export function parseMessage(text: string): Message<any>;

/** Messages that can no longer be delivered. */
export interface Gap {
  filter: string;
  /** The missed messages came after this id. */
  after: string;
  /** The id of the first message that is still there, if any. */
  oldest?: string;
  reason: "evicted" | "epoch" | "slow";
}

/** The answer to a publish: the hub has stored the message. */
export interface Receipt {
  id: string;
  group: string;
  time: string;
}

/** A message of a batch. */
export interface BatchMessage {
  group: string;
  /** The payload, as for publish. */
  msg?: unknown;
  event?: string;
  meta?: [string, string][];
  ttl?: number | string;
  retain?: boolean;
}

/** The answer to a batch: the hub has stored all messages, next to each other in the log. */
export interface BatchReceipt {
  /** The id of the first message. */
  first: string;
  /** The id of the last one. */
  id: string;
  count: number;
  time: string;
}

export interface WillOptions {
  /** How long after the session was lost the will is sent, unless the session returns: in ms, or such as "5s". */
  delay?: number | string;
  event?: string;
  meta?: [string, string][];
  ttl?: number | string;
  /** Whether the group retains it, as "offline" after a retained "online". */
  retain?: boolean;
}

export interface PublishOptions {
  /** The event name. */
  event?: string;
  /** How long until the message expires: in ms, or such as "10m". */
  ttl?: number | string;
  /** Whether the group retains the message for clients that join later. Without a value, clears the retained message. */
  retain?: boolean;
  /**
   * Pairs of a name and a value that receivers get with the message, in this order. A name may appear more than once. At
   * most 16, with 1 KiB together.
   */
  meta?: [string, string][];
  /** Cancels the request. It is then unknown whether the message was published. */
  signal?: AbortSignal;
}

/**
 * idle: nothing is joined · connecting · open · waiting: until the next attempt · closed: for good.
 *
 *     idle ──join──▶ connecting ──▶ open ──loss──▶ waiting ──▶ connecting …
 *       ◀──last leave──┘ any           any ──close(), 204, 401, 403, kicked──▶ closed
 */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

export interface Subscription {
  readonly filter: string;
  leave(): void;
}

/** A refusal by the hub, or the reason why it cannot be reached. */
export class WatchboxError extends Error {
  constructor(message: string, answer?: { status?: number; code?: string; retryAfter?: number });
  /** The HTTP status; 0 where there was no answer, 307 for any redirect. */
  status: number;
  /** The problem's code, which is stable; "" if the answer has none. */
  code: string;
  /** How many ms to wait before a retry, if the hub says; otherwise 0. */
  retryAfter: number;
  /** Whether a retry may succeed. */
  get temporary(): boolean;
}

export interface EventMap {
  /** The stream is open for the first time. */
  open: CustomEvent<{ uid: string }>;
  /** The stream is lost; once per loss. delay: ms until the next attempt. */
  disconnect: CustomEvent<{ error?: WatchboxError; delay?: number }>;
  /** The stream is open again and resumes where it was. */
  reconnect: CustomEvent<{ uid: string }>;
  /** Messages were missed that can no longer be delivered. */
  gap: CustomEvent<Gap>;
  /** A message to this session alone. */
  direct: CustomEvent<Message>;
  /** The client is closed: by close(), or because of the error. */
  closed: CustomEvent<{ error?: WatchboxError }>;
  /**
   * The open stream could not get a new token: the function of the option token failed, or the hub refused the token or
   * did not answer. The next attempt is in delay ms. If none succeeds, the stream ends with its old token, and
   * reconnects and resumes with the token of that time.
   */
  unrenewed: CustomEvent<{ error: WatchboxError; delay: number }>;
  /** The state has changed. */
  state: CustomEvent<{ state: State; error?: WatchboxError; delay?: number }>;
}

/**
 * A client of a hub: one session, with one stream for all joined groups.
 *
 * The stream reconnects by itself and resumes after the last message, so that each message is delivered
 * once and in order; a gap event reports messages that can no longer be delivered. A reloaded page resumes, too, with
 * the filters that it joins again within ten seconds.
 *
 * 204, 401, 403 and the hub's own errors (problem+json) are final. Any other answer, such as a proxy's 404 while the
 * hub is replaced, is final only before the hub has answered for the first time. Redirects are not
 * followed, so that neither the session's secret nor a token reaches another host.
 */
export class Watchbox extends EventTarget {
  /**
   * @param url the address of the hub. Default: where watchbox.js was loaded from.
   */
  constructor(url?: string | URL, options?: Options);

  /** The hub's address. */
  get url(): string;
  /** The session's public name; "" before the stream has been open. */
  get uid(): string;
  get state(): State;

  /**
   * Subscribes: calls the callback with each message that the filter matches, in order. Resolves when the
   * subscription is active. Throws a WatchboxError if the hub refuses it.
   */
  join<T = unknown>(filter: string, callback: (message: Message<T>) => void): Promise<Subscription>;

  /** Ends the subscription of a callback to a filter; without a callback, all subscriptions to it. */
  leave(filter: string, callback?: (message: Message<any>) => void): void;

  /**
   * Publishes to a group: bytes (a Blob, an ArrayBuffer or a view of one) as they are, anything else as
   * JSON. Retries until the hub has stored the message; it is stored once. Throws a WatchboxError if the hub refuses it.
   */
  publish(group: string, value?: unknown, options?: PublishOptions): Promise<Receipt>;

  /** Sends messages to several groups: all of them or none. */
  publishBatch(messages: BatchMessage[], options?: { signal?: AbortSignal }): Promise<BatchReceipt>;

  /** Returns the retained messages of a group, or of all groups that a filter matches. */
  retained<T = unknown>(filter: string, options?: { signal?: AbortSignal }): Promise<Message<T>[]>;

  /** Sends to the program that embeds the hub only. */
  send(value: unknown, options?: { signal?: AbortSignal }): Promise<void>;

  /** Sends to one session, which gets the message as an event "direct". */
  sendTo(uid: string, value: unknown, options?: { signal?: AbortSignal }): Promise<Receipt>;

  /**
   * Sets a message that the hub publishes when this session ends without close(): after the session timeout,
   * or options.delay after the session was lost. Waits until the stream is open.
   */
  setWill(group: string, value: unknown, options?: WillOptions): Promise<void>;
  clearWill(): Promise<void>;

  /** Ends the session: closes the stream and cancels requests. The will is not sent. */
  close(): Promise<void>;

  addEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}
