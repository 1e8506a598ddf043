// The packed package in plain Node against the real program.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Network, Server } from '../../test/harness'
import { Project, scenarios } from './packed'

const token = 'goes~m+/=&'

let project: Project
let server: Server
beforeAll(async () => {
  project = await Project.make('ws', '@types/ws', '@types/node', 'undici-types')
  server = await Server.start([], token)
})
afterAll(async () => {
  project?.remove()
  await server?.stop()
})

// Node 20 has one that must be asked for; later ones have it anyway.
const withWebSocket = typeof WebSocket === 'undefined' ? ['--experimental-websocket'] : []
const without = ['--import', 'data:text/javascript,delete globalThis.WebSocket']

describe.each([
  ['the package ws', without, '', scenarios],
  ['the WebSocket of Node', withWebSocket, '', scenarios],
  ['a class that is given', without, 'option', ['run']],
])('with %s', (_, flags, SOCKET, some) => {
  it.each(some)('it does what is wanted of it: %s', async (scenario) => {
    const network = await Network.to(server.url)
    const cut = (line: string) => network.cut(line === 'cut browser' ? 'browser' : 'server')
    const printed = await project.node([...flags, 'drive.mjs', scenario], { BASE: network.url.replace(/\/$/, ''), TOKEN: token, SOCKET }, cut)
    expect(printed).toBe('done\n')
    await network.close()
  })
})

describe('a process', () => {
  it('without a WebSocket is told what to do', async () => {
    const bare = await Project.make()
    const printed = await bare.node([...without, 'lonely.mjs'], { BASE: server.url, TOKEN: token })
    expect(printed).toMatch(/^ConnectionError NO_WEBSOCKET there is no WebSocket here: use Node 22 or newer, install the package "ws".*\nNO_WEBSOCKET\n$/)
    bare.remove()
  })

  it('that cannot reach the server ends when it gives up', async () => {
    const network = await Network.to(server.url)
    await network.close()
    expect(await project.node(['away.mjs'], { BASE: network.url })).toBe('ConnectionError NETWORK 0\nAbortError\nAbortError\n{} closed\n')
  })

  it('whose connection is dead without a word ends all the same', async () => {
    const network = await Network.to(server.url)
    const told = (line: string) => line === 'freeze' && network.freeze()
    expect(await project.node([...without, 'frozen.mjs'], { BASE: network.url, TOKEN: token }, told)).toBe('closed\n')
    await network.close()
  })
})

describe('the package', () => {
  it('has what it needs and nothing else', () => {
    const { contents } = project
    expect(contents.filter((f) => !f.startsWith('dist/'))).toEqual(['README.md', 'package.json'])
    const modules = contents.filter((f) => f.endsWith('.js')).map((f) => f.replace(/\.js$/, ''))
    expect(contents.filter((f) => f.endsWith('.d.ts')).map((f) => f.replace(/\.d\.ts$/, ''))).toEqual(modules)
    expect(contents.length).toBe(2 * modules.length + 2)
    expect(contents.some((f) => /fake|test/.test(f))).toBe(false)
  })

  it.each(['tsconfig.node.json', 'tsconfig.page.json'])('is typed for its users: %s', async (config) => {
    expect(await project.typecheck(config)).toBe('')
  })
})
