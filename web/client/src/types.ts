// What travels between a server and its clients, as far as a client sees it. The names are
// those on the wire. Times are in ms, dates in ms since 1970, positions are those of the
// session's journal: every byte of output takes one, and so does every event.

/** What a client may do: everything, or only look. */
export type Role = 'control' | 'view'

/** The run that is on in a session. */
export interface CurrentRun {
  run_id: string
  code: string
  code_truncated?: boolean
  by: string
  started_at: number
}

/** A session as the list has it. Times are in ms since 1970. */
export interface SessionInfo {
  id: string
  name: string
  state: string
  cwd: string
  created_at: number
  active_at: number
  clients: number
  queued: number
  run?: CurrentRun
}

/** A run as the server remembers it. What comes after last is there once it has finished. */
export interface RunInfo {
  run_id: string
  number: number
  state: 'queued' | 'running' | 'finished'
  code: string
  code_truncated?: boolean
  by: string
  started_at: number | null
  first: number
  last?: number
  exit_code?: number | null
  reason?: string
  signal?: string
  duration_ms?: number
  cwd?: string
  detail?: string
}

/** A run's output. next is the position to ask from for more of it. */
export interface RunOutput {
  run_id: string
  state: string
  stdout: string
  stderr: string
  stdout_base64?: string
  stderr_base64?: string
  next: number
  truncated: boolean
}

/** What bash's Tab would make of a line. Positions count code points. */
export interface Completions {
  line: string
  point: number
  start: number
  end: number
  items: string[]
  truncated: boolean
}

export interface Attached {
  type: 'attached'
  session_id: string
  pos: number
  state: string
  cwd: string
  role: Role
  run?: CurrentRun
  oldest: number
  stdin_window: number
  server: string
}

/** Bytes that a process wrote: channel 1 is standard output, 2 standard error. run is the number of the run that started it, 0 for none. */
export interface Output {
  type: 'output'
  channel: 1 | 2 | 3
  pos: number
  run: number
  data: Uint8Array
}

export interface RunQueued {
  type: 'run.queued'
  run_id: string
  ahead: number
}

/** pos is absent where the server tells again what it has told before. */
export interface RunStarted {
  type: 'run.started'
  pos?: number
  run_id: string
  number: number
  by: string
  code: string
  code_truncated?: boolean
  cwd: string
  started_at: number
}

export interface RunFinished {
  type: 'run.finished'
  pos?: number
  run_id: string
  reason: string
  exit_code: number | null
  signal?: string
  duration_ms: number
  cwd: string
}

export interface ShellRestarted {
  type: 'shell.restarted'
  pos: number
  cause: string
  restored: string
}

/** Positions from up to to are gone. finished are runs that ended in between. */
export interface Gap {
  type: 'gap'
  from: number
  to: number
  state?: string
  run?: CurrentRun
  finished?: RunEnd[]
}

export interface SessionClosed {
  type: 'session.closed'
  pos: number
  reason: string
}

/** What a {@link Stream} tells, in the order of the session's journal. */
export type StreamEvent = Attached | Output | RunQueued | RunStarted | RunFinished | ShellRestarted | Gap | SessionClosed

/** How a run ended. exit_code is null where it never ran to an end: canceled, refused, session_closed. */
export type RunEnd = Omit<RunFinished, 'type' | 'pos'>

/** The position after an event: who has dealt with it goes on from there. */
export function positionAfter(e: StreamEvent): number | undefined {
  if (e.type === 'gap') return e.to
  if (e.type === 'output') return e.pos + e.data.length
  if (e.type === 'run.queued' || e.pos === undefined) return undefined
  return e.type === 'attached' ? e.pos : e.pos + 1
}
