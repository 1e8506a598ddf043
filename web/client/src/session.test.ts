import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Client } from './client.js'
import { FakeServer } from './fake.js'
import type { Session } from './session.js'
import type { RunInfo, RunOutput } from './types.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  expect(vi.getTimerCount(), 'timers that are left').toBe(0)
  vi.useRealTimers()
})

const settle = async () => {
  for (let i = 0; i < 50; i++) await Promise.resolve()
}

/** A session, and what the other door of its server answers. */
class Driven {
  readonly server = new FakeServer()
  readonly session: Session
  info: Partial<RunInfo> = {}
  output: Partial<RunOutput> = {}
  failures = 0 // of the other door, to come
  asked: string[] = []

  constructor(window = 64) {
    const client = new Client({
      base: 'http://host/deep', WebSocket: this.server.socket as never,
      fetch: async (url) => {
        this.asked.push(url.pathname)
        if (this.failures-- > 0) throw new TypeError('fetch failed')
        return new Response(JSON.stringify(url.pathname.endsWith('/output') ? this.output : this.info))
      },
    })
    this.session = client.attach('s', { after: 0, window, random: () => 1 })
  }

  async connect(): Promise<void> {
    await settle()
    for (; this.session.state !== 'open'; await settle()) {
      if (this.session.state === 'waiting') await vi.advanceTimersByTimeAsync(10_000)
      if (!this.server.last.open) this.server.last.accept()
    }
  }

  began(run_id: string, number: number): void {
    this.server.event({ type: 'run.started', run_id, number, by: 'ws', code: 'x', cwd: '/', started_at: 1 })
  }

  ended(run_id: string): void {
    this.server.event({ type: 'run.finished', run_id, reason: 'exited', exit_code: 0, duration_ms: 1, cwd: '/' })
  }
}

describe('a run', () => {
  it('collects what is its own, up to its end', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    await d.connect()
    d.server.output('another', 6)
    d.began('mine', 7)
    d.server.output('its own', 7)
    d.server.output('another', 6)
    d.ended('mine')
    d.server.output('too late', 7)
    await settle()
    expect(await run.result()).toMatchObject({ run_id: 'mine', exit_code: 0, stdout: 'its own', truncated: false })
    d.session.close()
  })

  it('that was there before begins with what it had written, however often it takes to learn that', async () => {
    for (const failures of [0, 1, 3]) {
      const d = new Driven()
      d.server.end = 10
      d.server.forget(10)
      d.info = { state: 'running', first: 3, number: 7 }
      d.output = { stdout: 'old ', stderr: '', next: 14, truncated: false }
      d.failures = failures
      const run = d.session.run('x', { run_id: 'mine' })
      await d.connect()
      d.server.last.give({ type: 'run.started', run_id: 'mine', number: 7, by: 'rest', code: 'x', cwd: '/', started_at: 1, ref: 'run mine' })
      d.server.output('OLD new', 7) // from 10 on; what is before 14 is in the other answer
      await settle()
      d.ended('mine')
      await settle()
      expect((await run.result()).stdout, `${failures} failures`).toBe('old new')
      d.session.close()
    }
  })

  it('that the connection tells whole is not asked after', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    d.info = { state: 'running', first: 0, number: 7 }
    await d.connect()
    d.server.last.give({ type: 'run.started', run_id: 'mine', number: 7, by: 'ws', code: 'x', cwd: '/', started_at: 1, ref: 'run mine' })
    d.began('mine', 7)
    d.server.output('all', 7)
    d.ended('mine')
    await settle()
    expect(await run.result()).toMatchObject({ stdout: 'all', truncated: false })
    expect(d.asked.filter((p) => p.endsWith('/output'))).toEqual([])
    d.session.close()
  })

  it('says when some of its output is gone', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    await d.connect()
    d.began('mine', 7)
    d.server.output('before', 7)
    await settle()
    d.server.last.drop()
    d.server.output('lost', 7)
    d.server.forget(d.server.end)
    d.info = { state: 'running', first: 0, number: 7 }
    await d.connect()
    d.server.output('after', 7)
    d.ended('mine')
    await settle()
    expect(run.truncated).toBe(true)
    expect(await run.result()).toMatchObject({ stdout: 'beforeafter', truncated: true })
    d.session.close()
  })

  it('whose start is in a gap has the output that another door knows', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    await d.connect()
    d.server.last.give({ type: 'run.queued', run_id: 'mine', ahead: 1 })
    d.server.last.drop()
    d.began('mine', 7)
    d.server.output('in the gap', 7)
    d.server.forget(8)
    d.info = { state: 'running', first: 0, number: 7 }
    d.output = { stdout: 'the gap', stderr: '', next: 11, truncated: true }
    await d.connect()
    await settle()
    d.server.output(' and more', 7)
    d.ended('mine')
    await settle()
    expect(await run.result()).toMatchObject({ stdout: 'the gap and more', truncated: true })
    d.session.close()
  })

  it('is one run for who asks twice, and none with other code', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    expect(d.session.run('x', { run_id: 'mine' })).toBe(run)
    await expect(d.session.run('y', { run_id: 'mine' }).result()).rejects.toMatchObject({ code: 'RUN_EXISTS', status: 409 })
    await d.connect()
    expect(d.server.received.filter((m) => m['type'] === 'run').length).toBe(1)
    d.began('mine', 7)
    d.ended('mine')
    expect(await run.result()).toMatchObject({ exit_code: 0 })
    d.session.close()
  })
})

describe('who reads', () => {
  it('slowly is not overrun, and is told all', async () => {
    const d = new Driven(16)
    const run = d.session.run('x', { run_id: 'mine' })
    const events = d.session.events()
    await d.connect()
    d.began('mine', 7)
    d.server.output('x'.repeat(500), 7)
    d.ended('mine')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(d.server.last.sent).toBeLessThanOrEqual(16)
    let size = 0
    const reading = (async () => {
      for await (const chunk of run) size += chunk.data.length
    })()
    await vi.advanceTimersByTimeAsync(10_000)
    expect(d.server.last.sent, 'the other reader').toBeLessThanOrEqual(16)
    await events.return?.()
    await vi.advanceTimersByTimeAsync(60_000)
    await reading
    expect(size).toBe(500)
    d.session.close()
  })

  it('is told the end, as it came', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine' })
    const events = d.session.events()
    await d.connect()
    d.began('mine', 7)
    d.server.output('some', 7)
    await settle()
    d.session.close()
    const types: string[] = []
    for await (const e of events) types.push(e.type)
    expect(types).toEqual(['attached', 'run.started', 'output'])
    const read: string[] = []
    await expect((async () => {
      for await (const chunk of run) read.push(chunk.text)
    })()).rejects.toMatchObject({ name: 'ClosedError', code: 'CLOSED' })
    expect(read).toEqual(['some'])
    for await (const e of d.session.events()) expect(e).toBe(undefined)
    expect(await d.session.closed).toEqual({})
  })
})

describe('input', () => {
  /** What a server has of a run's input that says where it belongs. */
  const there = (d: Driven) => {
    const have: number[] = []
    d.server.onRequest = (_, m) => {
      if (m['type'] !== 'stdin') return
      const bytes = typeof m['text'] === 'string' ? new TextEncoder().encode(m['text']) : Uint8Array.from(atob(String(m['base64'])), (c) => c.charCodeAt(0))
      expect(Number(m['offset'])).toBeLessThanOrEqual(have.length)
      have.push(...bytes.subarray(have.length - Number(m['offset'])))
    }
    return have
  }

  it('of who writes alone is sent again after each cut, from what was taken on', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine', stdin: true })
    const have = there(d)
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => (i * 7) % 256)
    const writes = Array.from({ length: 30 }, (_, i) => run.write(bytes.subarray(i * 10, i * 10 + 10)))
    for (let taken = 0; taken <= 300; taken += 25) {
      await d.connect()
      expect(have.length).toBeLessThanOrEqual(taken + 50)
      if (taken % 3 !== 0) d.server.last.give({ type: 'stdin.ack', run_id: 'mine', bytes: Math.min(taken, have.length) })
      d.server.last.drop()
      await d.connect()
      d.server.last.give({ type: 'stdin.ack', run_id: 'mine', bytes: Math.min(taken, have.length) })
    }
    await Promise.all(writes)
    expect(have).toEqual([...bytes])
    d.session.close()
  })

  it('ends after all of it, across a cut', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine', stdin: true })
    await d.connect()
    const written = run.write('abc')
    const closed = run.closeStdin()
    await settle()
    d.server.last.drop()
    d.server.onRequest = (s, m) => {
      if (m['type'] === 'stdin.close') s.give({ type: 'error', ref: m['ref'], code: 'NO_STDIN', message: 'it is closed' })
    }
    await d.connect()
    expect(d.server.received.filter((m) => m['type'] !== 'ack' && m['type'] !== 'run').map((m) => m['type'])).toEqual(['stdin', 'stdin.close', 'stdin', 'stdin.close'])
    await closed
    d.server.last.give({ type: 'stdin.ack', run_id: 'mine', bytes: 3 })
    await written
    d.session.close()
  })

  it('beside which others write is not mistaken for theirs', async () => {
    const d = new Driven()
    const run = d.session.run('x', { run_id: 'mine', stdin: true })
    await d.connect()
    const written = run.write('abc')
    d.server.last.give({ type: 'stdin.ack', run_id: 'mine', bytes: 9 })
    await expect(written).rejects.toMatchObject({ name: 'ConnectionError', code: 'INPUT_SHARED' })
    const more = run.write('def')
    expect(d.server.received.at(-1)).toEqual({ type: 'stdin', run_id: 'mine', ref: 'stdin mine', text: 'def' })
    d.server.last.give({ type: 'stdin.ack', run_id: 'mine', bytes: 12 })
    await more
    d.session.close()
  })
})

describe('who gives up', () => {
  it('has the run canceled, with the next connection if need be', async () => {
    const d = new Driven()
    const abort = new AbortController()
    const run = d.session.run('x', { run_id: 'mine', signal: abort.signal })
    await d.connect()
    d.server.last.drop()
    abort.abort(new Error('enough'))
    await expect(run.result()).rejects.toThrow('enough')
    await expect(run[Symbol.asyncIterator]().next()).rejects.toThrow('enough')
    await d.connect()
    expect(d.server.received.filter((m) => m['type'] === 'cancel')).toMatchObject([{ run_id: 'mine' }])
    d.session.close()
  })
})
