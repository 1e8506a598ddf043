// What a person is told of runs that wait, and of those that end in unusual ways.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Api, Server, enter, lines, open, patience, sees, tab, until, useBrowser } from './harness'

useBrowser()

let server: Server
let api: Api
beforeAll(async () => {
  server = await Server.start()
  api = new Api(server.url)
})
afterAll(() => server.stop())

describe('a run that is taken out of the queue', () => {
  it('is named, and leaves the one that is on alone', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await enter(page, 'echo begun; cat; echo over')
    await sees(page, /^begun/)
    await api.run(id, 'echo waits', { run_id: 'waits', detach: true })
    await api.call('DELETE', `session/${id}/run/waits`)
    await sees(page, /── canceled before it started: run waits ──/)
    await enter(page, 'still with run 1')
    await page.keyboard.press('Control+d')
    await sees(page, /^over/)
    await sees(page, /✓ ok/)
    const text = (await lines(page)).join('\n')
    expect(text).not.toContain('late output')
    expect(text).not.toContain('✗')
    // The list has learned what it was.
    await until(async () => (await page.locator('[data-run=waits]').textContent())?.includes('echo waits') ?? false)
  })
})

describe('runs that wait', () => {
  it('can be told apart by their code where they were typed', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await enter(page, 'echo on; sleep 300')
    await sees(page, /^on/)
    for (const code of ['echo first', 'echo second']) {
      await page.keyboard.insertText(code)
      await page.keyboard.press('Alt+Enter')
    }
    await page.getByTestId('status').getByText('2 waiting').waitFor()
    expect(await page.locator('.run.queued code').allTextContents()).toEqual(['echo second', 'echo first'])
    await page.locator('.run.queued').last().hover()
    await page.locator('.run.queued').last().getByTestId('run-cancel').click()
    await sees(page, /── canceled before it started: echo first ──/)
  })
})

describe('a run that is on', () => {
  it('stays on when what came before is loaded', async () => {
    const id = await api.create()
    await api.run(id, 'seq 1 60000')
    const page = await tab()
    await open(page, server.url, id)
    await enter(page, 'echo on; cat; echo over')
    await sees(page, /^on/)
    await page.getByTestId('earlier').click()
    await until(() => page.evaluate(() => (window as any).tandem.terminal.buffer.active.length > 60_000))
    await sees(page, /^on/)
    await enter(page, 'input')
    await until(async () => (await lines(page)).filter((l) => l === 'input').length === 2) // typed, and from cat
    await page.keyboard.press('Control+d')
    await sees(page, /^over/)
    await sees(page, /✓ ok/)
    await until(async () => (await page.getByTestId('run').first().textContent())?.includes('ok') ?? false)
  })

  it('has an unknown end, and is not refused, where the server is gone for good', async () => {
    const first = await Server.start()
    const id = await new Api(first.url).create()
    const page = await tab()
    await open(page, first.url, id)
    await enter(page, 'echo on; sleep 300')
    await sees(page, /^on/)
    await page.keyboard.insertText('echo next')
    await page.keyboard.press('Alt+Enter')
    await page.getByTestId('status').getByText('1 waiting').waitFor()
    await first.kill()
    const second = await Server.start(['--listen', new URL(first.url).host])
    await page.getByTestId('ended').waitFor({ timeout: patience })
    await until(async () => (await page.locator('.run b').allTextContents()).join() === 'connection lost, end unknown,connection lost, end unknown')
    await first.stop()
    await second.stop()
  })
})

describe('the list of runs', () => {
  it('tells how long each took, and all of how it ended', async () => {
    const id = await api.create()
    const page = await tab()
    const took: string[] = []
    for (let i = 0; i < 10; i++) took.unshift(`${(await api.run(id, ':')).duration_ms} ms`)
    await open(page, server.url, id)
    await until(async () => (await page.getByTestId('run').count()) === 10)
    await until(async () => (await page.locator('.run-facts span:nth-child(2)').allTextContents()).join() === took.join())
    await api.run(id, 'kill -9 $$')
    await page.getByText('shell lost to SIGKILL, exit 137').waitFor()
    expect(await page.locator('.run-facts').first().evaluate((e) => e.scrollWidth - e.clientWidth)).toBe(0)
  })
})

describe('more lines than a page holds', () => {
  it('are said to be elsewhere', async () => {
    const id = await api.create()
    await api.run(id, 'echo the very first; seq 1 160000')
    const page = await tab()
    await open(page, server.url, id)
    await sees(page, /^160000/)
    expect(await page.getByTestId('full').count()).toBe(0)
    await page.getByTestId('earlier').click()
    await page.getByTestId('full').waitFor({ timeout: patience })
    await page.locator('[data-testid=prompt]:focus').waitFor() // the button has gone with the focus
    expect(await page.getByTestId('full').textContent()).toMatch(/150,000.*tandem logs /)
    expect(await page.getByTestId('earlier').count()).toBe(0)
    await sees(page, /^160000/)
  })
})
