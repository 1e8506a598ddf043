// Plays a scenario against a server, in a session of its own, and then must end by itself.
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'tandem-client'

const { BASE, TOKEN, SOCKET } = process.env
const options = { base: BASE, token: TOKEN }
if (SOCKET === 'option') options.WebSocket = (await import('ws')).WebSocket
const client = new Client(options)
const home = mkdtempSync(join(process.cwd(), 'home-'))
const id = await client.create({ cwd: home, env: { HOME: home } })
const session = client.attach(id)
const { default: scenario } = await import(`./scenarios/${process.argv[2]}.mjs`)
await scenario({ client, session })
session.close()
await client.delete(id)
console.log('done')
