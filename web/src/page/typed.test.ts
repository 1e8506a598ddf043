import { expect, it } from 'vitest'
import { Typed } from './typed'

it('keeps what was typed, the oldest only while there is room', () => {
  const typed = new Typed(10)
  typed.add('a', '12345')
  typed.add('b', '12345')
  expect([typed.get('a'), typed.get('b'), typed.get('c')]).toEqual(['12345', '12345', undefined])
  typed.add('c', '1')
  expect([typed.get('a'), typed.get('b'), typed.get('c')]).toEqual([undefined, '12345', '1'])
  typed.add('d', '12345678901')
  expect([typed.get('b'), typed.get('c'), typed.get('d')]).toEqual([undefined, undefined, '12345678901'])
  typed.add('e', '1')
  expect([typed.get('d'), typed.get('e')]).toEqual([undefined, '1'])
})
