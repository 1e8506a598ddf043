// A session, followed over any number of connections.

import { toBytes } from './bytes.js'
import { Credit } from './credit.js'
import { ClosedError, ConnectionError, RefusedError, TandemError } from './errors.js'
import { Input } from './input.js'
import { Requests } from './requests.js'
import { Rest } from './rest.js'
import type { RestOptions } from './rest.js'
import { Runs, deferred } from './runs.js'
import type { RunHandle, RunOptions } from './runs.js'
import { release, socketClass } from './socket.js'
import type { SocketClass, SocketLike } from './socket.js'
import type { Attached, Completions, Gap, Output, Role, RunEnd, RunFinished, RunStarted, StreamEvent } from './types.js'
import { ProtocolError, bearer, decodeMessage, decodeOutput, protocol, socketURL, stdin } from './wire.js'
import type { Message } from './wire.js'

/** waiting is the time between two attempts to connect; closed is final. */
export type ConnectionState = 'connecting' | 'open' | 'waiting' | 'closed'

export interface StateInfo {
  /** Attempts since the last connection that was good. */
  attempt: number
  /** When the next attempt is due, in ms since 1970. */
  retryAt?: number
  /** Why the stream is closed. */
  error?: TandemError
  /** Why the session has ended. */
  reason?: string
}

/** How to follow a session. */
export interface AttachOptions {
  /** "view": see everything and act on nothing. Default "control". */
  role?: Role
  /** Start there; together with neither this nor tail, at the end. */
  after?: number
  /** Start with up to the last so many positions. */
  tail?: number
  /** How many positions the server may send ahead of what is acknowledged. Default 1 MiB. */
  window?: number
  /** In place of the platform's, or of the package "ws" where it has none. */
  WebSocket?: SocketClass
  /** From 0 to 1; spreads the attempts of many clients. */
  random?: () => number
  onState?(state: ConnectionState, info: StateInfo): void
}

export interface StreamOptions extends RestOptions, AttachOptions {
  session: string
  /** Whether what onEvent has returned from counts as dealt with. Default true; else call {@link Stream.consumed}. */
  autoAck?: boolean
  /** Everything that happens in the session, in order, each once. */
  onEvent(event: StreamEvent): void
}

const backoffFirst = 250
const backoffMost = 8_000
/** A connection that lasted this long was good: the next failure starts from the first backoff. */
const goodAfter = 5_000
const pingAfter = 15_000
const pongWithin = 10_000
const wakePongWithin = 3_000
/** Frames in a row that make no sense, after which a server is taken to speak something else. */
const mostNonsense = 3

/**
 * Follows a session over any number of connections: it reconnects by itself and goes on at
 * the very position. Events are told once and in order; what retention has dropped in the
 * meantime is told as a gap. Close must be called in the end.
 */
export class Stream {
  /** What everything that waited for something was rejected with, once the stream is closed. */
  closedBy: unknown
  private readonly options: StreamOptions
  private readonly rest: Rest
  private readonly window: number
  private readonly runs = new Runs()
  private readonly input: Input
  private readonly requests = new Requests()
  private readonly credit: Credit
  private socket: SocketLike | undefined
  private loaded: SocketClass | undefined
  private state: ConnectionState = 'connecting'
  private attached = false // since the last connection was made
  private everAttached = false
  private position: number | undefined
  private reconnected = deferred<void>() // resolves with the next connection
  private readonly ending = new AbortController() // of what is asked over REST
  private attempt = 0
  private openedAt = 0
  private nonsense = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private liveness: ReturnType<typeof setTimeout> | undefined

  constructor(options: StreamOptions) {
    this.options = options
    this.rest = new Rest({ base: options.base, token: options.token ?? '', ...(options.fetch && { fetch: options.fetch }) })
    this.window = options.window ?? 1 << 20
    this.position = options.after
    this.credit = new Credit(this.window, (pos) => this.send({ type: 'ack', pos }))
    this.input = new Input((run_id, bytes, offset) => this.send(stdin(run_id, bytes, offset)))
    // Not before whoever makes the stream has it.
    queueMicrotask(() => this.state === 'connecting' && this.connect())
  }

  /** The position after everything that was told. */
  get pos(): number {
    return this.position ?? 0
  }

  /** Everything below pos has been dealt with: the server may send as much more. */
  consumed(pos: number): void {
    this.credit.consumed(Math.min(pos, this.pos))
  }

  /** Asks for a run; while there is no connection it waits for one. */
  run(code: string, options: RunOptions = {}): RunHandle {
    const run_id = options.run_id ?? randomID()
    const message = { ...options, type: 'run', code, run_id, ref: `run ${run_id}` }
    const { started, finished, fresh } = this.runs.add(message)
    if (this.state === 'closed') this.runs.refused(run_id, this.closedBy)
    else if (fresh) this.send(message)
    return {
      run_id, started, finished,
      write: (data) => this.give(run_id, data, true),
      closeStdin: () => this.closeStdin(run_id),
      interrupt: (how) => this.interrupt({ ...how, run_id }),
      signal: (signal) => this.signal(signal, run_id),
      cancel: () => this.cancel(run_id),
    }
  }

  /**
   * Gives a run up that was asked for here: its promises reject with the reason, and it is
   * canceled, once there is a connection if there is none.
   */
  abandon(run_id: string, reason: unknown): void {
    if (!this.runs.refused(run_id, reason)) return
    this.input.end(run_id, reason)
    this.cancelAtLast(run_id).catch(() => {}) // it has ended, or never began
  }

  private async cancelAtLast(run_id: string): Promise<void> {
    const next = this.connected()
    try {
      await this.cancel(run_id)
    } catch (e) {
      if (!isLost(e)) throw e
      await next
      await this.cancelAtLast(run_id)
    }
  }

  /**
   * Input for any run, after what has come from others. Resolves when the run has taken it;
   * rejects with CONNECTION_LOST where that cannot be known any more.
   */
  stdin(run_id: string, data: string | Uint8Array): Promise<void> {
    return this.give(run_id, data, false)
  }

  /** Ends the input of a run, after what was written to it; of one that was asked for here also across a cut. */
  async closeStdin(run_id: string): Promise<void> {
    for (let before = false; ; ) {
      await this.input.afterAll(run_id)
      const next = this.connected()
      const again = before
      before ||= this.attached
      try {
        await this.request({ type: 'stdin.close', run_id })
        return
      } catch (e) {
        if (again && e instanceof RefusedError && e.code === 'NO_STDIN') return // one has arrived
        if (!isLost(e) || !this.runs.has(run_id)) throw e
      }
      // To end it twice is no different from once.
      await next
    }
  }

  /** Interrupts a run, or whichever is on; with force, TERM and KILL follow after a second each. */
  async interrupt(what: { run_id?: string; force?: boolean } = {}): Promise<void> {
    await this.request({ type: 'interrupt', force: what.force === true, ...(what.run_id && { run_id: what.run_id }) })
  }

  /** Takes a run out of the queue, or ends it. */
  async cancel(run_id: string): Promise<void> {
    await this.request({ type: 'cancel', run_id })
  }

  /** Sends what a run has started, or whichever is on, a signal, as "SIGTERM". */
  async signal(signal: string, run_id?: string): Promise<void> {
    await this.request({ type: 'signal', signal, ...(run_id && { run_id }) })
  }

  /** What bash's Tab would make of a line with the cursor after so many code points. */
  async complete(line: string, point?: number): Promise<Completions> {
    return (await this.request({ type: 'complete', line, ...(point !== undefined && { point }) })) as unknown as Completions
  }

  /** Asks the server for a sign of life; resolves to the milliseconds it took. */
  async ping(): Promise<number> {
    const sent = Date.now()
    await this.request({ type: 'ping' })
    return Date.now() - sent
  }

  /** The network or the machine has come back: looks at once whether the connection has. */
  wake(): void {
    if (this.state === 'waiting') {
      clearTimeout(this.timer)
      this.connect()
    } else if (this.attached) this.askForLife(wakePongWithin)
  }

  /**
   * Ends the stream, after what was sent already. Nothing is told any more; runs go on. What
   * waits here for an answer is rejected, with the reason if one is given.
   */
  close(reason?: unknown): void {
    this.closedBy ??= reason
    this.finish({ attempt: this.attempt })
  }

  private connect(): void {
    const query: Record<string, string> = { window: String(this.window) }
    if (this.options.role === 'view') query['role'] = 'view'
    if (this.position !== undefined) query['after'] = String(this.position)
    else if (this.options.tail !== undefined) query['tail'] = String(this.options.tail)
    this.attempt++
    this.enter('connecting', { attempt: this.attempt })
    const url = socketURL(this.rest.base, this.options.session, query)
    const found = socketClass(this.options.WebSocket ?? this.loaded)
    if (!(found instanceof Promise)) {
      this.open(found, url)
      return
    }
    found.then((loaded) => {
      this.loaded = loaded
      if (!this.stateIs('closed')) this.open(loaded, url)
    }, (error: TandemError) => this.finish({ attempt: this.attempt, error }))
  }

  private open(Socket: SocketClass, url: string): void {
    const protocols = [protocol, ...(this.rest.token ? [bearer(this.rest.token)] : [])]
    let socket: SocketLike
    try {
      socket = new Socket(url, protocols)
    } catch (cause) {
      this.finish({ attempt: this.attempt, error: new ConnectionError('NETWORK', `no connection can be made: ${String(cause)}`, { cause }) })
      return
    }
    this.socket = socket
    socket.binaryType = 'arraybuffer'
    socket.onerror = () => {
      // The close follows, but not in Node 20, where it was never open.
      if (socket === this.socket && !this.attached) this.lost(0)
    }
    socket.onmessage = (e: { data: string | ArrayBuffer }) => {
      if (socket === this.socket) this.receive(e.data)
    }
    socket.onclose = (e: { code: number }) => {
      if (socket === this.socket) this.lost(e.code)
    }
    this.expectLife(pongWithin)
  }

  private receive(data: string | ArrayBuffer): void {
    this.expectLife(pingAfter)
    let message: Output | Message
    try {
      message = typeof data === 'string' ? decodeMessage(data) : decodeOutput(data)
      if (!this.attached && message.type !== 'attached') throw new ProtocolError(`${message.type} before attached`)
    } catch {
      this.nonsense++
      this.lost(0)
      return
    }
    if (message.type === 'output') this.output(message as Output)
    else this.take(message as Message)
    if (this.options.autoAck !== false && this.state === 'open') this.consumed(this.pos)
  }

  /** Tells output that has not been told, and a hole before it if there is one. */
  private output(o: Output): void {
    const skip = this.pos - o.pos
    if (skip < 0) this.gap({ type: 'gap', from: this.pos, to: o.pos })
    if (skip >= o.data.length || this.stateIs('closed')) return
    const fresh = skip > 0 ? { ...o, pos: this.pos, data: o.data.subarray(skip) } : o
    this.advance(fresh.pos + fresh.data.length)
    this.tell(fresh)
  }

  private gap(g: Gap): void {
    if (g.to <= this.pos) return
    const fresh = { ...g, from: Math.max(g.from, this.pos) }
    this.advance(g.to)
    for (const end of g.finished ?? []) this.ended(end)
    for (const run_id of this.runs.unfinished()) void this.askAfter(run_id)
    this.tell(fresh)
  }

  /** Learns of a run whose end may have been lost. */
  private async askAfter(run_id: string): Promise<void> {
    try {
      const run = await this.rest.runInfo(this.options.session, run_id, { signal: this.ending.signal })
      if (run.state !== 'finished') return
      this.ended({ run_id, reason: run.reason ?? '', exit_code: run.exit_code ?? null, duration_ms: run.duration_ms ?? 0, cwd: run.cwd ?? '' })
    } catch (e) {
      if (e instanceof TandemError && e.status === 404) this.runs.refused(run_id, e)
    }
  }

  private advance(pos: number): void {
    this.position = pos
    this.nonsense = 0
  }

  private take(m: Message): void {
    switch (m.type) {
      case 'attached':
        this.welcome(m as unknown as Attached)
        return
      case 'gap':
        this.gap(m as unknown as Gap)
        return
      case 'stdin.ack':
        this.input.acked(String(m['run_id']), Number(m['bytes']))
        return
      case 'ok':
      case 'pong':
      case 'completions':
        this.requests.answered(m)
        return
      case 'error':
        this.refused(m)
        return
      case 'run.queued':
        this.runs.arrived(String(m['run_id']))
        this.tell(m as unknown as StreamEvent)
        return
    }
    this.event(m)
  }

  /** Something that has a place in the journal. */
  private event(m: Message): void {
    const again = m.pos === undefined
    if (!again) {
      const pos = m.pos as number
      if (pos < this.pos) return
      if (pos > this.pos) this.gap({ type: 'gap', from: this.pos, to: pos })
      if (this.stateIs('closed')) return
      this.advance(pos + 1)
    }
    if (m.type === 'run.started') this.runs.began(m as unknown as RunStarted)
    if (m.type === 'run.finished') this.ended(m as unknown as RunFinished)
    // Told again for a run that was asked for again: its promises were for that.
    if (again) return
    if (m.type === 'session.closed') {
      this.tell(m as unknown as StreamEvent)
      this.finish({ attempt: this.attempt, reason: String(m['reason']) })
    } else if (m.type === 'run.started' || m.type === 'run.finished' || m.type === 'shell.restarted') {
      this.tell(m as unknown as StreamEvent)
    }
  }

  private ended(e: RunEnd): void {
    this.runs.ended(e)
    this.input.end(e.run_id, new RefusedError('NO_STDIN', 'the run has ended'))
  }

  private welcome(m: Attached): void {
    this.attached = this.everAttached = true
    this.openedAt = Date.now()
    this.position ??= m.pos
    this.credit.begin(Math.min(this.pos, m.pos))
    this.enter('open', { attempt: this.attempt })
    this.tell(m)
    for (const message of this.runs.messages()) this.send(message)
    this.input.open(m.stdin_window)
    this.reconnected.resolve()
    this.reconnected = deferred()
  }

  private refused(m: Message): void {
    const error = new RefusedError(String(m['code']), String(m['message']))
    const run_id = m.ref?.startsWith('run ') ? m.ref.slice(4) : ''
    if (run_id && this.runs.refused(run_id, error)) this.input.end(run_id, error)
    else if (m.ref?.startsWith('stdin ')) this.input.end(m.ref.slice(6), error)
    else this.requests.refused(m.ref, error)
  }

  /** What a listener throws is its own affair, and not this connection's. */
  private tell(e: StreamEvent): void {
    guard(() => this.options.onEvent(e))
  }

  private send(message: Record<string, unknown>): void {
    if (!this.attached) return
    this.socket?.send(JSON.stringify(message))
  }

  private request(message: Record<string, unknown>): Promise<Message> {
    if (!this.attached) return Promise.reject(this.state === 'closed' ? this.closedBy : lost())
    return this.requests.ask(message, (m) => this.send(m))
  }

  /** Resolves with the next connection; rejects where there will be none. */
  connected(): Promise<void> {
    return this.reconnected.promise
  }

  private give(run_id: string, data: string | Uint8Array, exact: boolean): Promise<void> {
    if (this.state === 'closed') return Promise.reject(this.closedBy)
    if (!this.attached && !this.runs.has(run_id)) return Promise.reject(lost())
    return this.input.write(run_id, toBytes(data), exact)
  }

  /** Something must be heard within so long, or the server is asked for it. */
  private expectLife(within: number): void {
    clearTimeout(this.liveness)
    this.liveness = setTimeout(() => (this.attached ? this.askForLife(pongWithin) : this.lost(0)), within)
  }

  private askForLife(within: number): void {
    this.request({ type: 'ping' }).catch(() => {})
    clearTimeout(this.liveness)
    this.liveness = setTimeout(() => this.lost(0), within)
  }

  /** The connection is gone, or as good as gone; code is 0 where no close has told one. */
  private lost(code: number): void {
    if (this.state === 'closed') return
    const opened = this.attached
    this.leave()
    if (code === 4000) {
      this.finish({ attempt: this.attempt, reason: 'session closed' })
      return
    }
    if (this.nonsense >= mostNonsense) {
      this.finish({ attempt: this.attempt, error: new ConnectionError('PROTOCOL', 'the server sends what this client does not understand') })
      return
    }
    if (opened && Date.now() - this.openedAt >= goodAfter) this.attempt = 0
    if (!opened) void this.askWhy()
    this.retry(code === 4008 || (opened && this.attempt === 0) ? 0 : this.backoff())
  }

  /** A browser does not say why an upgrade was refused: another door does. */
  private async askWhy(): Promise<void> {
    try {
      await this.rest.get(this.options.session, { signal: this.ending.signal })
    } catch (e) {
      const status = e instanceof TandemError ? e.status : 0
      if (this.attached || (status !== 404 && status !== 401 && status !== 403)) return
      const gone = status === 404 && this.everAttached
      this.finish({ attempt: this.attempt, error: gone ? new RefusedError('CONTEXT_NOT_FOUND', 'the session has ended', 404) : (e as TandemError) })
    }
  }

  private stateIs(state: ConnectionState): boolean {
    return this.state === state
  }

  private backoff(): number {
    const most = Math.min(backoffMost, backoffFirst * 2 ** Math.max(0, this.attempt - 1))
    return most / 2 + (most / 2) * (this.options.random ?? Math.random)()
  }

  private retry(delay: number): void {
    this.enter('waiting', { attempt: this.attempt, retryAt: Date.now() + delay })
    if (this.stateIs('closed')) return
    this.timer = setTimeout(() => this.connect(), delay)
  }

  /** Lets go of the connection and of everything that depended on it. */
  private leave(): void {
    clearTimeout(this.liveness)
    clearTimeout(this.timer)
    this.credit.end()
    this.attached = false
    const socket = this.socket
    this.socket = undefined
    if (socket) release(socket)
    this.requests.lost(lost())
    this.input.lost()
  }

  private finish(info: StateInfo): void {
    if (this.state === 'closed') return
    this.closedBy ??= info.error ?? new ClosedError('CLOSED', info.reason ? `the session has ended: ${info.reason}` : 'the connection was closed here')
    this.leave()
    this.ending.abort()
    this.enter('closed', info)
    this.runs.closed(this.closedBy)
    this.input.closed(this.closedBy)
    this.reconnected.reject(this.closedBy)
  }

  private enter(state: ConnectionState, info: StateInfo): void {
    this.state = state
    guard(() => this.options.onState?.(state, info))
  }
}

/** Calls a listener. What it throws is reported as any other error that nobody catches. */
function guard(call: () => void): void {
  try {
    call()
  } catch (error) {
    setTimeout(() => {
      throw error
    })
  }
}

function isLost(e: unknown): boolean {
  return e instanceof ConnectionError && e.code === 'CONNECTION_LOST'
}

function lost(): TandemError {
  return new ConnectionError('CONNECTION_LOST', 'there is no connection to the server')
}

/** 128 random bits; crypto.randomUUID is not there on pages that came over plain HTTP. */
function randomID(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('')
}
