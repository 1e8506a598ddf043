// The runs that a stream was asked for, across its connections.

import { TandemError } from './types'
import type { RunFinished, RunStarted } from './types'

export interface RunOptions {
  cwd?: string
  env?: Record<string, string>
  timeout_ms?: number
  /** true: open for {@link RunHandle.write}; a string: that and then its end; absent: none. */
  stdin?: boolean | string
  /** Chosen at random if absent. The same id again is the same run. */
  run_id?: string
}

/** A run that was asked for. Its promises reject with a TandemError; nobody needs to look at them. */
export interface RunHandle {
  readonly run_id: string
  /** Resolves when the run has started. */
  readonly started: Promise<RunStarted>
  /** Resolves when the run has ended, also if that was learned only after a cut or a gap. */
  readonly finished: Promise<Omit<RunFinished, 'type' | 'pos'>>
  /** Input for the run; see {@link Stream.stdin}. */
  write(data: string | Uint8Array): Promise<void>
  /** Ends the run's input. */
  closeStdin(): Promise<void>
  interrupt(force?: boolean): Promise<void>
  cancel(): Promise<void>
}

interface Deferred<T> {
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

type End = Omit<RunFinished, 'type' | 'pos'>

interface Asked {
  message: Record<string, unknown>
  told: boolean // the server has said that it has the run
  started: Deferred<RunStarted>
  finished: Deferred<End>
}

/** Keeps what was asked for until it has ended. A request that may not have arrived is made again: its id makes that safe. */
export class Runs {
  private readonly asked = new Map<string, Asked>()

  add(message: Record<string, unknown> & { run_id: string }): { started: Promise<RunStarted>; finished: Promise<End> } {
    const run = { message, told: false, started: deferred<RunStarted>(), finished: deferred<End>() }
    this.asked.set(message.run_id, run)
    return { started: run.started.promise, finished: run.finished.promise }
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

  ended(e: End): void {
    const run = this.asked.get(e.run_id)
    if (!run) return
    this.asked.delete(e.run_id)
    run.finished.resolve(e)
    run.started.reject(new TandemError('NOT_STARTED', `the run ended before its start was told: ${e.reason}`))
  }

  refused(run_id: string, error: TandemError): boolean {
    const run = this.asked.get(run_id)
    if (!run) return false
    this.asked.delete(run_id)
    run.started.reject(error)
    run.finished.reject(error)
    return true
  }

  closed(error: TandemError): void {
    for (const id of [...this.asked.keys()]) this.refused(id, error)
  }
}

