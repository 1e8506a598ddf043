// A run with its output.

import type { Chunk, Collector } from './collect.js'
import type { RunHandle, RunOptions } from './runs.js'
import type { RunEnd, RunStarted } from './types.js'

export interface SessionRunOptions extends RunOptions {
  /**
   * How many bytes of output are kept for {@link Run.result} and for who begins to read late:
   * the last ones. Default 16 MiB. Who reads as it comes gets all of it.
   */
  keep?: number
  /** Where it aborts, everything about the run rejects with its reason, and the run is canceled. */
  signal?: AbortSignal
}

/** How a run ended, and what it had written by then. */
export interface RunResult extends RunEnd {
  stdout: string
  stderr: string
  /** The very bytes. */
  stdoutBytes: Uint8Array
  stderrBytes: Uint8Array
  /** Some of the output may be missing: there was more than is kept, here or by the server. */
  truncated: boolean
}

/**
 * A run with its output, up to its end; what its background jobs write later is told by
 * {@link Session.events} alone. It can be read any number of times, each time from the first
 * byte that is kept:
 *
 *     for await (const chunk of session.run('make')) process.stdout.write(chunk.text)
 *
 * Who reads more slowly than output comes holds the command back. So a loop must go on to the
 * end, or be left; an iterator that is given up otherwise needs its return() called.
 */
export class Run implements RunHandle, AsyncIterable<Chunk> {
  readonly run_id: string
  readonly started: Promise<RunStarted>
  readonly finished: Promise<RunEnd>

  /** For a {@link Session} to call. */
  constructor(private readonly handle: RunHandle, private readonly collector: Collector) {
    this.run_id = handle.run_id
    this.started = handle.started
    this.finished = handle.finished
  }

  /**
   * Resolves when the run has ended, whatever its exit code; rejects where it was refused, or
   * where the session or the connection to it is closed before.
   */
  async result(): Promise<RunResult> {
    const end = await this.finished
    const { collector: c } = this
    await c.complete.promise
    return {
      ...end,
      stdout: c.text('stdout'), stderr: c.text('stderr'), stdoutBytes: c.bytes('stdout'), stderrBytes: c.bytes('stderr'), truncated: c.truncated,
    }
  }

  /** Some of the output up to now may be missing. */
  get truncated(): boolean {
    return this.collector.truncated
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Chunk> {
    return this.collector.read()
  }

  write(data: string | Uint8Array): Promise<void> {
    return this.handle.write(data)
  }

  closeStdin(): Promise<void> {
    return this.handle.closeStdin()
  }

  interrupt(options?: { force?: boolean }): Promise<void> {
    return this.handle.interrupt(options)
  }

  signal(signal: string): Promise<void> {
    return this.handle.signal(signal)
  }

  cancel(): Promise<void> {
    return this.handle.cancel()
  }
}
