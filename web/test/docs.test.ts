// The page that shows the documents which describe the server.

import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Page } from 'playwright-core'
import { Server, below, picture, tab, useBrowser } from './harness'

useBrowser()

let server: Server
beforeAll(async () => {
  server = await Server.start([], 'secret-token\n')
})
afterAll(() => server.stop())

const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
const openapi = read('../../httpapi/openapi.json')
const asyncapi = read('../../ws/asyncapi.json')

/** Whatever the browser says, and whatever it fails to load: nothing is expected here. */
function complaints(page: Page): string[] {
  const all: string[] = []
  page.on('console', (m) => {
    if (m.type() === 'error' || m.type() === 'warning') all.push(m.text())
  })
  page.on('requestfailed', (r) => all.push(`${r.url()}: ${r.failure()?.errorText}`))
  page.on('response', (r) => {
    if (r.status() >= 400) all.push(`${r.url()}: ${r.status()}`)
  })
  return all
}

async function shows(page: Page, url: string): Promise<void> {
  const all = complaints(page)
  await page.addInitScript(() => {
    ;(window as any).violations = []
    document.addEventListener('securitypolicyviolation', (e) => (window as any).violations.push(`${e.violatedDirective} ${e.blockedURI}`))
  })
  await page.goto(`${url}docs`)
  await page.getByTestId('operation').first().waitFor()
  const operations = Object.values(openapi.paths).flatMap((item: any) => Object.keys(item).filter((m) => m !== 'parameters'))
  expect(await page.getByTestId('operation').count()).toBe(operations.length)
  expect(await page.getByTestId('message').count()).toBe(Object.keys(asyncapi.components.messages).length)
  expect(await page.getByTestId('schema').count()).toBe(Object.keys(openapi.components.schemas).length + Object.keys(asyncapi.components.schemas).length)
  expect(await page.getByTestId('exchange').count()).toBe(Object.keys(asyncapi.operations).length)
  expect(await page.evaluate(() => (window as any).violations)).toEqual([])
  expect(all).toEqual([])
}

describe('the documents', () => {
  it('are shown without a token, each link leading to something on the page', async () => {
    const page = await tab()
    await shows(page, server.url)
    const text = await page.locator('main').innerText()
    for (const path of Object.keys(openapi.paths)) expect(text).toContain(path)
    for (const word of ['CommandTimeout', 'shell.restarted', 'Last-Event-ID', 'tandem.v1.json', 'QUEUE_FULL', 'stdin_window']) expect(text).toContain(word)
    expect(text).not.toMatch(/undefined|\[object/)
    const lost = await page.evaluate(() => [...document.querySelectorAll('a')].map((a) => a.getAttribute('href') ?? '').filter((h) => h !== './' && !document.getElementById(h.slice(1))))
    expect(lost).toEqual([])
    const twice = await page.evaluate(() => [...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i))
    expect(twice).toEqual([])
    // It is styled, and what one links to is there when one comes.
    expect(await page.locator('nav').evaluate((e) => getComputedStyle(e).position)).toBe('sticky')
    await picture(page, 'docs')
    await page.goto('about:blank')
    await page.goto(`${server.url}docs#sockets-message-attached`)
    await page.getByTestId('message').first().waitFor()
    expect(await page.locator('#sockets-message-attached').evaluate((e) => Math.abs(e.getBoundingClientRect().top) < innerHeight)).toBe(true)
    await picture(page, 'docs-message')
  })

  it('are shown on a small and dark screen', async () => {
    const page = await tab({ viewport: { width: 390, height: 800 }, colorScheme: 'dark' })
    await shows(page, server.url)
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true)
    await picture(page, 'docs-small')
  })

  it('are shown below a path of a reverse proxy', async () => {
    const proxy = await below('/deep/down/', server.url)
    try {
      const page = await tab()
      await shows(page, proxy.url)
      await page.getByRole('link', { name: 'tandem', exact: true }).click()
      expect(page.url()).toBe(proxy.url)
    } finally {
      await proxy.close()
    }
  })
})
