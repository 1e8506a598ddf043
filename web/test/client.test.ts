// The packed client in a page of another program's making.

import { readFileSync } from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Project } from '../client/test/packed'
import type * as Package from '../client/src'
import { Network, Server, tab, until, useBrowser } from './harness'

useBrowser()

const token = 'goes~m+/=&'

interface Shown {
  tandem: typeof Package
  client: Package.Client
  session: Package.Session
  read: string
}
declare const window: Shown // of the page's, in what is evaluated there

let server: Server
let project: Project
let site: http.Server // that the page is of: not the server's
let origin: string
beforeAll(async () => {
  project = await Project.make()
  site = http.createServer((req, res) => {
    const name = /^\/tandem-client\/([a-z]+\.js)$/.exec(req.url ?? '')?.[1]
    res.setHeader('Content-Type', name ? 'text/javascript' : 'text/html').end(name ? readFileSync(join(project.dist, name)) : html)
  })
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(site.address() as net.AddressInfo).port}`
  server = await Server.start(['--allow-origin', origin], token)
})
afterAll(async () => {
  site?.closeAllConnections()
  site?.close()
  project?.remove()
  await server?.stop()
})

const html = `<!doctype html><title>page</title><script type="module">
import * as tandem from './tandem-client/index.js'
Object.assign(window, { tandem })
</script>`

/** A page of the site, attached to a session. */
async function attached(network: Network): Promise<Page> {
  const page = await tab()
  await page.goto(origin)
  await page.waitForFunction(() => window.tandem)
  await page.evaluate(async ([base, token]) => {
    window.client = new window.tandem.Client({ base: base as string, token: token as string })
    window.session = window.client.attach(await window.client.create())
    await window.session.attached
  }, [network.url, token])
  return page
}

describe('the client in a browser', () => {
  it('runs, streams, feeds, interrupts and deletes', async () => {
    const network = await Network.to(server.url)
    const page = await attached(network)
    expect(await page.evaluate(() => window.session.run('echo hällo; printf "\\xff" >&2; exit 3').result().then((r) => [r.exit_code, r.stdout, [...r.stderrBytes]]))).toEqual([3, 'hällo\n', [0xff]])

    expect(await page.evaluate(async () => {
      const run = window.session.run('for i in 1 2 3; do echo "number $i"; read -r line; echo "got $line"; done; cat', { stdin: true })
      let text = ''
      for await (const chunk of run) {
        text += chunk.text
        const asked = text.split('number').length - 1
        if (chunk.text.includes('number')) await run.write(`answer ${asked}\n`)
        if (chunk.text.includes('got answer 3')) {
          await run.write(new Uint8Array([0xc3]))
          await run.write(new Uint8Array([0xa4]))
          await run.closeStdin()
        }
      }
      return text
    })).toBe([1, 2, 3].map((i) => `number ${i}\ngot answer ${i}\n`).join('') + 'ä')

    expect(await page.evaluate(async () => {
      const run = window.session.run('echo ready; while :; do :; done')
      for await (const chunk of run) if (chunk.text.includes('ready')) break
      await run.interrupt()
      return (await run.result()).reason
    })).toBe('interrupted')

    expect(await page.evaluate(async () => {
      const held = window.session.run('sleep 60')
      await held.started
      await window.client.delete(window.session.id)
      const { reason } = await window.session.closed
      return [reason !== undefined, await window.client.get(window.session.id).catch((e: Package.TandemError) => [e.name, e.code, e.status])]
    })).toEqual([true, ['RefusedError', 'CONTEXT_NOT_FOUND', 404]])
    await network.close()
  })

  it('goes on at the very byte after each cut, both ways', async () => {
    const network = await Network.to(server.url)
    const page = await attached(network)
    const result = page.evaluate(async () => {
      window.read = ''
      const run = window.session.run('for i in {1..400}; do echo "item $i"; sleep 0.01; done')
      for await (const chunk of run) window.read += chunk.text
      return (await run.result()).stdout
    })
    const length = () => page.evaluate(() => window.read.length)
    for (const end of ['browser', 'server', 'browser'] as const) {
      const seen = await length()
      await until(async () => (await length()) > seen + 100)
      network.cut(end)
    }
    const wanted = Array.from({ length: 400 }, (_, i) => `item ${i + 1}\n`).join('')
    expect(await result).toBe(wanted)
    expect(await page.evaluate(() => window.read)).toBe(wanted)

    const fed = page.evaluate(async () => {
      const run = window.session.run('cat', { stdin: true })
      let echoed = ''
      const reading = (async () => {
        for await (const chunk of run) echoed += chunk.text
      })()
      for (let i = 0; i < 60; i++) {
        window.read = String(i)
        await run.write(`${i} ${'x'.repeat(100_000)}\n`)
      }
      await run.closeStdin()
      await reading
      return echoed.split('\n').map((l) => `${l.split(' ')[0] ?? ''} ${l.length}`)
    })
    for (const [at, end] of [[10, 'browser'], [30, 'server']] as const) {
      await until(() => page.evaluate((at) => Number(window.read) >= at, at))
      network.cut(end)
    }
    expect(await fed).toEqual([...Array.from({ length: 60 }, (_, i) => `${i} ${`${i} `.length + 100_000}`), ' 0'])
    await page.evaluate(() => window.client.delete(window.session.id))
    await network.close()
  })
})
