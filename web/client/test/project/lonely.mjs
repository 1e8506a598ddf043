// Where there is no WebSocket at all.
import { Client } from 'tandem-client'

const client = new Client({ base: process.env.BASE, token: process.env.TOKEN })
const session = client.attach(await client.create())
await session.attached.catch((e) => console.log(e.name, e.code, e.message))
await session.run('echo').result().catch((e) => console.log(e.code))
await client.delete(session.id)
