// What a session's journal looks like in a terminal.

import type { IMarker, Terminal } from '@xterm/xterm'
import { asker, duration, ending, firstLine, plain, succeeded } from './format'
import type { End } from './format'

const dim = '\x1b[2m'
const bold = '\x1b[1m'
const off = '\x1b[0m'
const green = '\x1b[32m'
const red = '\x1b[31m'
const yellow = '\x1b[33m'
const cyan = '\x1b[36m'

// What a program may have left switched on and the next one should not find: attributes,
// margins and modes (a soft reset), mouse reports, wrapping.
const afterRun = '\x1b[!p\x1b[?1000;1002;1003;1004;1006;2004;2026l\x1b[?7h\x1b[0m'

// Lines of a run's code that its header shows; longer code is folded.
const headerLines = 4
const headerWidth = 400

const stderrChannel = 2

export interface Started {
  run_id: string
  number: number
  by: string
  code: string
  code_truncated?: boolean | undefined
}

export interface Ended extends End {
  run_id: string
  duration_ms: number
}

/**
 * Writes what happens in a session into a terminal. Calls are taken in order; done, where a
 * call has it, is called when the terminal has dealt with all that was written so far.
 */
export class Screen {
  private readonly decoders = new Map<string, TextDecoder>()
  private readonly markers = new Map<string, IMarker>()
  private current = 0 // number of the run that is on
  private block = '' // id of the run whose block is open
  private speaking = 0 // number of the run whose output was written last
  private atStart = true // whether the cursor is at the start of a line
  private stderr = false // whether what is written comes out as stderr

  private readonly graphemes: string // the terminal's way to tell characters from each other
  private ascii = false // whether it is told that there are only simple ones

  constructor(private readonly term: Terminal) {
    this.graphemes = term.unicode.activeVersion
  }

  /** Begins anew: nothing that was written before counts. */
  clear(): void {
    this.decoders.clear()
    for (const m of this.markers.values()) m.dispose()
    this.markers.clear()
    this.current = this.speaking = 0
    this.block = ''
    this.atStart = true
    this.stderr = false
    this.term.reset()
  }

  /** A run that is on already: what comes from it is not late. */
  resume(number: number): void {
    this.current = this.speaking = number
  }

  output(channel: number, run: number, data: Uint8Array, done: () => void): void {
    const key = `${channel}:${run}`
    let decoder = this.decoders.get(key)
    if (!decoder) this.decoders.set(key, (decoder = new TextDecoder()))
    const text = decoder.decode(data, { stream: true })
    if (text === '') {
      // The rest of a character is still to come.
      this.term.write('', done)
      return
    }
    this.expect(!/[^\x00-\x7f]/.test(text))
    let written = run === this.speaking ? '' : this.turn(run)
    written += this.color(channel === stderrChannel, text)
    this.atStart = /\n(?:\x1b\[[0-9;]*m)*$/.test(text)
    this.term.write(written, done)
  }

  started(run: Started, mine: boolean): void {
    this.line(this.settle() + afterRun)
    this.current = this.speaking = run.number
    this.block = run.run_id
    this.term.write('', () => {
      const marker = this.term.registerMarker(0)
      if (marker) this.markers.set(run.run_id, marker)
    })
    this.line(header(run, mine))
  }

  /** The end of a run's block; of a run that never had one, only a line that names it by its code. */
  finished(run: Ended, code: string, done: () => void): void {
    if (run.run_id !== this.block && neverStarted(run)) {
      this.notice(`${ending(run)} before it started: ${code ? named(code) : `run ${run.run_id}`}`, done)
      return
    }
    const color = succeeded(run) ? green : run.reason === 'exited' || run.reason === 'refused' || run.reason === 'shell_exited' ? red : yellow
    const sign = succeeded(run) ? '✓' : '✗'
    this.line(`${this.settle()}${afterRun}${color}${sign} ${ending(run)}${off}${dim} · ${duration(run.duration_ms)}${off}\n\n`)
    this.current = this.speaking = 0
    this.block = ''
    this.term.write('', done)
  }

  /** A line of the page's own. */
  notice(text: string, done?: () => void): void {
    this.line(`${this.settle()}${yellow}${dim}── ${plain(text)} ──${off}\n`)
    this.term.write('', done)
  }

  /** What was typed here as input of a run: a pipe does not echo. */
  echo(text: string): void {
    this.color(false, '')
    this.expect(false)
    this.term.write(`${off}${cyan}${plain(text)}${off}`)
    this.atStart = text.endsWith('\n')
  }

  /** Goes to where a run starts. False where that is not on the screen's record. */
  reveal(run_id: string): boolean {
    const marker = this.markers.get(run_id)
    if (!marker || marker.isDisposed || marker.line < 0) return false
    this.term.scrollToLine(marker.line)
    return true
  }

  /** Looking for the borders of characters takes longer than all the rest: not in plain ASCII. */
  private expect(ascii: boolean): void {
    if (ascii === this.ascii) return
    this.ascii = ascii
    this.term.write('', () => (this.term.unicode.activeVersion = ascii ? '6' : this.graphemes))
  }

  /** Text for the start of a line, with whatever is needed to get there. */
  private settle(): string {
    const text = (this.stderr ? '\x1b[39m' : '') + (this.atStart ? '' : `${off}${dim}⏎${off}\n`)
    this.stderr = false
    this.atStart = true
    return text
  }

  private line(text: string): void {
    this.expect(false)
    this.atStart = true
    this.term.write(text)
  }

  /** Says whose output follows, where it is not that of the run before it. */
  private turn(run: number): string {
    this.speaking = run
    const settled = this.settle()
    if (run === this.current) return settled + (run === 0 ? '' : `${dim}── run ${run} goes on ──${off}\n`)
    return `${settled}${off}${dim}── ${run === 0 ? 'output of no run' : `late output of run ${run}`} ──${off}\n`
  }

  private color(stderr: boolean, text: string): string {
    const turn = stderr === this.stderr ? '' : stderr ? red : '\x1b[39m'
    this.stderr = stderr
    // A program that resets its own colors on stderr is still on stderr.
    return turn + (stderr ? text.replace(/\x1b\[(?:0|39)?m/g, `$&${red}`) : text)
  }
}

function neverStarted(run: Ended): boolean {
  return (run.exit_code ?? null) === null && run.duration_ms === 0
}

/** Some code in one line. */
function named(code: string): string {
  const { line, more } = firstLine(code)
  return line.slice(0, headerWidth) + (more > 0 || line.length > headerWidth ? ' …' : '')
}

function header(run: Started, mine: boolean): string {
  const lines = run.code.replace(/\s+$/, '').split('\n')
  const folded = lines.length > headerLines
  const shown = (folded ? lines.slice(0, 1) : lines).map((l) => {
    const text = plain(l)
    return text.length > headerWidth ? text.slice(0, headerWidth) + '…' : text
  })
  const more = folded ? ` … ${lines.length - 1} more lines` : run.code_truncated ? ' …' : ''
  const first = `${cyan}❯${off} ${bold}${shown[0] ?? ''}${off}`
  const rest = shown.slice(1).map((l) => `\n${cyan}┆${off} ${bold}${l}${off}`)
  return `${first}${rest.join('')}${dim}${more}  ${asker(run.by, mine)} #${run.number}${off}\n`
}

