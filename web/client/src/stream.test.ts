import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { FakeServer, frame } from './fake.js'
import { Stream } from './stream.js'
import type { StreamOptions } from './stream.js'
import type { StreamEvent } from './types.js'
import { bearer } from './wire.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const settle = async () => {
  for (let i = 0; i < 50; i++) await Promise.resolve()
}

/** A stream, and all it has told. */
class Watcher {
  readonly events: StreamEvent[] = []
  readonly states: string[] = []
  reason = ''
  status = 0
  readonly stream: Stream
  restStatus = 200

  constructor(readonly server: FakeServer, options: Partial<StreamOptions> = {}) {
    this.stream = new Stream({
      base: 'http://host/deep/', session: 's', window: 64, WebSocket: server.socket, random: () => 1, after: 0,
      fetch: (async () => new Response(JSON.stringify({ code: 'X', message: 'no' }), { status: this.restStatus })) as typeof fetch,
      onEvent: (e) => this.events.push(structuredClone(e)),
      onState: (state, info) => {
        this.states.push(state)
        this.reason = info.reason ?? this.reason
        this.status = info.error?.status ?? this.status
      },
      ...options,
    })
  }

  /** Accepts whatever connects until the stream is open or closed. */
  async connect(): Promise<void> {
    await settle()
    while (!['open', 'closed'].includes(this.states.at(-1) ?? '')) {
      if (this.states.at(-1) === 'waiting') await vi.advanceTimersByTimeAsync(10_000)
      if (!this.server.last.open) this.server.last.accept()
      await settle()
    }
    await settle()
  }

  get text(): string {
    const parts = this.events.flatMap((e) => (e.type === 'output' ? [...e.data] : []))
    return new TextDecoder().decode(new Uint8Array(parts))
  }

  /** Everything with a place, in a form that does not depend on how output was cut. */
  get journal(): string {
    return this.events.map((e) => {
      if (e.type === 'output') return [...e.data].map((b, i) => `${e.pos + i}:${b} `).join('')
      return e.type === 'attached' ? '' : `${e.type}@${e.type === 'gap' ? `${e.from}-${e.to}` : 'pos' in e ? String(e.pos) : ''} `
    }).join('')
  }
}

function script(server: FakeServer): void {
  server.event({ type: 'run.started', run_id: 'a', number: 1, by: 'ws', code: 'x', cwd: '/', started_at: 1 })
  server.output('hello, wörld 👩‍👩‍👧\n')
  server.event({ type: 'shell.restarted', cause: 'exit', restored: 'exit' })
  server.output('and then\n')
  server.event({ type: 'run.finished', run_id: 'a', reason: 'exited', exit_code: 0, duration_ms: 1, cwd: '/' })
}

const wanted = async () => {
  const server = new FakeServer()
  script(server)
  const w = new Watcher(server)
  await w.connect()
  w.stream.close()
  return { journal: w.journal, messages: server.end }
}

describe('reconnecting', () => {
  it('goes on at the very position, wherever the connection breaks', async () => {
    const { journal, messages } = await wanted()
    for (let at = 0; at <= messages + 1; at++) {
      const server = new FakeServer()
      script(server)
      let left = at
      const w: Watcher = new Watcher(server, {
        onEvent: (e) => {
          w.events.push(structuredClone(e))
          if (left-- === 0) server.last.drop()
        },
      })
      Object.defineProperty(server, 'frame', { value: 1 })
      await w.connect()
      await vi.advanceTimersByTimeAsync(1000)
      await w.connect()
      expect(w.journal, `broken after ${at} events`).toBe(journal)
      w.stream.close()
    }
  })

  it('breaks before it has begun, and at every later time, without a loss', async () => {
    const { journal } = await wanted()
    let seed = 1
    const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
    for (let round = 0; round < 40; round++) {
      const server = new FakeServer()
      const w = new Watcher(server, { window: 1 + random(40), autoAck: true })
      const steps = [() => script(server), ...Array.from({ length: 6 }, () => () => {
        if (random(2)) server.last.drop()
        else if (!server.last.open) server.last.accept()
      })]
      await settle()
      for (const step of steps) {
        step()
        await vi.advanceTimersByTimeAsync(random(3000))
      }
      await w.connect()
      expect(w.journal, `round ${round}`).toBe(journal)
      expect(Math.max(...server.sockets.map((s) => s.worst))).toBeLessThanOrEqual(40)
      w.stream.close()
    }
  })

  it('leaves out what it has told, and tells of a hole that nobody announced', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await settle()
    server.last.give({ type: 'attached', session_id: 's', pos: 0, state: 'idle', cwd: '/', role: 'control', oldest: 0, stdin_window: 1, server: '' })
    const bytes = new TextEncoder().encode('abcdef')
    server.last.sent = 100
    server.last.raw(frame(1, 0, 1, bytes.subarray(0, 3)))
    server.last.raw(frame(1, 0, 1, bytes.subarray(0, 3)))
    server.last.raw(frame(1, 1, 1, bytes.subarray(1, 4)))
    server.last.raw(frame(1, 10, 1, bytes.subarray(4)))
    server.last.give({ type: 'shell.restarted', pos: 2, cause: 'exit', restored: 'exit' })
    expect(w.text).toBe('abcdef')
    expect(w.journal).toContain('gap@4-10')
    expect(w.journal).not.toContain('shell')
    expect(w.stream.pos).toBe(12)
    w.stream.close()
  })

  it('tells a gap, and the end of a run that lies in it', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    const run = w.stream.run('x', { run_id: 'mine' })
    server.last.drop()
    server.output('lost')
    server.forget(3)
    const end = { run_id: 'mine', reason: 'exited', exit_code: 3, duration_ms: 1, cwd: '/' }
    await vi.advanceTimersByTimeAsync(1000)
    server.last.gapFinished = [end]
    server.last.accept()
    expect(await run.finished).toMatchObject({ exit_code: 3 })
    expect(w.journal).toContain('gap@0-3')
    expect(w.text).toBe('t')
    w.stream.close()
  })

  it('waits longer each time, and not at all once woken', async () => {
    const server = new FakeServer()
    server.refuse = true
    const w = new Watcher(server)
    const made: number[] = []
    const start = Date.now()
    for (let t = 0; t < 20_000; t += 50) {
      const before = server.sockets.length
      await vi.advanceTimersByTimeAsync(50)
      if (server.sockets.length > before) made.push(Date.now() - start)
    }
    expect(made.slice(0, 6).map((t, i) => Math.round((t - (made[i - 1] ?? 0)) / 250))).toEqual([0, 1, 2, 4, 8, 16])
    const count = server.sockets.length
    w.stream.wake()
    expect(server.sockets.length).toBe(count + 1)
    w.stream.close()
  })

  it('does not wait for an answer to why it failed', async () => {
    const server = new FakeServer()
    server.refuse = true
    const w = new Watcher(server, { fetch: () => new Promise(() => {}) })
    await vi.advanceTimersByTimeAsync(10_000)
    expect(server.sockets.length).toBeGreaterThan(3)
    const count = server.sockets.length
    w.stream.wake()
    expect(server.sockets.length).toBe(count + 1)
    w.stream.close()
  })

  it('is not kept from it by listeners that throw', async () => {
    const server = new FakeServer()
    script(server)
    let thrown = 0
    const fail = () => {
      thrown++
      throw new Error('on purpose')
    }
    const seen: string[] = []
    const w = new Watcher(server, { onState: fail, onEvent: (e) => (seen.push(e.type), fail()) })
    await settle()
    server.last.accept()
    await settle()
    expect(seen).toContain('run.finished')
    w.stream.close()
    const before = thrown
    expect(() => vi.runAllTimers()).toThrow('on purpose')
    vi.clearAllTimers()
    expect(thrown).toBe(before)
  })

  it('tells nothing more once it is closed, even in the middle', async () => {
    const server = new FakeServer()
    const w: Watcher = new Watcher(server, {
      onEvent: (e) => {
        w.events.push(e)
        if (e.type === 'gap') w.stream.close()
      },
    })
    await w.connect()
    server.last.raw(frame(1, 10, 1, new Uint8Array(3)))
    expect(w.events.map((e) => e.type)).toEqual(['attached', 'gap'])
  })

  it('gives a silent connection up', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    server.last.send = () => {} // nothing gets through
    await vi.advanceTimersByTimeAsync(26_000)
    expect(server.sockets.length).toBeGreaterThan(1)
    await w.connect()
    server.last.send = () => {}
    const count = server.sockets.length
    w.stream.wake()
    await vi.advanceTimersByTimeAsync(4_000)
    expect(server.sockets.length).toBeGreaterThan(count)
    w.stream.close()
  })
})

describe('the end', () => {
  it('comes with the session', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    const run = w.stream.run('x')
    server.event({ type: 'session.closed', reason: 'deleted' })
    expect(w.states.at(-1)).toBe('closed')
    expect(w.reason).toBe('deleted')
    await expect(run.finished).rejects.toMatchObject({ code: 'CLOSED' })
    await vi.advanceTimersByTimeAsync(60_000)
    expect(server.sockets.length).toBe(1)
  })

  it.each([404, 401, 403])('comes with a %i', async (status) => {
    const server = new FakeServer()
    server.refuse = true
    const w = new Watcher(server)
    w.restStatus = status
    await vi.advanceTimersByTimeAsync(100)
    expect(w.states.at(-1)).toBe('closed')
    expect(w.status).toBe(status)
  })

  it('comes where no connection can be made at all', async () => {
    const server = new FakeServer()
    const w = new Watcher(server, { WebSocket: class { constructor() { throw new Error('not allowed') } } as unknown as typeof WebSocket })
    await settle()
    expect(w.states.at(-1)).toBe('closed')
  })

  it('comes after nonsense on every connection, however well each begins', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    for (let i = 0; i < 3; i++) {
      await w.connect()
      server.last.raw('{')
      await vi.advanceTimersByTimeAsync(1_000)
    }
    expect(w.states.at(-1)).toBe('closed')
  })

  it('comes after too much that makes no sense', async () => {
    for (const nonsense of ['{', '[]', '{"type":1}', '{"type":"gap"}', '{"type":"x","pos":-1}', new ArrayBuffer(3), frame(9, 0, 0, new Uint8Array(1))]) {
      const server = new FakeServer()
      const w = new Watcher(server)
      for (let i = 0; i < 3; i++) {
        await settle()
        server.last.raw(nonsense)
        await vi.advanceTimersByTimeAsync(10_000)
      }
      expect(w.states.at(-1)).toBe('closed')
    }
  })
})

describe('credit', () => {
  it.each([1, 2, 7, 64])('of %i is never overdrawn and always renewed, however late', async (window) => {
    const server = new FakeServer()
    const w: Watcher = new Watcher(server, {
      window, autoAck: false,
      onEvent: (e) => {
        w.events.push(structuredClone(e))
        const to = w.stream.pos
        setTimeout(() => w.stream.consumed(to), 10)
      },
    })
    await w.connect()
    const text = 'x'.repeat(500)
    server.output(text)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(w.text).toBe(text)
    expect(server.last.worst).toBeLessThanOrEqual(window)
    const acks = server.received.filter((m) => m['type'] === 'ack').length
    expect(acks).toBeLessThanOrEqual(Math.ceil(500 / Math.max(1, window / 4)) + 1)
    w.stream.close()
  })
})

describe('little output', () => {
  it('is acknowledged after a while', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    server.output('abc')
    expect(server.received).toEqual([])
    await vi.advanceTimersByTimeAsync(500)
    expect(server.received).toEqual([{ type: 'ack', pos: 3 }])
    w.stream.close()
  })
})

describe('runs', () => {
  it('are asked for again after a cut, under the same id, until they have ended', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    const run = w.stream.run('echo', { run_id: 'r1', stdin: true })
    await w.connect()
    expect(server.received).toContainEqual({ type: 'run', code: 'echo', run_id: 'r1', stdin: true, ref: 'run r1' })
    server.last.drop()
    await w.connect()
    expect(server.received.filter((m) => m['type'] === 'run').length).toBe(2)
    server.last.give({ type: 'run.queued', run_id: 'r1', ahead: 1 })
    server.last.drop()
    await w.connect()
    expect(server.received.filter((m) => m['type'] === 'run').length).toBe(2) // it has arrived
    server.last.give({ type: 'run.started', run_id: 'r1', number: 1, by: 'ws', code: 'echo', cwd: '/', started_at: 1, ref: 'run r1' })
    server.last.give({ type: 'run.finished', run_id: 'r1', reason: 'exited', exit_code: 0, duration_ms: 1, cwd: '/', ref: 'run r1' })
    expect(await run.finished).toMatchObject({ exit_code: 0 })
    expect(await run.started).toMatchObject({ number: 1 })
    server.last.drop()
    await w.connect()
    expect(server.received.filter((m) => m['type'] === 'run').length).toBe(2)
    w.stream.close()
  })

  it('that are refused say why', async () => {
    const server = new FakeServer()
    server.onRequest = (s, m) => s.give({ type: 'error', ref: m['ref'], code: 'QUEUE_FULL', message: 'full' })
    const w = new Watcher(server)
    await w.connect()
    const run = w.stream.run('x')
    await expect(run.finished).rejects.toMatchObject({ code: 'QUEUE_FULL', status: 409, message: 'full' })
    await expect(w.stream.interrupt()).rejects.toMatchObject({ code: 'QUEUE_FULL' })
    w.stream.close()
  })

  it('lose what was asked about them with the connection', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    const asked = w.stream.interrupt({ run_id: 'x' })
    server.last.drop()
    await expect(asked).rejects.toMatchObject({ code: 'CONNECTION_LOST' })
    await expect(w.stream.interrupt({ run_id: 'x' })).rejects.toMatchObject({ code: 'CONNECTION_LOST' })
    w.stream.close()
  })
})

describe('input', () => {
  it('stays within the window and says when it was taken', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    let got = ''
    server.onRequest = (_, m) => {
      if (m['type'] === 'stdin') got += String(m['text'])
    }
    const text = 'ä'.repeat(120) // 240 bytes through half of a window of 100
    let taken = false
    void w.stream.stdin('r', text).then(() => (taken = true))
    expect(new TextEncoder().encode(got).length).toBe(50)
    for (let acked = 0; acked <= 240; acked += 20) {
      server.last.give({ type: 'stdin.ack', run_id: 'r', bytes: acked })
      expect(new TextEncoder().encode(got).length).toBeLessThanOrEqual(acked + 50)
    }
    await settle()
    expect(got).toBe(text)
    expect(taken).toBe(true)
    w.stream.close()
  })

  it('that may have been lost is reported, and never repeated', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    await w.connect()
    const lost = w.stream.stdin('r', 'once')
    server.last.drop()
    await expect(lost).rejects.toMatchObject({ code: 'CONNECTION_LOST' })
    await w.connect()
    expect(server.received.filter((m) => m['type'] === 'stdin').length).toBe(1)
    const next = w.stream.stdin('r', 'more')
    server.last.give({ type: 'stdin.ack', run_id: 'r', bytes: 8 })
    await next
    w.stream.close()
  })

  it('goes after the run it is for, and its end after it', async () => {
    const server = new FakeServer()
    const w = new Watcher(server)
    const run = w.stream.run('cat', { stdin: true, run_id: 'c' })
    void run.write('early')
    await w.connect()
    const types = () => server.received.filter((m) => m['type'] !== 'ack').map((m) => m['type'])
    expect(types()).toEqual(['run', 'stdin'])
    run.closeStdin().catch(() => {}) // the stream is closed before it is answered
    await settle()
    expect(types()).toEqual(['run', 'stdin', 'stdin.close'])
    w.stream.close()
  })

  it('that a run does not take is refused with a reason', async () => {
    const server = new FakeServer()
    server.onRequest = (s, m) => s.give({ type: 'error', ref: m['ref'], code: 'NO_STDIN', message: 'none' })
    const w = new Watcher(server)
    await w.connect()
    await expect(w.stream.stdin('r', 'x')).rejects.toMatchObject({ code: 'NO_STDIN' })
    w.stream.close()
  })
})

describe('the token', () => {
  it('of any characters goes over REST too', async () => {
    const server = new FakeServer()
    server.refuse = true
    let header = ''
    const w = new Watcher(server, {
      token: 'schlüssel 鍵',
      fetch: (async (_: unknown, init: RequestInit) => {
        header = new Headers(init.headers).get('Authorization') ?? ''
        return new Response('{}')
      }) as typeof fetch,
    })
    await vi.advanceTimersByTimeAsync(100)
    expect(new TextDecoder().decode(Uint8Array.from(header, (c) => c.charCodeAt(0)))).toBe('Bearer schlüssel 鍵')
    w.stream.close()
  })

  it('is sent as a subprotocol and in no address', async () => {
    const server = new FakeServer()
    const w = new Watcher(server, { token: 'gehe¡m+/' })
    await settle()
    expect(server.last.protocols).toEqual(['tandem.v1', bearer('gehe¡m+/')])
    expect(bearer('gehe¡m+/')).toMatch(/^bearer\.[A-Za-z0-9_-]+$/)
    expect(server.last.url).toBe('ws://host/deep/session/s/ws?window=64&after=0')
    w.stream.close()
  })
})
