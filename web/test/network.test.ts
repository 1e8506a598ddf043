// Networks that fail, and who is let in.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Api, Network, Server, below, enter, lines, live, open, picture, sees, tab, until, useBrowser } from './harness'

useBrowser()

let server: Server
let api: Api
beforeAll(async () => {
  server = await Server.start()
  api = new Api(server.url)
})
afterAll(() => server.stop())

describe('a connection', () => {
  it('that is cut at either end comes back without a lost or doubled byte', async () => {
    const network = await Network.to(server.url)
    const id = await api.create()
    const page = await tab()
    await open(page, network.url, id)
    await enter(page, 'for i in {1..400}; do echo "item $i"; sleep 0.01; done')
    await sees(page, 'item 20')
    for (const end of ['browser', 'server', 'browser', 'server'] as const) {
      network.cut(end)
      const seen = (await lines(page)).length
      await live(page)
      await until(async () => (await lines(page)).length > seen + 10)
    }
    await sees(page, /✓ ok/)
    const items = (await lines(page)).filter((l) => l.startsWith('item'))
    expect(items).toEqual(Array.from({ length: 400 }, (_, i) => `item ${i + 1}`))
    await network.close()
  })

  it('that is away shows it, and catches up', async () => {
    const network = await Network.to(server.url)
    const id = await api.create()
    const page = await tab()
    await open(page, network.url, id)
    await enter(page, 'echo before')
    await sees(page, /^before/)
    network.unplug()
    await page.locator('[data-testid=connection][data-state=waiting]').waitFor()
    await picture(page, 'offline')
    await api.run(id, 'echo meanwhile')
    network.up()
    await live(page)
    await sees(page, /^meanwhile/)
    expect((await lines(page)).filter((l) => l === 'meanwhile').length).toBe(1)
    await network.close()
  })

  it('that is dead without a word is noticed by a page that wakes up', async () => {
    const network = await Network.to(server.url)
    const id = await api.create()
    const page = await tab()
    await open(page, network.url, id)
    network.freeze()
    await api.run(id, 'echo while asleep')
    await page.evaluate(() => dispatchEvent(new Event('online')))
    await page.locator('[data-testid=connection]:not([data-state=open])').waitFor()
    network.up()
    await live(page)
    await sees(page, /^while asleep/)
    expect((await lines(page)).filter((l) => l === 'while asleep').length).toBe(1)
    await network.close()
  })

  it('shows a gap as a gap', async () => {
    const small = await Server.start(['--retention', '512KiB'])
    const network = await Network.to(small.url)
    const id = await new Api(small.url).create()
    const page = await tab()
    await open(page, network.url, id)
    await enter(page, 'echo before')
    await sees(page, /✓ ok/)
    network.unplug()
    await page.locator('[data-testid=connection][data-state=waiting]').waitFor()
    await new Api(small.url).run(id, 'seq 1 400000 >/dev/stdout; echo after the flood')
    network.up()
    await live(page)
    await sees(page, /^after the flood/)
    expect((await lines(page)).some((l) => /are no longer kept/.test(l))).toBe(true)
    await network.close()
    await small.stop()
  })

  it('whose session is deleted says so', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await api.call('DELETE', `session/${id}`)
    await page.getByTestId('ended').waitFor()
    await picture(page, 'ended')
    await page.goto(`${server.url}?session=no-such`)
    await page.getByTestId('ended').waitFor()
  })

  it('works below a path', async () => {
    const proxy = await below('/deep/down/', server.url)
    const id = await api.create()
    const page = await tab()
    await open(page, proxy.url, id)
    await enter(page, 'echo through the proxy')
    await sees(page, /^through the proxy/)
    await proxy.close()
  })
})

describe('whoever looks only', () => {
  it('sees everything and can do nothing', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id, '&view')
    await api.run(id, 'echo seen')
    await sees(page, /^seen/)
    await page.getByTestId('view-only').waitFor()
    expect(await page.getByTestId('prompt').count()).toBe(0)
    expect(await page.getByTestId('new-session').count()).toBe(0)
    await picture(page, 'view-only')
  })
})

describe('a token', () => {
  let guarded: Server
  let network: Network
  beforeAll(async () => {
    guarded = await Server.start([], 'control s3cret-control\nview s3cret-view\n')
    network = await Network.to(guarded.url)
  })
  afterAll(async () => {
    await network.close()
    await guarded.stop()
  })

  it('is asked for once, and kept for the tab', async () => {
    const id = await new Api(guarded.url, 's3cret-control').create()
    const page = await tab()
    await page.goto(`${network.url}?session=${id}`)
    await page.getByTestId('token').fill('wrong')
    await page.keyboard.press('Enter')
    await page.getByText('is not one of this server').waitFor()
    await picture(page, 'token')
    await page.getByTestId('token').fill('s3cret-control')
    await page.keyboard.press('Enter')
    await live(page)
    await enter(page, 'echo let in')
    await sees(page, /^let in/)
    await page.reload()
    await live(page)
    expect(await page.getByTestId('token-form').count()).toBe(0)
  })

  it('comes from the link that the server prints, and is in no address that is sent', async () => {
    expect(guarded.link).not.toContain('s3cret') // what a log keeps has no token
    const onTerminal = await Server.start([], 'control s3cret-control\n', true)
    const link = new URL(onTerminal.link)
    await onTerminal.stop()
    const page = await tab()
    await page.goto(network.url + link.hash)
    await page.getByTestId('new-session').waitFor()
    expect(page.url()).not.toContain('s3cret')
    await page.getByTestId('new-session').click()
    await page.getByTestId('create').click()
    await live(page)
    await enter(page, 'env | grep -c s3cret; echo done with env')
    await sees(page, /^done with env/) // not the command itself
    expect(await lines(page)).toContain('0')
    for (const request of network.requests) expect(request.split('\r\n')[0]).not.toContain('s3cret')
    expect(network.requests.some((r) => /bearer\./.test(r))).toBe(true)
    expect(guarded.log.join('')).not.toContain('s3cret')
  })

  it('for viewing makes a page that only looks', async () => {
    const boss = new Api(guarded.url, 's3cret-control')
    const id = await boss.create()
    const page = await tab()
    await page.goto(`${network.url}?session=${id}#token=s3cret-view`)
    await live(page)
    await boss.run(id, 'echo shown to guests')
    await sees(page, /^shown to guests/)
    await page.getByTestId('view-only').waitFor()
    expect(await page.getByTestId('prompt').count()).toBe(0)
    await expect(new Api(guarded.url, 's3cret-view').run(id, 'true')).rejects.toThrow(/403/)
    await expect(new Api(guarded.url, 's3cret-view').create()).rejects.toThrow(/403/)
  })
})
