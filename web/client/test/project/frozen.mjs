// The connection is dead, and nobody is told: closing must not wait for the other side.
import { Client } from 'tandem-client'

const client = new Client({ base: process.env.BASE, token: process.env.TOKEN })
const id = await client.create()
const session = client.attach(id)
await session.attached
console.log('!freeze')
await Promise.race([session.run('echo').finished, new Promise((resolve) => setTimeout(resolve, 200))])
session.close()
console.log(session.state)
