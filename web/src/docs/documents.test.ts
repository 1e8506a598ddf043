// Whether the documents are what they say they are, and all of them can be shown.

import specs from '@asyncapi/specs'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { describe, expect, it } from 'vitest'
import { follow, operationsOf, parametersOf, rest, sockets } from './documents'

interface Specs {
  schemas: Record<'3.0.0', { definitions: Record<string, object> }>
}

const copy = <T>(v: T): T => JSON.parse(JSON.stringify(v)) as T

describe('the documents', () => {
  it('are an OpenAPI document', async () => {
    const validator = new Validator()
    const { valid, errors } = await validator.validate({ ...copy(rest) })
    expect(errors).toBeUndefined()
    expect(valid).toBe(true)
    expect(validator.version).toBe('3.1')
    const broken = { ...copy(rest), paths: { '/x': { get: { responses: { 200: {} } } } } }
    expect((await new Validator().validate(broken)).valid).toBe(false)
  })

  it('are an AsyncAPI document', () => {
    const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: true })
    formats.default(ajv)
    const schema = copy((specs as unknown as Specs).schemas['3.0.0'])
    delete schema.definitions['http://json-schema.org/draft-07/schema'] // which the validator has already
    const validate = ajv.compile(schema)
    validate(copy(sockets))
    expect(validate.errors).toBeNull()
    const broken = copy(sockets) as unknown as { operations: Record<string, object> }
    broken.operations['x'] = { action: 'shout' }
    expect(validate(broken)).toBe(false)
  })

  it('give every operation a name of its own', () => {
    const names = operationsOf(rest).map((o) => o.operation.operationId)
    expect(new Set(names).size).toBe(names.length)
    expect(names.length).toBeGreaterThan(20)
    for (const { operation } of operationsOf(rest)) expect(rest.tags.map((t) => t.name)).toContain(operation.tags[0])
  })

  it('name every part of a path as a parameter', () => {
    for (const { path, operation } of operationsOf(rest)) {
      const named = parametersOf(rest, path, operation).filter((p) => p.in === 'path').map((p) => p.name)
      expect(named).toEqual([...path.matchAll(/{(\w+)}/g)].map((m) => m[1]))
    }
  })

  it('have operations only with messages of their channel', () => {
    for (const o of Object.values(sockets.operations)) {
      for (const ref of [...o.messages, ...(o.reply?.messages ?? [])]) {
        expect(ref.$ref.startsWith(`${o.channel.$ref}/messages/`)).toBe(true)
        expect(follow(sockets, ref)).toHaveProperty('payload')
      }
    }
  })
})

describe('follow', () => {
  it('goes through references, and fails where they lead nowhere', () => {
    const doc = { a: { $ref: '#/b~1c' }, 'b/c': { d: 1 } }
    expect(follow(doc, { $ref: '#/a' })).toEqual({ d: 1 })
    expect(follow(doc, { d: 2 })).toEqual({ d: 2 })
    expect(() => follow(doc, { $ref: '#/no' })).toThrow('#/no')
  })
})
