// The runs that a stream was asked for, across its connections.

import { ClosedError, RefusedError } from './errors.js'
import type { RunEnd, RunStarted } from './types.js'

export interface RunOptions {
  /** Where the session moves to before the run, as cd would. It must exist. */
  cwd?: string
  /** Variables for this run. */
  env?: Record<string, string>
  /** After so long the run is ended, as "timed_out". */
  timeout_ms?: number
  /** true: open for {@link RunHandle.write}; a string: that and then its end; absent: none. */
  stdin?: boolean | string
  /** Chosen at random if absent. The same id with the same code is the same run, which is then not run again. */
  run_id?: string
}

/**
 * A run that was asked for. The requests, but for the input, need a connection: without one
 * they reject with CONNECTION_LOST, and so do those whose answer a cut has swallowed.
 */
export interface RunHandle {
  readonly run_id: string
  /** Resolves when the run has started. Nobody needs to look at it. */
  readonly started: Promise<RunStarted>
  /** Resolves when the run has ended, however, also if that was learned only after a cut or a gap. Nobody needs to look at it. */
  readonly finished: Promise<RunEnd>
  /**
   * Input for the run, which was asked for with stdin true. Resolves when the run has taken
   * it; what a cut may have swallowed is sent again, so that each byte arrives once. That
   * holds where nobody else writes to this run: else see {@link Stream.stdin}. Bytes must not
   * be changed before. It rejects with NO_STDIN where the run ends first.
   */
  write(data: string | Uint8Array): Promise<void>
  /** Ends the run's input after what was written. */
  closeStdin(): Promise<void>
  /** As Ctrl-C does; with force, TERM and KILL follow after a second each. Rejects with RUN_NOT_RUNNING where the run is not on. */
  interrupt(options?: { force?: boolean }): Promise<void>
  /** Sends what the run has started a signal, as "SIGTERM". */
  signal(signal: string): Promise<void>
  /** Takes the run out of the queue, or ends it. */
  cancel(): Promise<void>
}

export interface Deferred<T> {
  promise: Promise<T>
  resolve: (value: T) => void
  reject: (reason: unknown) => void
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((a, b) => ([resolve, reject] = [a, b]))
  promise.catch(() => {}) // nobody needs to look
  return { promise, resolve, reject }
}

interface Asked {
  message: Record<string, unknown>
  told: boolean // the server has said that it has the run
  started: Deferred<RunStarted>
  finished: Deferred<RunEnd>
}

/** Keeps what was asked for until it has ended. A request that may not have arrived is made again: its id makes that safe. */
export class Runs {
  private readonly asked = new Map<string, Asked>()

  /** Keeps a request; one that is fresh is to be made. */
  add(message: Record<string, unknown> & { run_id: string; code: string }): Pick<RunHandle, 'started' | 'finished'> & { fresh: boolean } {
    const known = this.asked.get(message.run_id)
    const run: Asked = known?.message['code'] === message.code ? known : { message, told: false, started: deferred(), finished: deferred() }
    if (!known) this.asked.set(message.run_id, run)
    else if (run !== known) {
      const error = new RefusedError('RUN_EXISTS', `run ${message.run_id} was asked for with other code: choose another run_id`)
      run.started.reject(error)
      run.finished.reject(error)
    }
    return { started: run.started.promise, finished: run.finished.promise, fresh: !known }
  }

  /** The requests that may not have arrived. */
  messages(): Record<string, unknown>[] {
    return [...this.asked.values()].filter((r) => !r.told).map((r) => r.message)
  }

  /** The runs that the server has and that have not ended, as far as is known. */
  unfinished(): string[] {
    return [...this.asked].filter(([, r]) => r.told).map(([run_id]) => run_id)
  }

  /** The server has the run. */
  arrived(run_id: string): void {
    const run = this.asked.get(run_id)
    if (run) run.told = true
  }

  has(run_id: string): boolean {
    return this.asked.has(run_id)
  }

  began(e: RunStarted): void {
    this.arrived(e.run_id)
    this.asked.get(e.run_id)?.started.resolve(e)
  }

  ended(e: RunEnd): void {
    const run = this.asked.get(e.run_id)
    if (!run) return
    this.asked.delete(e.run_id)
    run.finished.resolve(e)
    run.started.reject(new ClosedError('NOT_STARTED', `the run ended before its start was told: ${e.reason}`))
  }

  refused(run_id: string, error: unknown): boolean {
    const run = this.asked.get(run_id)
    if (!run) return false
    this.asked.delete(run_id)
    run.started.reject(error)
    run.finished.reject(error)
    return true
  }

  closed(error: unknown): void {
    for (const id of [...this.asked.keys()]) this.refused(id, error)
  }
}

