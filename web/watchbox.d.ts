// Types of watchbox.js, and what it promises.

/** What a client may be told. All of it has a default. */
export interface Options {
  /** A token, or what returns one: it is asked before each request, and again after a 401. */
  token?: string | (() => string | Promise<string>);

  /** Uses one stream for all tabs that ask for it (Web Locks; without them, a stream of its own). */
  shared?: boolean;

  /** Tells clients of one page, or frames of one tab, apart in what they keep over a reload. */
  name?: string;

  /** The session's secret: 16 to 128 visible ASCII characters, at random. Without it, one is made up. */
  session?: string;

  /** Whether the client gets what it has sent itself. Default: true. */
  echo?: boolean;

  /** Where a first stream begins: "all", a duration as "10m", an RFC 3339 time, or an id. */
  since?: string;

  /** How many of the newest messages a first stream begins with. */
  last?: number;

  /** The longest wait between two attempts, in ms. Default: 30000. */
  maxDelay?: number;

  /**
   * How to listen. fetch, the default, sees heartbeats and so notices dead connections, hears why it
   * is refused, gets messages whatever their event name is, and keeps the secret out of addresses.
   * eventsource is the browser's own, and none of that; with a token it is not used.
   */
  transport?: "fetch" | "eventsource";

  /** For eventsource: the names of events that messages may have. It misses those of others. */
  events?: string[];
}

/** A message, as its callback gets it. */
export interface Message<T = unknown> {
  /** Its position in the hub's log. */
  id: string;
  group: string;
  /** The name of the event that it was published as, if any. */
  event?: string;
  /** Who sent it, if that was a session. */
  uid?: string;
  /** When, as RFC 3339 has it. */
  time: string;
  /** Until when it is kept, if there is an end to that. */
  expires?: string;
  /** Set for what was there before the join, because it is retained. */
  retained?: true;
  /** The payload: a JSON value, or a Uint8Array if it was bytes and no text. */
  msg: T;
}

/** Messages that can no longer be had. */
export interface Gap {
  filter: string;
  /** The id behind which they lay. */
  after: string;
  /** The id of the first that follows, if there is one. */
  oldest?: string;
  reason: "evicted" | "epoch" | "slow";
}

/** What a publish returns: the message is kept. */
export interface Receipt {
  id: string;
  group: string;
  time: string;
}

/** A message of a batch. */
export interface BatchMessage {
  group: string;
  /** As publish takes it. */
  msg?: unknown;
  event?: string;
  ttl?: number | string;
  retain?: boolean;
}

/** What a batch returns: its messages are kept, next to each other in the log. */
export interface BatchReceipt {
  /** The id of the first message. */
  first: string;
  /** The id of the last one. */
  id: string;
  count: number;
  time: string;
}

export interface WillOptions {
  /** How long after the session was lost the will is sent, if it is not back: ms, or as "5s". */
  delay?: number | string;
  event?: string;
  ttl?: number | string;
  /** Whether it becomes the group's value, for "offline" after a retained "online". */
  retain?: boolean;
}

export interface PublishOptions {
  /** The name of the event. */
  event?: string;
  /** How long the message is kept: ms, or as "10m". */
  ttl?: number | string;
  /** Whether it is the group's value for whoever joins later. With no value: there is none any more. */
  retain?: boolean;
  /** Gives up. Whether the message was sent is then not known. */
  signal?: AbortSignal;
}

/**
 * idle: nothing is joined · connecting · open · waiting, before it tries again · closed, for good.
 *
 *     idle ──join──▶ connecting ──▶ open ──loss──▶ waiting ──▶ connecting …
 *       ◀──last leave──┘ any           any ──close(), 204, 401, 403, kicked──▶ closed
 */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

export interface Subscription {
  readonly filter: string;
  leave(): void;
}

/** What the hub answers when it refuses, and what is said when it cannot be reached. */
export class WatchboxError extends Error {
  constructor(message: string, answer?: { status?: number; code?: string; retryAfter?: number });
  /** The HTTP status; 0 where there was no answer, 307 for any redirect. */
  status: number;
  /** The problem's code, which stays the same whatever the words are; "" for none. */
  code: string;
  /** After how many ms the hub wants to be asked again; 0: it did not say. */
  retryAfter: number;
  /** Whether it may be different the next time. */
  get temporary(): boolean;
}

export interface EventMap {
  /** The stream stands, for the first time. */
  open: CustomEvent<{ uid: string }>;
  /** It is lost; once per loss. delay: in how many ms it will be tried again. */
  disconnect: CustomEvent<{ error?: WatchboxError; delay?: number }>;
  /** It is back, and goes on where it was. */
  reconnect: CustomEvent<{ uid: string }>;
  /** Messages were missed that can no longer be had. */
  gap: CustomEvent<Gap>;
  /** A message to this session alone. */
  direct: CustomEvent<Message>;
  /** It is over: by close(), or because of the error. */
  closed: CustomEvent<{ error?: WatchboxError }>;
  /** Each change of state. */
  state: CustomEvent<{ state: State; error?: WatchboxError; delay?: number }>;
}

/**
 * A client of a hub: one session, with one stream for all that it joins.
 *
 * The stream comes back by itself, and goes on behind the last message, so that each is delivered
 * once and in order; what can no longer be had is told as a gap. A page that is reloaded goes on
 * where it was, too, with what it joins again within ten seconds.
 *
 * An answer is final if it is 204, 401 or 403, or a problem of the hub's own. Any other, as a 404 of a proxy
 * while the hub is replaced, is final only before the hub has answered for the first time. Redirects are not
 * followed, so that neither the session's secret nor a token reaches another host.
 */
export class Watchbox extends EventTarget {
  /**
   * @param url where the hub is. Default: where watchbox.js came from.
   */
  constructor(url?: string | URL, options?: Options);

  /** The hub's address. */
  get url(): string;
  /** The session's public name; "" before the stream was open once. */
  get uid(): string;
  get state(): State;

  /**
   * Has the callback called with each message that the filter matches, one after the other. Returns
   * when the stream has the filter. Throws a WatchboxError if the hub refuses it.
   */
  join<T = unknown>(filter: string, callback: (message: Message<T>) => void): Promise<Subscription>;

  /** Takes a callback from a filter; without one, all of them. */
  leave(filter: string, callback?: (message: Message<any>) => void): void;

  /**
   * Sends to a group: bytes (a Blob, an ArrayBuffer or a view of one) as they are, anything else as
   * JSON. It tries until the hub has it, once, or refuses it: then it throws a WatchboxError.
   */
  publish(group: string, value?: unknown, options?: PublishOptions): Promise<Receipt>;

  /** Sends messages to several groups: all of them or none. */
  publishBatch(messages: BatchMessage[], options?: { signal?: AbortSignal }): Promise<BatchReceipt>;

  /** Returns the retained messages of a group, or of all groups that a filter matches. */
  retained<T = unknown>(filter: string, options?: { signal?: AbortSignal }): Promise<Message<T>[]>;

  /** Sends to the program that hosts the hub, and to nobody else. */
  send(value: unknown, options?: { signal?: AbortSignal }): Promise<void>;

  /** Sends to one session, which gets it as an event direct. */
  sendTo(uid: string, value: unknown, options?: { signal?: AbortSignal }): Promise<Receipt>;

  /**
   * Has the hub send a message when this session is gone without close(): at the end of its timeout,
   * or delay (ms, or as "5s") after it was lost. Waits for the stream to be open.
   */
  setWill(group: string, value: unknown, options?: WillOptions): Promise<void>;
  clearWill(): Promise<void>;

  /** Ends the session: the stream, and what is being sent. No will is sent. */
  close(): Promise<void>;

  addEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}
