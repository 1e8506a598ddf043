// A session as a program drives it.

import { Collector } from './collect.js'
import type { Chunk } from './collect.js'
import { ClosedError, ConnectionError } from './errors.js'
import { Feed } from './feed.js'
import { Rest } from './rest.js'
import type { RestOptions } from './rest.js'
import { Run } from './run.js'
import type { SessionRunOptions } from './run.js'
import { deferred } from './runs.js'
import { Stream } from './stream.js'
import type { AttachOptions, ConnectionState, StateInfo } from './stream.js'
import type { Attached, Completions, RunOutput, RunStarted, StreamEvent } from './types.js'

export interface SessionOptions extends AttachOptions {
  /** Where it aborts, the session is closed here, and what waits rejects with its reason. */
  signal?: AbortSignal
}

/** Why nothing more is told of a session: reason where it has ended, error where it cannot be followed, neither where it was closed here. */
export type SessionEnd = Pick<StateInfo, 'reason' | 'error'>

const keepDefault = 16 << 20

/**
 * A session that this program is attached to. It connects by itself, and again whenever the
 * connection breaks, and goes on at the very position. What is asked for before there is a
 * connection waits for it where that is said; else it rejects with CONNECTION_LOST.
 *
 * {@link Session.close} must be called in the end; it leaves no timer and no socket.
 */
export class Session {
  readonly id: string
  /** Resolves with the first connection; rejects where there will be none. Nobody needs to look at it. */
  readonly attached: Promise<Attached>
  /** Resolves when nothing more will be told. */
  readonly closed: Promise<SessionEnd>
  private readonly rest: Rest
  private readonly stream: Stream
  private readonly first = deferred<Attached>()
  private readonly end = deferred<SessionEnd>()
  private readonly runs = new Map<string, Asked>() // that have not ended
  private readonly numbered = new Map<number, Collector>() // of those that have begun
  private readonly listeners = new Set<Feed<StreamEvent>>()
  private readonly feeds = new Set<Feed<unknown>>() // whoever reads
  private readonly ending = new AbortController()
  private now: ConnectionState = 'connecting'

  /** As {@link Client.attach}, which is the way to get one. */
  constructor(server: RestOptions, id: string, options: SessionOptions = {}) {
    const { signal, ...attach } = options
    this.id = id
    this.attached = this.first.promise
    this.closed = this.end.promise
    this.rest = new Rest(server)
    this.stream = new Stream({
      ...server, ...attach, session: id, autoAck: false,
      onEvent: (e) => this.take(e),
      onState: (state, info) => this.enter(state, info, options.onState),
    })
    const abort = () => this.stream.close(signal?.reason)
    if (signal?.aborted) abort()
    signal?.addEventListener('abort', abort, { once: true })
    void this.closed.then(() => signal?.removeEventListener('abort', abort))
  }

  /** Whether there is a connection now. */
  get state(): ConnectionState {
    return this.now
  }

  /** The position after everything that has come. What a reader of {@link Session.events} has dealt with ends at {@link positionAfter} its last event. */
  get pos(): number {
    return this.stream.pos
  }

  /**
   * Runs code, after what is on and waiting. The request waits for a connection, and is made
   * once, whatever becomes of that. With the run_id of a run that is known it is that run.
   */
  run(code: string, options: SessionRunOptions = {}): Run {
    const { keep, signal, ...asked } = options
    const known = this.runs.get(options.run_id ?? '')
    if (known?.code === code) return known.run
    const handle = this.stream.run(code, asked)
    const { run_id } = handle
    const collector = new Collector(keep ?? keepDefault, () => this.feed<Chunk>())
    if (this.now === 'open') collector.toldFrom = this.stream.pos
    const run = new Run(handle, collector)
    if (!known) this.runs.set(run_id, { code, run, collector })
    const abort = () => this.stream.abandon(run_id, signal?.reason)
    const over = (failed?: { reason: unknown }) => {
      signal?.removeEventListener('abort', abort)
      this.ended(run_id, collector)
      collector.end(failed)
    }
    handle.started.then((e) => {
      if (e.pos === undefined && !collector.catchesUp) void this.catchUp(run_id, collector)
    }, () => {})
    handle.finished.then(() => over(), (reason: unknown) => over({ reason }))
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    return run
  }

  /**
   * Everything that happens in the session from now on, whoever does it, in order and each
   * once; if this is called before the first connection, from where the session was attached.
   * It ends with the session. Of who reads slowly, {@link Run} says more. Where signal aborts,
   * reading on rejects with its reason.
   */
  events(options: { signal?: AbortSignal } = {}): AsyncIterableIterator<StreamEvent> {
    const { signal } = options
    const feed = this.feed<StreamEvent>()
    this.listeners.add(feed)
    const abort = () => feed.end({ reason: signal?.reason })
    if (this.now === 'closed') feed.end({})
    else if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    return feed
  }

  /** As {@link Stream.stdin}: input for any run, beside others who write to it. */
  stdin(run_id: string, data: string | Uint8Array): Promise<void> {
    return this.stream.stdin(run_id, data)
  }

  /** Ends the input of a run, after what was written to it here. */
  closeStdin(run_id: string): Promise<void> {
    return this.stream.closeStdin(run_id)
  }

  /** Interrupts a run, or whichever is on, as Ctrl-C does; with force, TERM and KILL follow after a second each. */
  interrupt(what?: { run_id?: string; force?: boolean }): Promise<void> {
    return this.stream.interrupt(what)
  }

  /** Sends what a run has started, or whichever is on, a signal, as "SIGTERM". */
  signal(signal: string, run_id?: string): Promise<void> {
    return this.stream.signal(signal, run_id)
  }

  /** Takes a run out of the queue, or ends it. */
  cancel(run_id: string): Promise<void> {
    return this.stream.cancel(run_id)
  }

  /** What bash's Tab would make of a line with the cursor after so many code points; absent: at its end. Rejects with BUSY while a run is on. */
  complete(line: string, point?: number): Promise<Completions> {
    return this.stream.complete(line, point)
  }

  /** Asks the server for a sign of life; resolves to the milliseconds it took. */
  ping(): Promise<number> {
    return this.stream.ping()
  }

  /** The network or the machine has come back: looks at once whether the connection has. */
  wake(): void {
    this.stream.wake()
  }

  /** Lets the session go, which lives on, as do its runs. What waits here rejects with CLOSED. */
  close(): void {
    this.stream.close()
  }

  private feed<T>(): Feed<T> {
    const feed = new Feed<T>(() => this.credit())
    this.feeds.add(feed as Feed<unknown>)
    return feed
  }

  /** The server may send as far ahead as the slowest reader has read. */
  private credit(): void {
    let to = this.stream.pos
    for (const feed of this.feeds) {
      if (feed.done) {
        this.feeds.delete(feed)
        this.listeners.delete(feed as Feed<StreamEvent>)
      } else to = Math.min(to, feed.unread)
    }
    this.stream.consumed(to)
  }

  private enter(state: ConnectionState, info: StateInfo, tell: AttachOptions['onState']): void {
    this.now = state
    tell?.(state, info)
    if (state !== 'closed') return
    const { closedBy } = this.stream
    this.ending.abort()
    this.first.reject(closedBy)
    for (const feed of this.listeners) feed.end(closedBy instanceof ClosedError ? {} : { reason: closedBy })
    this.end.resolve({ ...(info.reason !== undefined && { reason: info.reason }), ...(info.error && { error: info.error }) })
  }

  private take(e: StreamEvent): void {
    if (e.type === 'attached') this.welcome(e)
    else if (e.type === 'output') this.numbered.get(e.run)?.take(e)
    else if (e.type === 'run.started') this.began(e)
    else if (e.type === 'gap') this.missed(e.to)
    else if (e.type === 'run.finished') {
      // What its background jobs write later is not to be taken for its own.
      const asked = this.runs.get(e.run_id)
      if (asked) this.ended(e.run_id, asked.collector)
    }
    const pos = e.type === 'gap' ? e.from : e.type === 'run.queued' ? undefined : e.pos
    for (const feed of this.listeners) feed.push(e, pos ?? this.stream.pos)
    this.credit()
  }

  private welcome(e: Attached): void {
    this.first.resolve(e)
    for (const { collector } of this.runs.values()) collector.toldFrom ??= this.stream.pos
  }

  private began(e: RunStarted): void {
    const asked = this.runs.get(e.run_id)
    if (asked) this.numbered.set(e.number, asked.collector)
  }

  /** What lies before to was not told. */
  private missed(to: number): void {
    const begun = new Set(this.numbered.values())
    for (const [run_id, { collector }] of this.runs) {
      if (begun.has(collector) || collector.catchesUp) collector.truncated = true
      else {
        collector.toldFrom = to
        void this.catchUp(run_id, collector)
      }
    }
  }

  private ended(run_id: string, collector: Collector): void {
    if (this.runs.get(run_id)?.collector === collector) this.runs.delete(run_id)
    for (const [number, c] of this.numbered) if (c === collector) this.numbered.delete(number)
  }

  /** Has a run that began before what is told here begin with what it had written until then. */
  private async catchUp(run_id: string, collector: Collector): Promise<void> {
    collector.hold()
    for (let tries = 0; tries < mostTries; tries++) {
      try {
        collector.resume(await this.earlier(run_id, collector))
        return
      } catch (e) {
        if (!(e instanceof ConnectionError)) break
      }
      // What broke this breaks the connection too, perhaps.
      const back = this.stream.connected()
      if (!(await this.stream.ping().then(() => true, () => back.then(() => true, () => false)))) return
    }
    collector.truncated = true
    collector.resume(undefined)
  }

  private async earlier(run_id: string, collector: Collector): Promise<RunOutput | undefined> {
    const { signal } = this.ending
    const info = await this.rest.runInfo(this.id, run_id, { signal })
    if (info.state === 'queued' || info.first >= (collector.toldFrom ?? 0)) return undefined
    if (this.runs.get(run_id)?.collector === collector) this.numbered.set(info.number, collector)
    return this.rest.output(this.id, run_id, { signal })
  }
}

// How often another door is asked while the connection is good.
const mostTries = 5

interface Asked {
  code: string
  run: Run
  collector: Collector
}
