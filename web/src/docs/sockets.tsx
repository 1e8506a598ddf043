// The AsyncAPI document.

import type { JSX } from 'preact'
import { nameOf, sockets } from './documents'
import type { Channel, Message, Ref, SocketOperation } from './documents'
import { Example, Fields, Row, schemaID } from './schema'
import { Line, Text } from './text'

const doc = 'sockets'

export const messageID = (name: string): string => `sockets-message-${name}`

function Address({ channel }: { channel: Channel }): JSX.Element {
  const { query, headers } = channel.bindings.ws
  return (
    <article data-testid="channel">
      <h4><span class="method get">GET</span> <code>{channel.address}</code></h4>
      <p class="summary">{channel.title}</p>
      <Text>{channel.description}</Text>
      <table>
        <tbody>
          {Object.entries(channel.parameters ?? {}).map(([name, p]) => <Row name={name} required schema={{ type: 'string' }} doc={doc}>{`In the path. ${p.description ?? ''}`}</Row>)}
          {[['query', query], ['header', headers]].map(([where, schema]) =>
            Object.entries((schema as typeof query).properties ?? {}).map(([name, p]) => p && <Row name={name} required={false} schema={p} doc={doc}>{`In the ${String(where)}. ${p.description ?? ''}`}</Row>))}
        </tbody>
      </table>
    </article>
  )
}

function Names({ of }: { of: Ref[] }): JSX.Element {
  return <>{of.map((ref, i) => <>{i > 0 && ', '}<a href={`#${messageID(nameOf(ref.$ref))}`}>{sockets.components.messages[nameOf(ref.$ref)]?.title}</a></>)}</>
}

function Exchange({ name, operation }: { name: string; operation: SocketOperation }): JSX.Element {
  const asks = operation.action === 'receive'
  return (
    <article id={`sockets-${name}`} data-testid="exchange">
      <h4><span class={`method ${asks ? 'post' : 'get'}`}>{asks ? 'client sends' : 'server sends'}</span> {operation.title}</h4>
      <p class="summary"><Line>{operation.summary}</Line></p>
      <Text>{operation.description}</Text>
      <p><Names of={operation.messages} />{operation.reply && <> → <Names of={operation.reply.messages} /></>}</p>
    </article>
  )
}

function Telling({ name, message }: { name: string; message: Message }): JSX.Element {
  const schema = message.payload.$ref ? sockets.components.schemas[nameOf(message.payload.$ref)] : undefined
  return (
    <article id={messageID(name)} data-testid="message">
      <h4>{message.title}</h4>
      <p class="summary"><Line>{message.summary}</Line></p>
      <Text>{message.description}</Text>
      {schema && <Fields schema={schema} doc={doc} />}
      {message.examples?.map((e) => <Example value={e.payload} />)}
    </article>
  )
}

export function Sockets(): JSX.Element {
  const { messages, schemas } = sockets.components
  // A message's own schema is shown with it.
  const own = new Set(Object.values(messages).map((m) => m.payload.$ref && nameOf(m.payload.$ref)))
  const places = Object.entries(schemas).map(([name, schema]) => {
    const message = Object.entries(messages).find(([, m]) => m.payload.$ref && nameOf(m.payload.$ref) === name)
    return { name, schema, message: message && messageID(message[0]) }
  })
  return (
    <section>
      <h2 id="sockets">{sockets.info.title}</h2>
      <Text>{sockets.info.description}</Text>
      <h3 id="sockets-channels">Addresses</h3>
      {Object.values(sockets.channels).map((c) => <Address channel={c} />)}
      <h3 id="sockets-operations">Who says what</h3>
      {Object.entries(sockets.operations).map(([name, o]) => <Exchange name={name} operation={o} />)}
      <h3 id="sockets-messages">Messages</h3>
      {Object.entries(messages).map(([name, m]) => <Telling name={name} message={m} />)}
      <h3 id="sockets-schemas">Objects</h3>
      {places.map(({ name, schema, message }) => (
        <article id={schemaID(doc, name)} data-testid="schema">
          <h4>{name}</h4>
          {own.has(name) ? <p>The message <a href={`#${message}`}>{String((schema.properties?.['type'] || {}).const)}</a>.</p> : <><Text>{schema.description}</Text><Fields schema={schema} doc={doc} /></>}
        </article>
      ))}
    </section>
  )
}
