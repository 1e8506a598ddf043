// The command line: what is refused comes back, what was typed can be had again, and the keys
// find their way to it.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Page } from 'playwright-core'
import { Api, Server, enter, lines, open, promptText, sees, tab, until, useBrowser, visible } from './harness'

useBrowser()

let server: Server
let api: Api
beforeAll(async () => {
  server = await Server.start(['--max-queue', '1', '--max-code', '100KiB'])
  api = new Api(server.url)
})
afterAll(() => server.stop())

async function note(page: Page, text: string | RegExp): Promise<void> {
  await page.getByTestId('note').getByText(text).waitFor()
}

describe('a line that is refused', () => {
  it('by a run without input comes back', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await api.run(id, 'sleep 300', { detach: true, run_id: 'deaf' })
    await sees(page, '❯ sleep 300')
    await enter(page, 'echo precious')
    await note(page, 'This run takes no input')
    await until(async () => (await promptText(page)) === 'echo precious')
    await page.keyboard.press('Alt+Enter')
    await page.getByTestId('status').getByText('1 waiting').waitFor()
    await page.keyboard.press('Control+c')
    await sees(page, /^precious/)
  })

  it('does not come back over what has been typed since', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await api.run(id, 'sleep 300', { detach: true, run_id: 'deaf' })
    await sees(page, '❯ sleep 300')
    await page.getByTestId('prompt').focus()
    await page.keyboard.insertText('refused')
    // Both before the answer can come.
    await page.evaluate(() => {
      const line = document.querySelector('[data-testid=prompt]') as HTMLElement
      line.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 13, bubbles: true, cancelable: true }))
      document.execCommand('insertText', false, 'something else')
    })
    await note(page, 'This run takes no input')
    expect(await promptText(page)).toBe('something else')
  })

  it('because the queue is full comes back, and Up finds it', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await enter(page, 'echo on; sleep 300')
    await sees(page, /^on/)
    await page.keyboard.insertText('echo waits')
    await page.keyboard.press('Alt+Enter')
    await page.getByTestId('status').getByText('1 waiting').waitFor()
    await page.keyboard.insertText('echo one too many')
    await page.keyboard.press('Alt+Enter')
    await note(page, 'which is the limit')
    await until(async () => (await promptText(page)) === 'echo one too many')
    for (let i = 0; i < 'echo one too many'.length; i++) await page.keyboard.press('Backspace')
    await page.keyboard.press('ArrowUp')
    expect(await promptText(page)).toBe('echo one too many')
  })

  it('because it is too large comes back', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    const code = `: ${'x'.repeat(120_000)} end`
    await enter(page, code)
    await note(page, 'at most')
    await until(async () => (await promptText(page)).endsWith(' end'))
  })
})

describe('what was typed', () => {
  it('can be had again whole in the tab that it was typed in', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    const code = `echo ${'x'.repeat(9000)} | wc -c # long`
    await enter(page, code)
    await sees(page, /^9001/)
    await sees(page, /✓ ok/)
    await page.keyboard.press('ArrowUp')
    expect(await promptText(page)).toBe(code)
    await page.keyboard.press('Control+c')
    await page.getByTestId('run-again').click()
    await until(async () => (await lines(page)).filter((l) => l === '9001').length === 2)
  })

  it('is led to by Up from the latest on after Ctrl-C', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    for (const word of ['first', 'second']) await api.run(id, `echo ${word}`)
    await until(async () => (await visible(page)).filter((l) => l.includes('✓ ok')).length === 2)
    for (let i = 0; i < 2; i++) {
      await page.keyboard.press('ArrowUp')
      expect(await promptText(page)).toBe('echo second')
      await page.keyboard.press('ArrowUp')
      expect(await promptText(page)).toBe('echo first')
      await page.keyboard.press('Control+c')
      expect(await promptText(page)).toBe('')
    }
  })
})

/** What has the focus, by its name. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent?.trim() ?? '')
}

describe('the focus', () => {
  it('returns to where it was when a dialog closes', async () => {
    const id = await api.create({ name: 'focus' })
    const page = await tab()
    await open(page, server.url, id)
    await api.run(id, 'echo something to look at')
    await page.getByTestId('run-details').waitFor()
    const here = page.locator(`[data-testid=session][data-id="${id}"]`)
    for (const [button, name] of [
      [page.getByTestId('settings'), 'Settings'], [page.getByTestId('new-session'), 'New session'], [here.getByTestId('rename'), 'Rename focus'],
      [here.getByTestId('delete'), 'Delete focus'], [page.getByTestId('run-details'), 'Code and output'],
    ] as const) {
      await button.focus()
      await page.keyboard.press('Enter')
      await page.locator('dialog').waitFor()
      await page.keyboard.press('Escape')
      await page.locator('dialog').waitFor({ state: 'detached' })
      expect(await focused(page)).toBe(name)
    }
    await here.getByTestId('rename').focus()
    await page.keyboard.press('Enter')
    await page.locator('dialog').waitFor()
    await page.keyboard.press('Enter')
    await page.locator('dialog').waitFor({ state: 'detached' })
    expect(await focused(page)).toBe('Rename focus')
  })

  it('goes to the command line from a session that is deleted or made', async () => {
    const [id, other] = [await api.create(), await api.create()]
    const page = await tab()
    await open(page, server.url, id)
    const item = page.locator(`[data-testid=session][data-id="${other}"]`)
    await item.getByTestId('delete').focus()
    await page.keyboard.press('Enter')
    await page.getByTestId('confirm-delete').press('Enter')
    await item.waitFor({ state: 'detached' })
    await until(async () => (await focused(page)) === 'Command line')
    await page.getByTestId('new-session').press('Enter')
    await page.getByTestId('session-name').press('Enter')
    await page.locator('dialog').waitFor({ state: 'detached' })
    await until(async () => (await focused(page)) === 'Command line')
  })

  it('leaves the command line with Escape and Tab, also while completions are listed', async () => {
    const id = await api.create()
    const page = await tab()
    await open(page, server.url, id)
    await page.keyboard.insertText('ls /')
    await page.keyboard.press('Tab')
    await page.getByTestId('completions').waitFor()
    await page.keyboard.press('Escape')
    await page.getByTestId('completions').waitFor({ state: 'detached' })
    await page.keyboard.press('Tab')
    expect(await focused(page)).not.toBe('Command line')
    expect(await promptText(page)).toBe('ls /')
  })
})

describe('the list of sessions', () => {
  it('shows the one that is open, however long it is', async () => {
    const ids = []
    for (let i = 0; i < 30; i++) ids.push(await api.create())
    const page = await tab()
    for (const id of [ids[0], ids[29]] as string[]) {
      await page.goto(`${server.url}?session=${id}`)
      const item = page.locator(`[data-testid=session][data-id="${id}"]`)
      await item.waitFor()
      await until(() => item.evaluate((e) => {
        const { top, bottom } = e.getBoundingClientRect()
        return top >= 0 && bottom <= innerHeight
      }))
    }
  })
})
