// The output of a run, as it is kept and read.

import { concatenate, fromBase64, toBytes } from './bytes.js'
import type { Feed } from './feed.js'
import { deferred } from './runs.js'
import type { Output, RunOutput } from './types.js'

export type Channel = 'stdout' | 'stderr'

/** A piece of a run's output, cut wherever it came in pieces. */
export interface Chunk {
  channel: Channel
  /** The position of the first byte. */
  pos: number
  data: Uint8Array
  /** The same as text. A character that is cut comes with its last piece; what is no UTF-8 is U+FFFD. */
  text: string
}

/** Is told of the output of one run, keeps the last of it, and passes it on to who reads. */
export class Collector {
  /** From this position on the connection tells all. */
  toldFrom: number | undefined
  truncated = false
  /** Resolves when no more output will come. */
  readonly complete = deferred<void>()
  private chunks: Chunk[] = []
  private size = 0
  private from = 0 // what lies before this is here already
  private held: Output[] | undefined // waits for what came before it
  private over: { reason?: unknown } | undefined
  private readonly readers = new Set<Feed<Chunk>>()
  private readonly decoders = { stdout: decoder(), stderr: decoder() }

  /** Keeps the last so many bytes. newFeed makes what a reader reads from. */
  constructor(private readonly keep: number, private readonly newFeed: () => Feed<Chunk>) {}

  take(o: Output): void {
    if (this.over) return
    if (this.held) this.held.push(o)
    else this.add(o.channel === 2 ? 'stderr' : 'stdout', o.pos, o.data)
  }

  /** What comes from now on waits for what came before it. */
  hold(): void {
    this.held ??= []
  }

  /** What came before is being asked for, or was. */
  get catchesUp(): boolean {
    return this.held !== undefined || this.from > 0
  }

  /** What came before, if that was not told, and then what was held. */
  resume(before: RunOutput | undefined): void {
    const held = this.held ?? []
    this.held = undefined
    if (before) {
      this.truncated ||= before.truncated
      this.add('stdout', before.next, before.stdout_base64 ? fromBase64(before.stdout_base64) : toBytes(before.stdout))
      this.add('stderr', before.next, before.stderr_base64 ? fromBase64(before.stderr_base64) : toBytes(before.stderr))
      this.from = before.next
    }
    for (const o of held) this.add(o.channel === 2 ? 'stderr' : 'stdout', o.pos, o.data)
    if (this.over) this.finish(this.over)
  }

  /** No more output will come; or, with a reason, nothing will be known of it any more. */
  end(failed?: { reason: unknown }): void {
    if (this.over) return
    this.over = failed ?? {}
    if (!this.held || failed) this.finish(this.over)
  }

  read(): Feed<Chunk> {
    const feed = this.newFeed()
    for (const c of this.chunks) feed.push(c, c.pos)
    this.readers.add(feed)
    if (this.over && !this.held) feed.end(this.over)
    return feed
  }

  bytes(channel: Channel): Uint8Array {
    return concatenate(this.chunks.filter((c) => c.channel === channel).map((c) => c.data))
  }

  text(channel: Channel): string {
    return this.chunks.filter((c) => c.channel === channel).map((c) => c.text).join('')
  }

  private add(channel: Channel, pos: number, bytes: Uint8Array): void {
    const data = bytes.subarray(Math.min(bytes.length, Math.max(0, this.from - pos)))
    if (data.length === 0) return
    this.pass({ channel, pos: pos + bytes.length - data.length, data, text: this.decoders[channel].decode(data, { stream: true }) })
  }

  private pass(chunk: Chunk): void {
    this.chunks.push(chunk)
    this.size += chunk.data.length
    for (const feed of this.readers) feed.push(chunk, chunk.pos)
    if (this.size > 2 * this.keep + chunkSize) this.drop() // not with each chunk, so that it costs little
  }

  /** Lets go of the first pieces that are over the limit. */
  private drop(): void {
    let first = 0
    for (let c = this.chunks[0]; c && this.size - c.data.length >= this.keep; c = this.chunks[++first]) this.size -= c.data.length
    this.chunks = this.chunks.slice(first)
    this.truncated ||= first > 0
  }

  private finish(over: { reason?: unknown }): void {
    this.held = undefined
    for (const channel of ['stdout', 'stderr'] as const) {
      const text = this.decoders[channel].decode() // of a character that was never whole
      if (text) this.pass({ channel, pos: this.from, data: new Uint8Array(), text })
    }
    this.drop()
    for (const feed of this.readers) feed.end(over)
    if ('reason' in over) this.complete.reject(over.reason)
    else this.complete.resolve()
  }
}

// About what a chunk of much output holds.
const chunkSize = 64 << 10

function decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true })
}
