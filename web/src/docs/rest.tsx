// The OpenAPI document.

import type { JSX } from 'preact'
import { follow, operationsOf, parametersOf, rest } from './documents'
import type { Operation } from './documents'
import { Content, Fields, Row, schemaID } from './schema'
import { Line, Text } from './text'

const doc = 'rest'

export const operationID = (operation: Operation): string => `rest-${operation.operationId}`

/** One operation: what it takes and what it answers. */
function Endpoint({ method, path, operation }: { method: string; path: string; operation: Operation }): JSX.Element {
  const parameters = parametersOf(rest, path, operation)
  const open = operation.security?.length === 0
  return (
    <article id={operationID(operation)} data-testid="operation">
      <h4><span class={`method ${method}`}>{method.toUpperCase()}</span> <code>{path}</code></h4>
      <p class="summary">{operation.summary}{open && <span class="open">needs no token</span>}</p>
      <Text>{operation.description}</Text>
      {parameters.length > 0 && (
        <table>
          <tbody>
            {parameters.map((p) => <Row name={`${p.name}`} required={p.required ?? false} schema={p.schema ?? {}} doc={doc}>{`In the ${p.in}. ${p.description ?? ''}`}</Row>)}
          </tbody>
        </table>
      )}
      {operation.requestBody && (
        <section>
          <h5>Takes</h5>
          <Content content={operation.requestBody.content} doc={doc} />
        </section>
      )}
      <h5>Answers</h5>
      {Object.entries(operation.responses).map(([status, ref]) => {
        const answer = follow(rest, ref)
        const heading = <><span class={`status s${status[0]}`}>{status}</span> <Line>{answer.description}</Line></>
        if (!answer.content) return <p class="answer">{heading}</p>
        return (
          <details class="answer" open={status < '300'}>
            <summary>{heading}</summary>
            <Content content={answer.content} doc={doc} />
          </details>
        )
      })}
    </article>
  )
}

export function Rest(): JSX.Element {
  const operations = operationsOf(rest)
  return (
    <section>
      <h2 id="rest">{rest.info.title}</h2>
      <Text>{rest.info.description}</Text>
      <h3 id="rest-security">Tokens</h3>
      <dl>{Object.entries(rest.components.securitySchemes).map(([name, s]) => <><dt>{name}</dt><dd><Line>{s.description ?? ''}</Line></dd></>)}</dl>
      {rest.tags.map((tag) => (
        <section>
          <h3 id={`rest-tag-${tag.name}`}>{tag.name}</h3>
          <Text>{tag.description}</Text>
          {operations.filter((o) => o.operation.tags.includes(tag.name)).map((o) => <Endpoint {...o} />)}
        </section>
      ))}
      <h3 id="rest-schemas">Objects</h3>
      {Object.entries(rest.components.schemas).map(([name, schema]) => (
        <article id={schemaID(doc, name)} data-testid="schema">
          <h4>{name}</h4>
          <Text>{schema.description}</Text>
          <Fields schema={schema} doc={doc} />
        </article>
      ))}
    </section>
  )
}
