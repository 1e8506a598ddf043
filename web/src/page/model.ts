// One session as the page knows it: its connection, its runs, what is on, and the terminal
// that shows it. It lives as long as the session is shown.

import { computed, signal } from '@preact/signals'
import { RefusedError, Rest, Stream, TandemError } from '../../client/src'
import type { Completions, ConnectionState, Role, RunInfo, StreamEvent } from '../../client/src'
import { bytes } from './format'
import { Screen } from './screen'
import { Typed } from './typed'
import type { View } from './terminal'

// What is asked for when a session is opened: enough to fill several screens and to be there
// at once. The rest is loaded when somebody wants it.
const firstTail = 256 << 10

// Positions on their way to the terminal. Small enough for an interrupt to show within a
// second, and large enough for a terminal that works off all that came once a frame.
const creditWindow = 256 << 10

// Runs that are listed, and entries that Up goes back to.
const mostRuns = 500

// Of a run's code, what the list of runs has: as much as the server tells.
const mostCode = 4 << 10

// What a run goes through, in order.
const states = ['queued', 'running', 'finished']

export interface Run {
  run_id: string
  number: number // 0: it has not started
  state: 'queued' | 'running' | 'finished'
  code: string
  code_truncated: boolean
  by: string
  mine: boolean
  started_at: number
  reason: string
  exit_code: number | null
  signal: string
  duration_ms: number
}

export interface Connection {
  state: ConnectionState
  retryAt: number // ms since 1970; 0: not waiting
  ended: string // why the session cannot be followed any more; '' while it can
  denied: boolean // the token does not do
}

export class Model {
  readonly connection = signal<Connection>({ state: 'connecting', retryAt: 0, ended: '', denied: false })
  readonly runs = signal<Run[]>([]) // newest first
  readonly cwd = signal('')
  readonly role = signal<Role>('control')
  readonly earlier = signal(0) // bytes before what the terminal shows
  readonly full = signal(false) // the terminal has as many lines as it holds, and drops the first ones
  readonly note = signal('') // about what was just tried
  readonly current = computed(() => this.runs.value.find((r) => r.state === 'running'))
  readonly queued = computed(() => this.runs.value.filter((r) => r.state === 'queued').length)

  private readonly screen: Screen
  private readonly mine = new Set<string>()
  private readonly typed = new Typed()
  private stream: Stream
  private interrupted = '' // the run that Ctrl-C was sent to already
  private fresh = true // no connection has been made yet
  private loading = false // the list of runs is being asked for
  private wanted = false // and is to be asked for again

  constructor(
    private readonly id: string,
    private readonly rest: Rest,
    private readonly base: URL,
    private readonly token: string,
    private readonly viewOnly: boolean,
    private readonly view: View,
  ) {
    this.screen = new Screen(view.term)
    view.term.onWriteParsed(() => (this.full.value ||= view.full))
    this.stream = this.follow({ tail: firstTail })
    void this.loadRuns()
    addEventListener('online', this.wake)
    document.addEventListener('visibilitychange', this.wake)
    addEventListener('pageshow', this.wake)
  }

  dispose(): void {
    removeEventListener('online', this.wake)
    document.removeEventListener('visibilitychange', this.wake)
    removeEventListener('pageshow', this.wake)
    this.stream.close()
  }

  /** Reconnects at once if need be. */
  readonly wake = (): void => {
    if (document.visibilityState === 'visible') this.stream.wake()
  }

  /** Shows everything that is still kept of the session, as far as the terminal holds it. */
  loadEarlier(): void {
    this.screen.clear()
    this.fresh = true
    this.earlier.value = 0
    this.full.value = false
    const before = this.stream
    this.stream = this.follow({ tail: Number.MAX_SAFE_INTEGER })
    before.close() // what it says of that is no longer listened to
  }

  /** Runs code, after what is on and waiting. Gives it back where it is refused. */
  run(code: string, giveBack?: (code: string) => void): void {
    this.note.value = ''
    const handle = this.stream.run(code, { stdin: true })
    this.mine.add(handle.run_id)
    this.typed.add(handle.run_id, code)
    this.view.term.scrollToBottom()
    const stream = this.stream
    handle.finished.catch((e: unknown) => {
      if (stream !== this.stream) return // another tells of the run now
      const refused = e instanceof RefusedError && e.code !== 'RUN_NOT_FOUND' && this.connection.value.ended === ''
      this.update(handle.run_id, { state: 'finished', reason: refused ? 'refused' : 'lost' })
      this.note.value = message(e)
      if (refused) giveBack?.(code)
    })
  }

  /** Gives the run that is on a line of input, and gives it back where it is refused. False where there is no run. */
  input(text: string, giveBack: () => void): boolean {
    const run = this.current.value
    if (!run) return false
    if (this.connection.value.state !== 'open') {
      this.note.value = 'Not connected: the line was not sent.'
      return false
    }
    this.note.value = ''
    this.screen.echo(text)
    this.view.term.scrollToBottom()
    Promise.resolve(this.stream.stdin(run.run_id, text)).catch((e: unknown) => {
      const lost = e instanceof TandemError && e.code === 'CONNECTION_LOST'
      const noInput = e instanceof TandemError && e.code === 'NO_STDIN'
      this.note.value = lost
        ? 'The connection was lost before the run had taken this input: it may not have arrived.'
        : noInput
          ? 'This run takes no input. Alt+Enter queues the line as the next run.'
          : message(e)
      if (noInput) this.screen.notice('not sent: this run takes no input')
      if (!lost && this.connection.value.ended === '') giveBack()
    })
    return true
  }

  endInput(): void {
    const run = this.current.value
    if (!run) return
    Promise.resolve(this.stream.closeStdin(run.run_id)).then(
      () => (this.note.value = 'Input ended.'),
      (e: unknown) => (this.note.value = message(e)),
    )
  }

  /** Interrupts the run that is on; the second time with force. */
  interrupt(): void {
    const run = this.current.value
    if (!run) return
    const force = this.interrupted === run.run_id
    this.interrupted = run.run_id
    this.note.value = force
      ? 'Interrupting with force: SIGTERM follows after a second, SIGKILL after two.'
      : 'Interrupt sent. Once more interrupts with force.'
    this.stream.interrupt({ run_id: run.run_id, force }).catch((e: unknown) => {
      if (!(e instanceof TandemError && e.code === 'RUN_NOT_RUNNING')) this.note.value = message(e)
    })
  }

  cancel(run_id: string): void {
    this.stream.cancel(run_id).catch((e: unknown) => (this.note.value = message(e)))
  }

  complete(line: string, point: number): Promise<Completions> {
    return this.stream.complete(line, point)
  }

  /** Goes to where a run starts; false where the terminal does not have it. */
  reveal(run_id: string): boolean {
    return this.screen.reveal(run_id)
  }

  /** All of a run's code; undefined where only its beginning is known. */
  whole(run: Run): string | undefined {
    return this.typed.get(run.run_id) ?? (run.code_truncated ? undefined : run.code)
  }

  /** What Up leads to. */
  entries(): string[] {
    const codes = this.runs.value.flatMap((r) => this.whole(r) || [])
    return codes.reverse().filter((code, i, all) => code !== all[i - 1])
  }

  private follow(from: { tail: number }): Stream {
    const stream: Stream = new Stream({
      base: this.base,
      session: this.id,
      token: this.token,
      role: this.viewOnly ? 'view' : 'control',
      window: creditWindow,
      autoAck: false,
      ...from,
      onEvent: (e) => {
        if (stream === this.stream || this.stream === undefined) this.take(e, stream)
      },
      onState: (state, info) => {
        if (this.stream !== undefined && stream !== this.stream) return
        const ended = state === 'closed' ? (info.error?.message ?? info.reason ?? 'closed') : ''
        const denied = info.error?.status === 401
        this.connection.value = { state, retryAt: info.retryAt ?? 0, ended, denied }
        if (state === 'closed') this.lose()
      },
    })
    return stream
  }

  private take(e: StreamEvent, stream: Stream): void {
    // Everything is acknowledged once the terminal has dealt with it: what is on its way is
    // bounded by the slower of network and terminal.
    const done = (upTo: number) => () => stream.consumed(upTo)
    switch (e.type) {
      case 'attached':
        this.attached(e, done(e.pos))
        return
      case 'output':
        this.screen.output(e.channel, e.run, e.data, done(e.pos + e.data.length))
        return
      case 'run.queued':
        this.update(e.run_id, { state: 'queued' })
        return
      case 'run.started':
        this.began(e)
        this.screen.started(e, this.mine.has(e.run_id))
        break
      case 'run.finished':
        this.ended(e)
        this.screen.finished(e, this.find(e.run_id)?.code ?? '', e.pos === undefined ? () => {} : done(e.pos + 1))
        return
      case 'shell.restarted':
        this.screen.notice(restarted(e.cause, e.restored))
        break
      case 'gap':
        this.screen.notice(`${bytes(e.to - e.from)} of the output are no longer kept`, done(e.to))
        for (const run of e.finished ?? []) this.ended(run)
        void this.loadRuns()
        return
      case 'session.closed':
        this.screen.notice(`session ended: ${e.reason}`)
        break
    }
    if (e.pos !== undefined) this.view.term.write('', done(e.pos + 1))
  }

  private attached(e: Extract<StreamEvent, { type: 'attached' }>, done: () => void): void {
    this.cwd.value = e.cwd
    this.role.value = e.role
    if (this.fresh) {
      this.fresh = false
      this.earlier.value = Math.max(0, e.pos - e.oldest)
      const kept = e.pos - e.oldest
      if (kept > 0) this.screen.notice(`${bytes(kept)} before this are not shown`)
      else if (e.oldest > 0) this.screen.notice(`${bytes(e.oldest)} before this are no longer kept`)
      if (e.run) void this.rest.runInfo(this.id, e.run.run_id).then((run) => this.screen.resume(run.number), () => {})
    } else {
      void this.loadRuns()
    }
    this.view.term.write('', done)
  }

  private began(e: Extract<StreamEvent, { type: 'run.started' }>): void {
    this.cwd.value = e.cwd ?? this.cwd.value
    this.update(e.run_id, {
      state: 'running', number: e.number, code: e.code, code_truncated: e.code_truncated === true, by: e.by, started_at: e.started_at,
    })
  }

  private ended(e: { run_id: string; reason: string; exit_code?: number | null; signal?: string; duration_ms: number; cwd?: string }): void {
    if (e.cwd) this.cwd.value = e.cwd
    if (this.interrupted === e.run_id) this.interrupted = ''
    if (this.current.value?.run_id === e.run_id) this.note.value = ''
    this.update(e.run_id, {
      state: 'finished', reason: e.reason, exit_code: e.exit_code ?? null, signal: e.signal ?? '', duration_ms: e.duration_ms,
    })
    // Others' runs that never started are not told before.
    if (this.find(e.run_id)?.code === '') void this.loadRuns()
  }

  /** Nothing more will be told: what has not ended by now has an end that is not known here. */
  private lose(): void {
    for (const run of this.runs.value) {
      if (run.state !== 'finished') this.update(run.run_id, { state: 'finished', reason: 'lost' })
    }
  }

  private find(run_id: string): Run | undefined {
    return this.runs.value.find((r) => r.run_id === run_id)
  }

  private update(run_id: string, change: Partial<Run>): void {
    const runs = this.runs.value
    const at = runs.findIndex((r) => r.run_id === run_id)
    if (at >= 0) {
      const old = runs[at] as Run
      if (old.state === 'finished' && change.state !== 'finished') return // told again
      this.runs.value = runs.with(at, { ...old, ...change })
      return
    }
    const code = this.typed.get(run_id) ?? ''
    const run: Run = {
      run_id, number: 0, state: 'queued', code: code.slice(0, mostCode), code_truncated: code.length > mostCode, by: 'ws', mine: this.mine.has(run_id),
      started_at: Date.now(), reason: '', exit_code: null, signal: '', duration_ms: 0, ...change,
    }
    this.runs.value = [run, ...runs].slice(0, mostRuns)
  }

  /** Asks for the list of runs, and once more for all that want it meanwhile. */
  private async loadRuns(): Promise<void> {
    this.wanted = true
    if (this.loading) return
    this.loading = true
    while (this.wanted) {
      this.wanted = false
      await this.loadOnce()
    }
    this.loading = false
  }

  private async loadOnce(): Promise<void> {
    let listed: RunInfo[]
    try {
      listed = await this.rest.runs(this.id)
    } catch {
      return // the connection tells what is wrong
    }
    const shown = new Map(this.runs.value.map((r) => [r.run_id, r]))
    const known = new Set(listed.map((r) => r.run_id))
    const loaded = listed.map((r) => this.listed(r, shown.get(r.run_id)))
    // What this page asked for while the answer was on its way is not in it, nor what was refused.
    const asked = this.runs.value.filter((r) => !known.has(r.run_id) && r.mine && (r.state !== 'finished' || r.reason === 'refused'))
    this.runs.value = [...asked, ...loaded].slice(0, mostRuns)
  }

  /** A run of the list, but not behind what was told of it while the list was on its way. */
  private listed(r: RunInfo, told: Run | undefined): Run {
    const code = { code: r.code, code_truncated: r.code_truncated === true, by: r.by }
    if (told && states.indexOf(told.state) > states.indexOf(r.state)) return { ...told, ...code }
    return {
      ...code, run_id: r.run_id, number: r.number, state: r.state, mine: this.mine.has(r.run_id), started_at: r.started_at ?? 0,
      reason: r.reason ?? '', exit_code: r.exit_code ?? null, signal: r.signal ?? '', duration_ms: r.duration_ms ?? 0,
    }
  }
}

function restarted(cause: string, restored: string): string {
  const why = { exit: 'the shell exited', exec: 'the shell was replaced by exec', signal: 'the shell was killed', lost: 'the shell stopped answering' }[cause] ?? cause
  const how = { exit: 'as it was then', checkpoint: 'as it was when last idle', nothing: 'without its state' }[restored] ?? restored
  return `${why}; another goes on ${how}`
}

export function message(e: unknown): string {
  return e instanceof Error ? e.message : String(e)
}
