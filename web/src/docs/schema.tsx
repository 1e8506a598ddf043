// A JSON Schema, as a person reads one: what type it has, and a row for each field.

import type { ComponentChildren, JSX } from 'preact'
import { nameOf } from './documents'
import type { Media, Schema } from './documents'
import { Line } from './text'

/** Where a schema of a document is on the page. */
export const schemaID = (doc: string, name: string): string => `${doc}-schema-${name}`

/** The type of a value, in a few words; another schema's is a link to it. */
export function Type({ schema, doc }: { schema: Schema; doc: string }): JSX.Element {
  const type = (s: Schema) => <Type schema={s} doc={doc} />
  if (schema.$ref) return <a href={`#${schemaID(doc, nameOf(schema.$ref))}`}>{nameOf(schema.$ref)}</a>
  if (schema.const !== undefined) return <code>{JSON.stringify(schema.const)}</code>
  if (schema.enum) return joined(' or ', schema.enum.map((v) => <code>{JSON.stringify(v)}</code>))
  if (schema.contentSchema) return <>{schema.contentMediaType === 'text/event-stream' ? 'events' : 'lines'} of {type(schema.contentSchema)}</>
  if (schema.oneOf && !schema.properties) return joined(' or ', schema.oneOf.map(type))
  if (schema.allOf) return <AllOf schemas={schema.allOf} doc={doc} />
  if (schema.prefixItems) return <>array of {joined(', ', schema.prefixItems.map(type))}</>
  if (typeof schema.items === 'object') return <>array of {type(schema.items)}</>
  if (typeof schema.additionalProperties === 'object') return <>object of {type(schema.additionalProperties)}</>
  const words = [[schema.type ?? 'any'].flat().join(' or '), schema.contentEncoding, bounds(schema)]
  return <>{words.filter((w) => w).join(', ')}</>
}

/** A schema narrowed by others: which values of which fields it has. */
function AllOf({ schemas, doc }: { schemas: Schema[]; doc: string }): JSX.Element {
  return joined(', ', schemas.map((s) =>
    s.$ref ? <Type schema={s} doc={doc} /> : joined(', ', Object.entries(s.properties ?? {}).map(([name, p]) => <>{name} {p && <Type schema={p} doc={doc} />}</>))))
}

function joined(by: string, parts: ComponentChildren[]): JSX.Element {
  return <>{parts.map((p, i) => <>{i > 0 && by}{p}</>)}</>
}

function bounds({ minimum, minLength, maxLength, pattern }: Schema): string {
  const said = []
  if (minimum !== undefined && minimum > 0) said.push(`at least ${minimum}`)
  if (minLength !== undefined) said.push('not empty')
  if (maxLength !== undefined) said.push(`at most ${maxLength} characters`)
  if (pattern !== undefined) said.push(`like ${pattern}`)
  return said.join(', ')
}

/** A row of a table: a name, a type, what it means. */
export function Row({ name, required, schema, doc, children }: { name: string; required: boolean; schema: Schema; doc: string; children?: string | undefined }): JSX.Element {
  return (
    <tr>
      <th scope="row"><code>{name}</code>{!required && <span class="optional" title="may be absent">?</span>}</th>
      <td class="type"><Type schema={schema} doc={doc} /></td>
      <td><Line>{children ?? ''}</Line></td>
    </tr>
  )
}

/** All of a schema. */
export function Fields({ schema, doc }: { schema: Schema; doc: string }): JSX.Element {
  if (!schema.properties) return <p class="type"><Type schema={schema} doc={doc} /></p>
  return <table><tbody><Rows schema={schema} doc={doc} before="" /></tbody></table>
}

function Rows({ schema, doc, before }: { schema: Schema; doc: string; before: string }): JSX.Element {
  const rows = []
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    if (!field) continue
    rows.push(<Row name={before + name} required={schema.required?.includes(name) ?? false} schema={field} doc={doc}>{field.description}</Row>)
    if (field.properties) rows.push(<Rows schema={field} doc={doc} before={`${before}${name}.`} />)
  }
  return <>{rows}</>
}

/** An example, as it goes over the wire or a little wider. */
export function Example({ value }: { value: unknown }): JSX.Element {
  return <pre>{typeof value === 'string' ? value.trimEnd() : JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ')}</pre>
}

/** The kinds that a body can be of. */
export function Content({ content, doc }: { content: Record<string, Media> | undefined; doc: string }): JSX.Element {
  return (
    <>
      {Object.entries(content ?? {}).map(([kind, media]) => (
        <div class="content">
          <p class="type"><code>{kind}</code> {media.schema && <Type schema={media.schema} doc={doc} />}</p>
          {media.schema?.contentSchema && <p><Line>{media.schema.description ?? ''}</Line></p>}
          {media.example !== undefined && <Example value={media.example} />}
        </div>
      ))}
    </>
  )
}
