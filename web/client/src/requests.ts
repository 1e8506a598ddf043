// Questions that wait for their answers.

import { deferred } from './runs.js'
import type { Deferred } from './runs.js'
import type { Message } from './wire.js'

export class Requests {
  private readonly pending = new Map<string, Deferred<Message>>()
  private refs = 0

  ask(message: Record<string, unknown>, send: (message: Record<string, unknown>) => void): Promise<Message> {
    const ref = String(++this.refs)
    const answer = deferred<Message>()
    this.pending.set(ref, answer)
    send({ ...message, ref })
    return answer.promise
  }

  answered(m: Message): void {
    this.take(m.ref)?.resolve(m)
  }

  refused(ref: string | undefined, error: unknown): void {
    this.take(ref)?.reject(error)
  }

  /** No more answers will come. */
  lost(error: unknown): void {
    for (const p of this.pending.values()) p.reject(error)
    this.pending.clear()
  }

  private take(ref: string | undefined): Deferred<Message> | undefined {
    const p = this.pending.get(ref ?? '')
    this.pending.delete(ref ?? '')
    return p
  }
}
