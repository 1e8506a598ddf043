// What the two documents are made of, as far as it is shown. They are part of the page, so
// that it needs nothing else.

import openapi from '../../../httpapi/openapi.json'
import asyncapi from '../../../ws/asyncapi.json'

export interface Ref {
  $ref: string
}

/** A JSON Schema. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  description?: string
  const?: unknown
  enum?: unknown[]
  properties?: Record<string, Schema | false>
  required?: string[]
  additionalProperties?: Schema | boolean
  items?: Schema | boolean
  prefixItems?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  minimum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  contentEncoding?: string
  contentMediaType?: string
  contentSchema?: Schema
}

export interface Media {
  schema?: Schema
  example?: unknown
}

export interface Parameter {
  name: string
  in: string
  required?: boolean
  description?: string
  schema?: Schema
}

export interface Answer {
  description: string
  content?: Record<string, Media>
}

export interface Operation {
  operationId: string
  tags: string[]
  summary: string
  description?: string
  security?: Record<string, unknown>[]
  parameters?: (Parameter | Ref)[]
  requestBody?: { required?: boolean; content: Record<string, Media> }
  responses: Record<string, Answer | Ref>
}

export interface Info {
  title: string
  version: string
  description: string
}

export interface SecurityScheme {
  description?: string
}

export interface OpenAPI {
  openapi: string
  info: Info
  tags: { name: string; description: string }[]
  paths: Record<string, Record<string, Operation> & { parameters?: (Parameter | Ref)[] }>
  components: { schemas: Record<string, Schema>; securitySchemes: Record<string, SecurityScheme> }
}

export interface Message {
  title: string
  summary: string
  description?: string
  contentType: string
  payload: Schema
  examples?: { summary?: string; payload: unknown }[]
}

export interface Channel {
  address: string
  title: string
  description: string
  parameters?: Record<string, { description?: string }>
  bindings: { ws: { query: Schema; headers: Schema } }
}

export interface SocketOperation {
  action: 'send' | 'receive'
  channel: Ref
  title: string
  summary: string
  description?: string
  messages: Ref[]
  reply?: { messages: Ref[] }
}

export interface AsyncAPI {
  asyncapi: string
  info: Info
  channels: Record<string, Channel>
  operations: Record<string, SocketOperation>
  components: { messages: Record<string, Message>; schemas: Record<string, Schema>; securitySchemes: Record<string, SecurityScheme> }
}

export const rest = openapi as unknown as OpenAPI
export const sockets = asyncapi as unknown as AsyncAPI

/** What a reference leads to, through others; or the value itself, which is none. */
export function follow<T>(doc: object, value: T | Ref): T {
  const { $ref } = value as Partial<Ref>
  if ($ref === undefined) return value as T
  let at: unknown = doc
  for (const step of $ref.replace(/^#\//, '').split('/')) {
    at = (at as Record<string, unknown> | undefined)?.[step.replaceAll('~1', '/').replaceAll('~0', '~')]
  }
  if (at === undefined) throw new Error(`nothing is at ${$ref}`)
  return follow(doc, at as T | Ref)
}

/** The last step of a reference: what people call what it leads to. */
export const nameOf = (ref: string): string => ref.slice(ref.lastIndexOf('/') + 1)

/** The parameters of a path and of one of its operations. */
export function parametersOf(doc: OpenAPI, path: string, operation: Operation): Parameter[] {
  return [...(doc.paths[path]?.parameters ?? []), ...(operation.parameters ?? [])].map((p) => follow(doc, p))
}

/** Every operation, in the order of the document. */
export function operationsOf(doc: OpenAPI): { path: string; method: string; operation: Operation }[] {
  return Object.entries(doc.paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, operation]) => (method === 'parameters' ? [] : [{ path, method, operation: operation as Operation }])),
  )
}
