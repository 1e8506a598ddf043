// What a person is told of runs that wait, and of those that end in unusual ways.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Api, Server, enter, lines, open, sees, tab, until, useBrowser } from './harness'

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
