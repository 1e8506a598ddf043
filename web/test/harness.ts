// The real program, a real browser, and a network between them that can be cut.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'

const program = new URL('../../bin/tandem', import.meta.url).pathname
const pictures = new URL('../test-results/', import.meta.url).pathname

/** How long anything may take to show; the machines this runs on can be slow. */
export const patience = 20_000

export class Server {
  readonly log: string[] = []
  private constructor(readonly process: ChildProcess, readonly url: string, readonly link: string, private readonly dir: string) {}

  /** On a terminal it prints a link with the token in it. */
  static async start(args: string[] = [], tokens = '', onTerminal = false): Promise<Server> {
    const dir = mkdtempSync(join(tmpdir(), 'tandem-page-'))
    if (tokens) {
      writeFileSync(join(dir, 'tokens'), tokens, { mode: 0o600 })
      args = [...args, '--token-file', join(dir, 'tokens')]
    }
    const command = [program, 'serve', ...(args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0']), ...args]
    const [file = '', ...rest] = onTerminal ? ['script', '-qfec', `exec ${command.map((a) => `'${a}'`).join(' ')}`, '/dev/null'] : command
    const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'], cwd: dir })
    const errors: string[] = []
    child.stderr.setEncoding('utf8').on('data', (s: string) => errors.push(s))
    let said = ''
    const link = await new Promise<string>((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (s: string) => {
        const m = /^open (\S+)\r?$/m.exec((said += s))
        if (m) resolve(m[1] as string)
      })
      child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${errors.join('')}`)))
    })
    const server = new Server(child, new URL('/', link).href, link, dir)
    child.stderr.on('data', (s: string) => server.log.push(s))
    return server
  }

  /** Ends it as a crash would. */
  kill(): Promise<void> {
    return this.end('SIGKILL')
  }

  async stop(): Promise<void> {
    await this.end('SIGTERM')
    rmSync(this.dir, { recursive: true, force: true })
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const gone = new Promise((resolve) => this.process.once('exit', resolve))
    this.process.kill(signal)
    await gone
  }
}

/** REST, for what others do in a session. */
export class Api {
  constructor(private readonly base: string, private readonly token = '') {}

  async call(method: string, path: string, body?: unknown): Promise<any> {
    const headers: Record<string, string> = { Accept: 'application/json', 'Content-Type': 'application/json' }
    if (this.token) headers['Authorization'] = `Bearer ${this.token}`
    const res = await fetch(new URL(path, this.base), { method, headers, body: body === undefined ? null : JSON.stringify(body) })
    const text = await res.text()
    if (!res.ok) throw new Error(`${method} ${path}: ${res.status} ${text}`)
    return text ? JSON.parse(text) : undefined
  }

  async create(options: { name?: string; cwd?: string } = {}): Promise<string> {
    return (await this.call('POST', 'session', options)).session_id
  }

  run(id: string, code: string, more: Record<string, unknown> = {}): Promise<any> {
    return this.call('POST', `session/${id}/run`, { code, ...more })
  }
}

/** A way to the server that can be cut, frozen and looked into, below a path if one is given. */
export class Network {
  readonly requests: string[] = []
  private readonly pairs = new Set<[net.Socket, net.Socket]>()
  private down = false
  private frozen = false
  private constructor(private readonly server: net.Server, readonly url: string) {}

  static async to(target: string): Promise<Network> {
    const { port } = new URL(target)
    const server = net.createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const network = new Network(server, `http://127.0.0.1:${(server.address() as net.AddressInfo).port}/`)
    server.on('connection', (near) => {
      if (network.down) {
        near.destroy()
        return
      }
      const far = net.connect(Number(port), '127.0.0.1')
      const pair: [net.Socket, net.Socket] = [near, far]
      network.pairs.add(pair)
      near.on('data', (d) => {
        const line = /^[A-Z]+ (\S+) HTTP\/1\.1\r\n/.exec(d.toString('latin1'))
        if (line) network.requests.push(d.toString('latin1'))
        if (!network.frozen) far.write(d)
      })
      far.on('data', (d) => {
        if (network.frozen) return
        if (!near.write(d)) {
          far.pause()
          near.once('drain', () => far.resume())
        }
      })
      for (const [s, other] of [[near, far], [far, near]] as const) {
        s.on('error', () => {})
        s.on('close', () => {
          other.destroy()
          network.pairs.delete(pair)
        })
      }
    })
    return network
  }

  /** Breaks every connection, at the browser's end or the server's. */
  cut(end: 'browser' | 'server'): void {
    for (const [near, far] of this.pairs) (end === 'browser' ? near : far).resetAndDestroy()
  }

  /** Nothing gets through and nothing can connect until up. */
  unplug(): void {
    this.down = true
    this.cut('browser')
  }

  up(): void {
    this.down = this.frozen = false
  }

  /** What is sent vanishes, and nobody is told. */
  freeze(): void {
    this.frozen = true
  }

  async close(): Promise<void> {
    this.cut('browser')
    await new Promise((resolve) => this.server.close(resolve))
  }
}

/** A reverse proxy that has the server below a path. */
export async function below(path: string, target: string): Promise<{ url: string; close: () => Promise<void> }> {
  const { port } = new URL(target)
  const strip = (url = '') => (url.startsWith(path) ? '/' + url.slice(path.length) : undefined)
  const options = (req: http.IncomingMessage) => ({ host: '127.0.0.1', port, method: req.method, path: strip(req.url), headers: req.headers })
  const server = http.createServer((req, res) => {
    if (strip(req.url) === undefined) {
      res.writeHead(404).end()
      return
    }
    const on = http.request(options(req), (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(res)
    })
    on.on('error', () => res.destroy())
    req.pipe(on)
  })
  const sockets = new Set<net.Socket>()
  server.on('upgrade', (req, socket: net.Socket) => {
    const on = http.request(options(req)).end()
    on.on('upgrade', (answer, far, first) => {
      const head = Object.entries(answer.headers).map(([k, v]) => `${k}: ${String(v)}\r\n`).join('')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${head}\r\n`)
      socket.write(first) // what the server said in the same packet as its answer
      far.pipe(socket).pipe(far)
      for (const s of [socket, far]) {
        sockets.add(s)
        s.on('error', () => {})
      }
    })
    on.on('error', () => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}${path}`,
    close: async () => {
      for (const s of sockets) s.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

let browser: Browser
const contexts: BrowserContext[] = []
const wrongs: string[] = []

/** Starts a browser for the tests of a file, and fails those in which the page did wrong. */
export function useBrowser(): void {
  beforeAll(async () => {
    mkdirSync(pictures, { recursive: true })
    browser = await chromium.launch({
      executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    })
  })
  afterEach(async () => {
    await Promise.all(contexts.splice(0).map((c) => c.close()))
    expect(wrongs.splice(0)).toEqual([])
  })
  afterAll(() => browser.close())
}

// What a browser says of its own accord when a connection is refused or a token is wrong.
const expected = /Failed to load resource|WebSocket connection to|ERR_|GPU|WebGL|GL Driver/

/** A tab of its own, as another person would have. */
export async function tab(options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  contexts.push(context)
  return another(context)
}

/** One more tab of the same person. */
export async function another(context: BrowserContext): Promise<Page> {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  const page = await context.newPage()
  page.on('pageerror', (e) => wrongs.push(`error in the page: ${e.stack ?? e.message}`))
  page.on('console', (m) => {
    if (m.type() === 'error' && !expected.test(m.text())) wrongs.push(`console: ${m.text()}`)
  })
  page.on('request', (r) => {
    const { protocol, hostname } = new URL(r.url())
    if (hostname !== '127.0.0.1' && protocol !== 'data:' && protocol !== 'blob:') wrongs.push(`request to another host: ${r.url()}`)
  })
  page.on('dialog', (d) => {
    wrongs.push(`dialog: ${d.message()}`)
    void d.dismiss()
  })
  return page
}

/** Opens a session and waits until it is live. */
export async function open(page: Page, base: string, id: string, more = ''): Promise<void> {
  await page.goto(`${base}?session=${id}${more}`)
  await live(page)
}

export async function live(page: Page): Promise<void> {
  await page.locator('[data-testid=connection][data-state=open]').waitFor({ timeout: patience })
}

interface Shown {
  tandem: { terminal: { rows: number; buffer: { active: { length: number; viewportY: number; getLine(i: number): { isWrapped: boolean; translateToString(trim: boolean): string } | undefined } } } }
}

/** All lines the terminal holds, wrapped ones joined. */
export function lines(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const { active } = (window as unknown as Shown).tandem.terminal.buffer
    const all: string[] = []
    for (let i = 0; i < active.length; i++) {
      const line = active.getLine(i)
      const text = line?.translateToString(true) ?? ''
      if (line?.isWrapped && all.length > 0) all[all.length - 1] += text
      else all.push(text)
    }
    while (all.length > 0 && all.at(-1) === '') all.pop()
    return all
  })
}

/** The lines that can be seen. */
export function visible(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const { rows, buffer } = (window as unknown as Shown).tandem.terminal
    return Array.from({ length: rows }, (_, i) => buffer.active.getLine(buffer.active.viewportY + i)?.translateToString(true) ?? '')
  })
}

/** Waits until a line that can be seen matches; the heading of a run has its code in it. */
export async function sees(page: Page, what: string | RegExp, timeout = patience): Promise<void> {
  const matches = (line: string) => (typeof what === 'string' ? line.includes(what) : what.test(line))
  await until(async () => (await visible(page)).some(matches), timeout, async () => `${String(what)} is not on the screen:\n${(await visible(page)).join('\n')}`)
}

/** Waits until something holds. */
export async function until(holds: () => Promise<boolean>, timeout = patience, why: () => Promise<string> = async () => 'waited in vain'): Promise<void> {
  const end = Date.now() + timeout
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(await why())
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** Types into the prompt and presses Enter. */
export async function enter(page: Page, text: string): Promise<void> {
  const prompt = page.locator('[data-testid=prompt]')
  await prompt.focus()
  await page.keyboard.insertText(text)
  await page.keyboard.press('Enter')
}

export function promptText(page: Page): Promise<string> {
  return page.evaluate(() => [...document.querySelectorAll('[data-testid=prompt] .cm-line')].map((l) => l.textContent).join('\n'))
}

export async function picture(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`) })
}
