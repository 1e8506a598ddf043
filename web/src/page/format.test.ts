import { describe, expect, it } from 'vitest'
import { ago, bytes, duration, ending, firstLine, plain, shortPath } from './format'

describe('words', () => {
  it('shows what would act as what it is', () => {
    expect(plain('a\x1b[31mb\x07\x7f\u202ec\u0085')).toBe('a␛[31mb␇␡\ufffdc\ufffd')
    expect(plain('tab\tnew\nline שלום 👩‍👩‍👧 漢字')).toBe('tab\tnew\nline שלום 👩‍👩‍👧 漢字')
  })
  it('tells times and sizes', () => {
    expect([3, 1234, 61_000, 3_720_000].map(duration)).toEqual(['3 ms', '1.23 s', '1 min 1 s', '1 h 2 min'])
    expect([0, 30_000, 120_000, 7_200_000].map((t) => ago(0, t))).toEqual(['now', '30 s ago', '2 min ago', '2 h ago'])
    expect([5, 2048, 3 << 20].map(bytes)).toEqual(['5 B', '2.0 KiB', '3.0 MiB'])
  })
  it('tells ends', () => {
    expect(ending({ reason: 'exited', exit_code: 0 })).toBe('ok')
    expect(ending({ reason: 'exited', exit_code: 3 })).toBe('exit 3')
    expect(ending({ reason: 'interrupted', exit_code: 8 })).toBe('interrupted, exit 8')
    expect(ending({ reason: 'shell_exited', exit_code: 137, signal: 'SIGKILL' })).toBe('shell lost to SIGKILL, exit 137')
    expect(ending({ reason: 'canceled', exit_code: null })).toBe('canceled')
    expect(ending({ reason: 'lost' })).toBe('connection lost, end unknown')
  })
  it('shortens', () => {
    expect(firstLine('\na\nb\nc\n')).toEqual({ line: 'a', more: 2 })
    expect(shortPath('/a/long/path', 6)).toBe('…/path')
  })
})
