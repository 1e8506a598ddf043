// What has to be known of bash's language to edit it: whether a command is finished.

/**
 * Whether bash would ask for more lines: an open quote, a backslash or an operator at the
 * end, a here-document without its end, a compound command without its own.
 */
export function incomplete(code: string): boolean {
  const scan = new Scan(code)
  return scan.run()
}

const openers: Record<string, string> = { if: 'fi', case: 'esac', for: 'done', while: 'done', until: 'done', select: 'done', '{': '}' }
const closers = new Set(['fi', 'esac', 'done', '}'])

class Scan {
  private at = 0
  private readonly open: string[] = []
  private readonly heredocs: { end: string; tabs: boolean }[] = []
  private commandPosition = true
  private wants = false // an operator that wants something after it came last

  constructor(private readonly code: string) {}

  run(): boolean {
    while (this.at < this.code.length) {
      if (!this.step()) return true
    }
    return this.open.length > 0 || this.heredocs.length > 0 || this.wants
  }

  /** Takes one token; false where it is not finished. */
  private step(): boolean {
    const c = this.code[this.at]
    switch (c) {
      case ' ':
      case '\t':
        this.at++
        return true
      case '\n':
        this.at++
        this.commandPosition = true
        return this.skipHeredocs()
      case '#': {
        const end = this.code.indexOf('\n', this.at)
        this.at = end < 0 ? this.code.length : end
        return true
      }
      case '(':
        this.at++
        this.push(')')
        return true
      case ')':
        this.at++
        if (this.open.at(-1) === ')') this.open.pop()
        this.wants = false
        this.commandPosition = true // also after a pattern of case
        return true
      case ';':
      case '&':
      case '|':
        return this.operator()
      case '<':
        if (this.code.startsWith('<<', this.at) && this.code[this.at + 2] !== '<') return this.heredoc()
        this.at += this.code.startsWith('<<<', this.at) ? 3 : 1
        return true
    }
    return this.word()
  }

  private push(closer: string): void {
    this.open.push(closer)
    this.wants = false
    this.commandPosition = true
  }

  private operator(): boolean {
    const [op = ''] = /^(?:&&|\|\||\|&|;;&|;;|;&|[;&|])/.exec(this.code.slice(this.at, this.at + 3)) ?? []
    this.at += op.length
    this.wants = op === '&&' || op === '||' || op === '|' || op === '|&'
    this.commandPosition = true
    return true
  }

  private word(): boolean {
    const start = this.at
    while (this.at < this.code.length && !/[\s;&|()<>]/.test(this.code[this.at] ?? '')) {
      if (!this.piece()) return false
    }
    if (this.at === start) this.at++ // ">"
    const word = this.code.slice(start, this.at)
    this.wants = false
    if (!this.commandPosition) return true
    this.commandPosition = /^(?:then|do|else|elif|if|while|until|!|\{|time)$/.test(word) || /^\w+\+?=/.test(word)
    const closer = openers[word]
    if (closer) this.open.push(closer)
    else if (closers.has(word) && this.open.at(-1) === word) this.open.pop()
    return true
  }

  /** Takes one piece of a word: a quoted string, an expansion, a character. */
  private piece(): boolean {
    const c = this.code[this.at]
    if (c === '\\') {
      this.at += 2
      return this.at <= this.code.length
    }
    if (c === "'") return this.until("'", this.code[this.at - 1] === '$')
    if (c === '"' || c === '`') return this.until(c, true)
    if (c === '$' && this.code[this.at + 1] === '{') return this.until('}', true)
    if (c === '$' && this.code[this.at + 1] === '(') return this.parens()
    this.at++
    return true
  }

  private until(end: string, escapes: boolean): boolean {
    for (this.at++; this.at < this.code.length; this.at++) {
      const c = this.code[this.at]
      if (escapes && c === '\\') this.at++
      else if (c === end) {
        this.at++
        return true
      } else if (c === '$' && this.code[this.at + 1] === '(' && end === '"') {
        if (!this.parens()) return false
        this.at--
      } else if (c === '"' && end === '}') {
        if (!this.until('"', true)) return false
        this.at--
      }
    }
    return false
  }

  private parens(): boolean {
    this.at++
    let depth = 0
    while (this.at < this.code.length) {
      const c = this.code[this.at]
      if (c === '(') depth++
      if (c === ')' && --depth === 0) {
        this.at++
        return true
      }
      if (c === '(' || c === ')') this.at++
      else if (!this.piece()) return false
    }
    return false
  }

  private heredoc(): boolean {
    const m = /^<<(-?)[ \t]*(['"]?)([^\s;&|()<>'"]+)\2/.exec(this.code.slice(this.at))
    if (!m) return false
    this.at += m[0].length
    this.heredocs.push({ end: (m[3] ?? '').replace(/\\/g, ''), tabs: m[1] === '-' })
    this.wants = false
    return true
  }

  private skipHeredocs(): boolean {
    for (let doc = this.heredocs[0]; doc; doc = this.heredocs[0]) {
      const end = this.code.indexOf('\n', this.at)
      const line = end < 0 ? this.code.slice(this.at) : this.code.slice(this.at, end)
      if ((doc.tabs ? line.replace(/^\t+/, '') : line) === doc.end) this.heredocs.shift()
      else if (end < 0) return false
      this.at = end < 0 ? this.code.length : end + 1
    }
    return true
  }
}
